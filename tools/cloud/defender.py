"""Device Defender: takes the metrics reports of devices, judges them, answers the device.

    $aws/things/<thing>/defender/metrics/<json|cbor>   -> …/accepted or …/rejected

What a report must look like is in `defender_report.py`.
"""

from __future__ import annotations

import logging
import time
from collections import deque

from tools.cloud import answers
from tools.cloud.defender_report import ReportError, check, decode, report_id
from tools.cloud.forms import encode

log = logging.getLogger("cloud")

_PATTERN = "$aws/things/+/defender/metrics/"
_KEPT = 200  # reports of a thing
_THROTTLED = "Throttled"
_FAULT = "InternalError"


class Defender:
    """The service on one broker.

    Every report is kept with what became of it, `reports` gives them; the last accepted one of a
    thing decides which number the next may have, and when it may come.
    """

    def __init__(self, broker, clock=time.time):
        """`clock`: seconds since 1970."""
        self._broker = broker
        self._clock = clock
        self._kept: dict[str, deque[dict]] = {}
        self._last: dict[str, tuple[int, float]] = {}  # thing -> report id, time of acceptance
        for form in ("json", "cbor"):
            broker.serve(_PATTERN + form, self._serve)

    def reports(self, thing: str) -> list[dict]:
        """The last reports of a thing, oldest first. Each has `time` (ms since 1970), `client`,
        `form`, `status` (ACCEPTED, REJECTED, or UNANSWERED by a fault), `code` and `rule` of a
        rejection, and `report`, with long names, None when it could not be read."""
        return list(self._kept.get(thing, ()))

    def _serve(self, connection, topic: str, payload: bytes) -> None:
        levels = topic.split("/")
        thing, form = levels[2], levels[-1]
        now = self._clock()
        entry = {"time": int(now * 1000), "client": connection.client_id, "form": form}
        entry.update(status="UNANSWERED", code=None, rule=None, report=None)
        self._kept.setdefault(thing, deque(maxlen=_KEPT)).append(entry)
        faults = self._broker.faults
        number, error = self._judge(thing, form, payload, entry, now)
        if faults.take("silent", connection, at="defender"):
            log.info("fault: silent at defender, %s", connection.name())
            return
        fault = faults.take("refuse", connection, at="defender")
        if fault is not None:
            error = ReportError("fault", "a fault switch rejects it", fault.error or _FAULT)
        answer = {"thingName": thing}
        if number is not None:
            answer["reportId"] = number
        if error is None:
            self._last[thing] = (number, now)
            entry["status"] = answer["status"] = "ACCEPTED"
        else:
            entry.update(status="REJECTED", code=error.code, rule=error.rule)
            answer["status"] = "REJECTED"
            answer["statusDetails"] = {"ErrorCode": error.code, "ErrorMessage": str(error)}
            log.info("report of %s rejected: rule %s (%s)", thing, error.rule, error)
        answer["timestamp"] = int(now * 1000)
        which = "accepted" if error is None else "rejected"

        def send() -> None:
            self._answer(connection, topic, which, form, answer)

        answers.reply(self._broker, connection, "defender", send)

    def _judge(self, thing: str, form: str, payload: bytes, entry: dict, now: float):
        """(report id or None, None or what is wrong); the report goes into `entry`."""
        number = None
        try:
            value = decode(form, payload)
            number = report_id(value)
            entry["report"] = check(value)
            last = self._last.get(thing)
            if last is not None:
                least = self._broker.settings.defender_minimum
                if now - last[1] < least:
                    text = f"{now - last[1]:.1f} s after the last report, at least {least:g} s"
                    raise ReportError("defender-throttle", text, _THROTTLED)
                if number <= last[0]:
                    raise ReportError("defender-report-id", f"not above the last one, {last[0]}")
        except ReportError as error:
            return number, error
        return number, None

    def _answer(self, connection, topic: str, which: str, form: str, answer: dict) -> None:
        """To the client that reported, and to nobody else (rule `requester-delivery`)."""
        where = f"{topic}/{which}"
        qos = connection.session.subscriptions.get(where, 0)
        self._broker.deliver(connection.client_id, where, encode(form, answer), qos)
