"""Topic limits, matching and the reserved topics of the local cloud."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.cloud import reserved, topics


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a/", True),
        ("+", "a", True),
        ("+/+", "/a", True),
        ("+", "/a", False),
        ("#", "a/b/c", True),
        ("a/#", "a/b/c", True),
        ("a/#", "a/", True),
        ("a/#", "a", False),  # AWS, unlike the OASIS text
        ("a/+/#", "a/b", False),
        ("#", "$aws/x", False),
        ("+/x", "$aws/x", False),
        ("$aws/#", "$aws/x", True),
        ("$aws/+/x", "$aws/things/x", True),
        ("A", "a", False),
    ],
)
def test_matching(pattern, topic, expected):
    assert topics.matches(pattern, topic) is expected


_level = st.text("ab$", min_size=0, max_size=2)
_names = st.lists(_level, min_size=1, max_size=4).map("/".join).filter(bool)
_filters = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(_level | st.just("+"), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)


@given(_filters, _filters, _names)
def test_filters_that_share_a_name_overlap(one, other, name):
    if topics.matches(one, name) and topics.matches(other, name):
        assert topics.overlap(one, other)
    assert topics.overlap(one, other) == topics.overlap(other, one)


def test_filters_that_share_no_name_do_not_overlap():
    assert not topics.overlap("a/b", "a/c")
    assert not topics.overlap("a/#", "a")
    assert not topics.overlap("a/+", "a/b/c")
    assert not topics.overlap("+/jobs", "$aws/jobs")


@pytest.mark.parametrize(
    ("topic", "rule"),
    [
        ("", "malformed"),
        ("a/+", "malformed"),
        ("a/#", "malformed"),
        ("a" * 257, "topic-length"),
        ("é" * 129, "topic-length"),
        ("1/2/3/4/5/6/7/8/9", "topic-slashes"),
        ("$aws/rules/r/1/2/3/4/5/6/7/8/9", "topic-slashes"),
    ],
)
def test_names_that_are_refused(topic, rule):
    with pytest.raises(topics.TopicError) as caught:
        topics.check_name(topic)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    "topic",
    ["a", "a" * 256, "é" * 128, "1/2/3/4/5/6/7/8", "/", "$aws/rules/r/1/2/3/4/5/6/7/8", "a b"],
)
def test_names_at_the_limits(topic):
    topics.check_name(topic)


@pytest.mark.parametrize("pattern", ["a#", "a/#/b", "+a", "a/b+/c", "##", "", "1/2/3/4/5/6/7/8/+"])
def test_filters_that_are_refused(pattern):
    with pytest.raises(topics.TopicError):
        topics.check_filter(pattern)


@pytest.mark.parametrize("pattern", ["#", "+", "a/#", "+/+/#", "a/+/b", "/+"])
def test_filters_that_are_fine(pattern):
    topics.check_filter(pattern)


def test_reserved_topics_have_a_direction():
    assert reserved.may_publish("plain/topic")
    assert reserved.may_publish("$aws/things/t/jobs/start-next")
    assert reserved.may_publish("$aws/things/t/jobs/$next/get")
    assert reserved.may_publish("$aws/things/t/streams/s/get/cbor")
    assert reserved.may_publish("$aws/rules/r/any/topic")
    assert not reserved.may_publish("$aws/things/t/jobs/notify-next")
    assert not reserved.may_publish("$aws/things/t/shadow/update/accepted")
    assert not reserved.may_publish("$aws/things/t/nothing")
    assert not reserved.may_publish("$other")
    assert reserved.may_subscribe("$aws/things/t/jobs/notify-next")
    assert reserved.may_subscribe("$aws/things/t/jobs/#")
    assert reserved.may_subscribe("$aws/things/+/shadow/update/accepted")
    assert reserved.may_subscribe("$aws/things/t/streams/s/data/cbor")
    assert reserved.may_subscribe("$aws/events/presence/connected/+")
    assert not reserved.may_subscribe("$aws/rules/r/x")
    assert not reserved.may_subscribe("$aws/things/t/nothing/#")
    assert not reserved.may_subscribe("$SYS/#")
