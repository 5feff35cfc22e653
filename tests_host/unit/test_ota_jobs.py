"""What the cloud says of a job, of whatever form: it is understood, or refused as malformed."""

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.cloud.execution import (
    Execution,
    JobError,
    detail_text,
    holds,
    read_code,
    read_execution,
    read_id,
    read_state,
)
from tools.cloud.job_engine import check_details

STATES = ["QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED"]
STATES += ["TIMED_OUT", "CANCELED", "REMOVED"]
ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
details = st.dictionaries(texts, texts, max_size=5)
good = st.fixed_dictionaries(
    {
        "jobId": st.from_regex(ID, fullmatch=True),
        "status": st.sampled_from(STATES),
        "versionNumber": st.integers(1, 0x3FFFFFFF),
    },
    optional={"statusDetails": st.none() | details, "jobDocument": anything},
)


@given(good)
def test_what_is_well_formed_is_taken_as_it_is(value):
    found = read_execution(value)
    assert (found.id, found.status.decode()) == (value["jobId"], value["status"])
    assert found.version == value["versionNumber"]
    assert found.details == (value.get("statusDetails") or {})
    assert found.document is value.get("jobDocument")
    assert not found.too_long


@given(anything | st.dictionaries(st.sampled_from(["jobId", "status", "x"]), anything))
def test_anything_else_is_malformed(value):
    try:
        found = read_execution(value)
    except JobError as error:
        assert error.code == b"malformed"
        assert not error.gone
    else:
        assert ID.fullmatch(found.id)


@given(good, st.sampled_from(["jobId", "status", "versionNumber", "statusDetails"]), anything)
def test_one_hostile_member(value, name, hostile):
    value[name] = hostile
    try:
        found = read_execution(value)
    except JobError as error:
        assert error.code == b"malformed"
        return
    assert ID.fullmatch(found.id)
    assert found.status.decode() in STATES
    assert type(found.version) is int
    assert 0 < found.version <= 0x3FFFFFFF
    assert all(type(v) is str and type(k) is str for k, v in found.details.items())


@given(texts)
def test_ids_are_those_that_fit_a_topic(text):
    if ID.fullmatch(text):
        assert read_id({"jobId": text}) == text
    else:
        with pytest.raises(JobError):
            read_id({"jobId": text})


def test_every_character_of_an_id():
    for number in range(1, 300):
        text = chr(number)
        if ID.fullmatch(text):
            assert read_id({"jobId": text}) == text
        else:
            with pytest.raises(JobError):
                read_id({"jobId": text})


@given(anything)
def test_codes_can_be_shown(value):
    code = read_code(value)
    assert 0 < len(code) <= 32
    assert all(32 <= c < 127 for c in code)


@given(anything)
def test_states_are_understood_or_none(value):
    state = read_state(value)
    assert state is None or state[0].decode() in STATES


@given(st.binary(max_size=300) | texts.map(str.encode))
def test_what_is_said_of_a_job_is_what_the_cloud_takes(data):
    text = detail_text(data)
    assert 1 <= len(text.encode()) <= 128
    assert not any(unicodedata.category(c).startswith("C") for c in text)
    check_details({"reason": text})
    assert json.loads(json.dumps({"reason": text})) == {"reason": text}


def test_what_is_plain_is_said_as_it_is():
    assert detail_text(b"accepted v1.2.3") == "accepted v1.2.3"
    assert detail_text(b"") == "-"
    assert detail_text(b"a\nb\x7fc\xc3\xa4") == "a?b?c??"
    assert detail_text(b"x" * 129) == "x" * 128


@pytest.mark.parametrize(
    ("code", "state", "gone"),
    [
        (b"TerminalStateReached", None, True),
        (b"InvalidStateTransition", None, True),
        (b"ResourceNotFound", None, True),
        (b"VersionMismatch", None, False),
        (b"VersionMismatch", (b"IN_PROGRESS", 2, {}), False),
        (b"VersionMismatch", (b"QUEUED", 1, {}), False),
        *((b"VersionMismatch", (s.encode(), 3, {}), True) for s in STATES[2:]),
        (b"no answer", None, False),
        (b"RequestThrottled", None, False),
    ],
)
def test_when_an_execution_is_gone(code, state, gone):
    error = JobError(code, state)
    assert error.gone is gone
    assert (error.code, error.args[0]) == (code, code)


@pytest.mark.parametrize(
    "hostile",
    [{"versionNumber": True}, {"statusDetails": {1: "x"}}, {"statusDetails": {"x": b"x"}}],
)
def test_what_only_looks_right(hostile):
    assert read_state({"status": "QUEUED", "versionNumber": 1}) == (b"QUEUED", 1, {})
    assert read_state({"status": "QUEUED", "versionNumber": 1, **hostile}) is None


def test_a_code_with_what_cannot_be_shown():
    assert read_code("a\x7fb\x1fc~") == b"abc~"
    assert read_code("\n") == b"rejected"


def test_details_hold_what_was_sent():
    assert holds({}, {})
    assert holds({"a": "1", "b": "2"}, {"a": "1"})
    assert not holds({"a": "1"}, {"a": "2"})
    assert not holds({}, {"a": "1"})


def test_an_execution_stands_where_the_cloud_says():
    found = Execution("job1")
    found.stand((b"FAILED", 4, {"reason": "x"}))
    assert (found.status, found.version, found.details) == (b"FAILED", 4, {"reason": "x"})
