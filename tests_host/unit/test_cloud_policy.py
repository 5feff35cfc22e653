"""Policy documents: wildcards, variables, Deny, and the three built-in ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.cloud import policy


def _policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _allow(action, *resources):
    return {"Effect": "Allow", "Action": action, "Resource": [*resources]}


def _allows(document, action, resource, client="lab_1", thing="lab_1"):
    return policy.Evaluator([document], client, thing).allows(action, resource)


def test_nothing_is_allowed_without_a_policy():
    assert not policy.Evaluator([], "c", "c").allows("iot:Connect", "client/c")


@pytest.mark.parametrize("arn", ["arn:aws:iot:eu-west-1:123456789012:", "arn:aws:iot:*:*:", ""])
def test_region_and_account_are_not_compared(arn):
    document = _policy(_allow("iot:Publish", f"{arn}topic/a/*"))
    assert _allows(document, "iot:Publish", "topic/a/b/c")
    assert not _allows(document, "iot:Publish", "topic/b")
    assert not _allows(document, "iot:Receive", "topic/a/b")


def test_question_mark_is_one_character_and_mqtt_wildcards_are_plain():
    document = _policy(_allow("iot:Subscribe", "topicfilter/s?n", "topicfilter/x/+"))
    assert _allows(document, "iot:Subscribe", "topicfilter/sun")
    assert not _allows(document, "iot:Subscribe", "topicfilter/soon")
    assert _allows(document, "iot:Subscribe", "topicfilter/x/+")
    assert not _allows(document, "iot:Subscribe", "topicfilter/x/y")


def test_deny_wins_whatever_the_order():
    deny = {"Effect": "Deny", "Action": "iot:Publish", "Resource": "topic/secret"}
    for statements in ((deny, _allow("iot:*", "*")), (_allow("iot:*", "*"), deny)):
        document = _policy(*statements)
        assert not _allows(document, "iot:Publish", "topic/secret")
        assert _allows(document, "iot:Publish", "topic/open")
    both = policy.Evaluator([_policy(deny), _policy(_allow("iot:*", "*"))], "c", "c")
    assert not both.allows("iot:Publish", "topic/secret")


def test_a_variable_without_value_matches_nothing():
    document = _policy(_allow("iot:Connect", "client/" + policy.THING_NAME))
    assert _allows(document, "iot:Connect", "client/lab_1")
    assert not _allows(document, "iot:Connect", "client/lab_1", thing=None)
    unknown = _policy(_allow("iot:Connect", "client/${iot:Connection.Thing.Attributes[x]}"))
    assert not _allows(unknown, "iot:Connect", "client/")


def test_wildcards_in_a_variable_are_not_wildcards():
    document = _policy(_allow("iot:Publish", "topic/" + policy.CLIENT_ID))
    assert _allows(document, "iot:Publish", "topic/*", client="*")
    assert not _allows(document, "iot:Publish", "topic/other", client="*")


@given(st.text(max_size=30), st.text("ab*?$/.", max_size=12))
def test_wildcards_agree_with_a_naive_matcher(text, pattern):
    def naive(pat, txt):
        if not pat:
            return not txt
        if pat[0] == "*":
            return naive(pat[1:], txt) or (bool(txt) and naive(pat, txt[1:]))
        return bool(txt) and pat[0] in ("?", txt[0]) and naive(pat[1:], txt[1:])

    document = _policy(_allow("iot:Publish", "topic/" + pattern))
    assert _allows(document, "iot:Publish", "topic/" + text) == naive(pattern, text)


@pytest.mark.parametrize(
    "broken",
    [
        "nonsense",
        "[]",
        "{}",
        _policy({"Effect": "Maybe", "Action": "iot:*", "Resource": "*"}),
        _policy({"Effect": "Allow", "Action": "iot:*"}),
        _policy({"Effect": "Allow", "Action": 3, "Resource": "*"}),
        _policy({"Effect": "Allow", "Action": "iot:*", "Resource": "*", "NotResource": "x"}),
        _policy({"Effect": "Allow", "Action": "iot:*", "Resource": "*", "Condition": {}}),
        _policy(_allow("iot:Publish", "arn:aws:s3:::bucket/x")),
    ],
)
def test_documents_that_are_not_understood_whole_are_refused(broken):
    with pytest.raises(policy.PolicyError):
        policy.Evaluator([broken], "c", "c")


def test_the_default_policy():
    may = policy.Evaluator([policy.DEFAULT], "lab_1", "lab_1").allows
    assert may("iot:Connect", "client/lab_1")
    assert not may("iot:Connect", "client/lab_2")
    for action in ("iot:Publish", "iot:Receive", "iot:RetainPublish"):
        assert may(action, "topic/data")
        assert may(action, "topic/a/$b")
        assert may(action, "topic/$aws/things/lab_1/jobs/get")
        assert not may(action, "topic/$aws/things/lab_2/jobs/get")
        assert not may(action, "topic/$aws/certificates/create/json")
    assert may("iot:Subscribe", "topicfilter/#")
    assert may("iot:Subscribe", "topicfilter/$aws/things/lab_1/#")
    assert not may("iot:Subscribe", "topicfilter/$aws/things/+/jobs/notify")
    assert not may("iot:Subscribe", "topicfilter/$aws/events/presence/connected/+")


def test_the_default_policy_needs_the_thing():
    may = policy.Evaluator([policy.DEFAULT], "lab_1", None).allows
    assert not may("iot:Connect", "client/lab_1")


def test_the_claim_policy():
    may = policy.Evaluator([policy.CLAIM], "anyone", None).allows
    assert may("iot:Connect", "client/anyone")
    assert may("iot:Publish", "topic/$aws/certificates/create-from-csr/cbor")
    assert may("iot:Subscribe", "topicfilter/$aws/certificates/create/json/accepted")
    assert may("iot:Receive", "topic/$aws/provisioning-templates/T/provision/json/rejected")
    assert not may("iot:Publish", "topic/data")
    assert not may("iot:Subscribe", "topicfilter/#")


def test_the_operator_policy():
    may = policy.Evaluator([policy.OPERATOR], "x", None).allows
    assert may("iot:Connect", "client/anybody")
    assert may("iot:Publish", "topic/$aws/things/any/jobs/notify")
