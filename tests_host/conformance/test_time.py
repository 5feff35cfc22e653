"""TIME? tells the right time (9.1.1; D25)."""

import datetime
import time

import pytest


def shown(reply):
    """Seconds since 1970 and the source, of a reply to TIME?."""
    words = reply.decode().split(" ")
    assert words[:2] == ["OK", "date"], reply
    assert words[3] == "time"
    moment = datetime.datetime.strptime(f"{words[2]} {words[4]}0000", "%Y/%m/%d %H:%M:%S.%f")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp(), words[5]


@pytest.mark.clause("9.1.1.1", "9.1.1", "D25")
def test_the_time_is_right_and_goes_on(stage):
    stage.connect()
    seconds, source = shown(stage.ask(b"AT+TIME?"))
    assert abs(seconds - time.time()) < 1.5
    assert source == "SNTP"
    time.sleep(1.1)
    later, _ = shown(stage.ask(b"AT+TIME?"))
    assert 1.0 <= later - seconds < 1.6
    # The chip's clock goes on over a restart.
    stage.must(b"AT+RESET")
    stage.restarted()
    seconds, source = shown(stage.ask(b"AT+TIME?"))
    assert abs(seconds - time.time()) < 2.5
    assert source == "RTC"


@pytest.mark.clause("D25", "9.1.1.1")
def test_the_time_is_the_servers(stage):
    stage.cloud.control.sntp(offset=86400 * 3)
    stage.wifi()
    # Whatever becomes of the connection, the time is known.
    stage.ask(b"AT+CONNECT")
    seconds, source = shown(stage.ask(b"AT+TIME?"))
    assert abs(seconds - time.time() - 86400 * 3) < 1.5
    assert source == "SNTP"
