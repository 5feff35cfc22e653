"""Device Defender as the cloud sees it (8.1, Table 6; D32)."""

import time

import pytest

METRICS = {
    "BytesOut",
    "MessagesSent",
    "MessagesReceived",
    "HardResetEvent",
    "ReconnectEvents",
    "FlashMemoryWrites",
}


def reports(stage, count, seconds=10.0):
    """The reports of this module since `mark`, once there are `count`."""
    found = []

    def enough():
        found[:] = stage.cloud.control.defender(stage.thing)[stage.mark :]
        return len(found) >= count

    stage.until(enough, f"{count} reports", seconds)
    return found


def numbers(report):
    """{metric: number} of a report."""
    values = report["report"]["custom_metrics"]
    assert all(len(value) == 1 and set(value[0]) == {"number"} for value in values.values())
    return {name: value[0]["number"] for name, value in values.items()}


@pytest.fixture
def reporting(stage):
    """The stage, connected, a report due every second; its `mark` is where they begin."""
    stage.mark = len(stage.cloud.control.defender(stage.thing))
    stage.connect()
    stage.must(b"AT+CONF Defender=1")
    return stage


@pytest.mark.clause("8.1", "Table 6", "D32")
def test_reports_say_what_happened_since_the_last_one(reporting):
    stage = reporting
    first, second = reports(stage, 2)[:2]
    assert first["status"] == second["status"] == "ACCEPTED"
    assert set(numbers(first)) == METRICS
    assert numbers(first)["HardResetEvent"] == 1
    assert numbers(first)["FlashMemoryWrites"] >= 1  # of CONF Defender
    assert numbers(first)["BytesOut"] > 0
    assert second["report"]["header"]["report_id"] > first["report"]["header"]["report_id"]
    # Nothing happened in between, but for the report itself.
    quiet = numbers(second)
    assert quiet["BytesOut"] > 0
    assert {name for name in METRICS if quiet[name]} == {"BytesOut"}


@pytest.mark.clause("Table 6")
def test_each_metric_counts_its_own(reporting):
    stage = reporting
    reports(stage, 1)
    stage.must(b"AT+CONF Defender=3")
    already = len(reports(stage, 1))
    stage.must(b"AT+CONF Topic1=in")
    stage.must(b"AT+SUBSCRIBE1")
    for _ in range(3):
        stage.must(b"AT+SEND out " + b"x" * 1000)
    for _ in range(2):
        stage.operator.publish(f"{stage.thing}/in", b"hello")
    stage.must(b"AT+CONF TopicRoot=elsewhere")
    found = reports(stage, already + 1)[already:]
    total = {name: sum(numbers(report)[name] for report in found) for name in METRICS}
    assert total["MessagesSent"] == 3
    assert total["MessagesReceived"] == 2
    assert 3000 < total["BytesOut"] < 6000
    assert total["FlashMemoryWrites"] >= 1
    assert total["HardResetEvent"] == total["ReconnectEvents"] == 0


@pytest.mark.clause("8.1", "Table 6")
def test_what_was_not_accepted_is_told_again(reporting):
    stage = reporting
    reports(stage, 1)
    stage.cloud.control.fault("refuse", at="defender", error="Throttled", count=1)
    stage.must(b"AT+SEND out hello")
    already = len(reports(stage, 1))
    found = reports(stage, already + 2)
    at = next(n for n, report in enumerate(found) if report["status"] == "REJECTED")
    # The message is in a report that was accepted before the fault acted, or in both.
    sent = [numbers(report)["MessagesSent"] for report in found]
    accepted = [n for report, n in zip(found, sent, strict=True) if report["status"] == "ACCEPTED"]
    assert sum(accepted) == 1
    assert numbers(found[at + 1])["BytesOut"] > numbers(found[at])["BytesOut"]


@pytest.mark.clause("Table 6", "8.1")
def test_a_reconnect_is_told_once(reporting):
    stage = reporting
    reports(stage, 1)
    stage.must(b"AT+DISCONNECT", b"OK 0 DISCONNECTED")
    stage.must(b"AT+CONNECT", b"OK 1 CONNECTED")
    already = len(reports(stage, 1))
    found = [numbers(report)["ReconnectEvents"] for report in reports(stage, already + 2)]
    assert found.count(1) == 1


@pytest.mark.clause("8.1", "D32")
def test_the_interval_outlives_a_reset_and_the_counts_do_not(reporting):
    stage = reporting
    assert numbers(reports(stage, 1)[0])["HardResetEvent"] == 1
    assert numbers(reports(stage, 2)[1])["HardResetEvent"] == 0
    stage.must(b"AT+CONF Defender=2")
    for _ in range(3):
        stage.must(b"AT+SEND out hello")
    stage.must(b"AT+RESET")
    stage.restarted()
    already = len(reports(stage, 1))
    stage.must(b"AT+CONNECT", b"OK 1 CONNECTED")
    first = numbers(reports(stage, already + 1)[already])
    assert first["HardResetEvent"] == 1
    assert first["MessagesSent"] == 0
    assert first["ReconnectEvents"] == 0


@pytest.mark.clause("8.1")
def test_the_interval_is_kept_and_zero_ends_it(stage):
    stage.mark = len(stage.cloud.control.defender(stage.thing))
    stage.connect()
    assert reports(stage, 0) == []
    stage.must(b"AT+CONF Defender=2")
    found = reports(stage, 2)
    gaps = [b["time"] - a["time"] for a, b in zip(found, found[1:], strict=False)]
    assert all(1500 < gap < 3500 for gap in gaps), gaps
    stage.must(b"AT+CONF Defender=0")
    time.sleep(0.3)
    already = len(reports(stage, 0))
    time.sleep(2.5)
    assert len(reports(stage, 0)) == already


@pytest.mark.clause("8.1", "4.1")
def test_the_host_sees_nothing_of_it(reporting):
    stage = reporting
    stage.cloud.control.fault("refuse", at="defender", error="Throttled", count=1)
    found = reports(stage, 3)
    assert {report["status"] for report in found} == {"ACCEPTED", "REJECTED"}
    stage.silence(0)
    stage.must(b"AT+EVENT?", b"OK")
    stage.must(b"AT+GET", b"OK")
    stage.must(b"AT+GET0", b"OK")
