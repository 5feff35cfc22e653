"""AWS IoT Jobs over MQTT: what devices ask, and what they are told without asking.

    $aws/things/<thing>/jobs/get                      what is to be done
    $aws/things/<thing>/jobs/start-next               take the first of it
    $aws/things/<thing>/jobs/<job or $next>/get       one execution with its document
    $aws/things/<thing>/jobs/<job>/update             how far it is

Answers go to …/accepted or …/rejected, to the client that asked (rule `requester-delivery`);
`notify` and `notify-next` go to those that have subscribed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass

from tools.cloud import answers, forms
from tools.cloud.job_engine import (
    BY_DEVICE,
    JOB_ID,
    MAX_MINUTES,
    NO_TIMEOUT,
    Engine,
    JobError,
    bad_request,
    check_details,
)
from tools.cloud.job_store import Execution

log = logging.getLogger("cloud")

SERVICE = "jobs"
NEXT = "$next"
_ROOT = "$aws/things/+/jobs/"
_KEPT = 200  # requests of a thing
_LISTED = 15  # executions in a `notify`
_TOKEN = 64
_TEXT = 200
_DETAILS, _VERSION, _NUMBER = "statusDetails", "expectedVersion", "executionNumber"
_STEP, _DOCUMENT, _STATE = "stepTimeoutInMinutes", "includeJobDocument", "includeJobExecutionState"
# The members that a request may have besides clientToken (rule `job-request`).
_MEMBERS = {
    "get": (),
    "start-next": (_DETAILS, _STEP),
    "describe": (_NUMBER, _DOCUMENT),
    "update": ("status", _DETAILS, _VERSION, _NUMBER, _STATE, _DOCUMENT, _STEP),
}


@dataclass
class _Request:
    """One publish; `entry` is what `requests` tells of it."""

    connection: object
    kind: str
    topic: str
    thing: str
    job: str | None
    entry: dict


class Jobs:
    """The service on one broker."""

    def __init__(self, broker, fill, clock=time.time):
        """`fill(document, seconds)` gives a job document with fresh URLs that stay good so long;
        `clock`: seconds since 1970."""
        self._broker = broker
        self._fill = fill
        self._clock = clock
        self._kept: dict[str, deque[dict]] = {}
        self.engine = Engine(broker.registry, broker.settings, self._changed, clock)
        for kind, levels in (
            ("get", "get"),
            ("start-next", "start-next"),
            ("describe", "+/get"),
            ("update", "+/update"),
        ):
            broker.serve(_ROOT + levels, self._server(kind))

    def requests(self, thing: str) -> list[dict]:
        """The last requests about a thing, oldest first: `time` (ms), `client`, `request` (get,
        start-next, describe, update), `job`, `status` (ACCEPTED, REJECTED, or UNANSWERED by a
        fault), `code` and `rule` of a rejection, `body` (None when it could not be read)."""
        return list(self._kept.get(thing, ()))

    # -- requests --
    def _server(self, kind: str):
        def serve(connection, topic: str, payload: bytes) -> None:
            levels = topic.split("/")
            thing, job = levels[2], levels[4] if kind in ("describe", "update") else None
            entry = {
                "time": int(self._clock() * 1000),
                "client": connection.client_id,
                "request": kind,
                "job": job,
                "status": "UNANSWERED",
                **dict.fromkeys(("code", "rule", "body")),
            }
            self._kept.setdefault(thing, deque(maxlen=_KEPT)).append(entry)
            self._serve(_Request(connection, kind, topic, thing, job, entry), payload)

        return serve

    def _serve(self, request: _Request, payload: bytes) -> None:
        entry, connection, faults = request.entry, request.connection, self._broker.faults
        where = {"at": SERVICE, "request": request.kind}
        token, answer, which = None, {}, "accepted"
        silent = faults.take("silent", connection, **where)
        try:
            body = entry["body"] = _read(payload)
            token = _token(body)
            if not silent:
                fault = faults.take("refuse", connection, **where)
                if fault is not None:
                    code = fault.error or "InternalError"
                    raise JobError("fault", code, "a fault switch rejects it")
                answer = self._accept(request, _checked(request.kind, body))
                entry["status"] = "ACCEPTED"
        except JobError as error:
            entry.update(status="REJECTED", code=error.code, rule=error.rule)
            log.info(
                "jobs: %s of %s rejected: rule %s (%s)",
                request.kind,
                connection.name(),
                error.rule,
                str(error)[:_TEXT],
            )
            answer, which = {"code": error.code, "message": str(error)[:_TEXT]}, "rejected"
            if error.execution is not None:
                answer["executionState"] = _state(error.execution)
        if silent:
            log.info("fault: silent at %s, %s", SERVICE, connection.name())
            entry.update(status="UNANSWERED", code=None, rule=None)
            return
        answer["timestamp"] = int(self._clock())
        topic = f"{request.topic}/{which}"

        def send() -> None:
            if faults.take("drop", connection, **where):
                log.info("fault: answer of %s dropped, %s", request.kind, connection.name())
                return
            mine = answer if token is None else {**answer, "clientToken": token}
            self._deliver(connection, topic, mine)

        def foreign(fault) -> None:
            other = {"clientToken": "foreign-" + secrets.token_hex(4)}
            if fault.error is None:
                self._deliver(connection, topic, {**answer, **other})
            else:
                body = {"code": fault.error, "message": "another request was rejected"}
                body["timestamp"] = answer["timestamp"]
                self._deliver(connection, f"{request.topic}/rejected", {**body, **other})

        answers.reply(
            self._broker, connection, SERVICE, send, foreign=foreign, request=request.kind
        )

    def _deliver(self, connection, topic: str, answer: dict) -> None:
        """To the client that asked, subscribed or not."""
        qos = answers.granted(connection, topic) or 0
        self._broker.deliver(connection.client_id, topic, json.dumps(answer).encode(), qos)

    def _accept(self, request: _Request, body: dict) -> dict:
        if self._broker.registry.thing(request.thing) is None:
            text = f"there is no thing {request.thing}"
            raise JobError("job-unknown", "ResourceNotFound", text)
        if request.job is not None and not (
            JOB_ID.fullmatch(request.job) or (request.job == NEXT and request.kind == "describe")
        ):
            raise JobError("job-topic", "InvalidTopic", "not a job id")
        work = {
            "get": self._get,
            "start-next": self._start_next,
            "describe": self._describe,
            "update": self._update,
        }
        return work[request.kind](request, body)

    def _get(self, request: _Request, _body: dict) -> dict:
        pending = self.engine.store.pending(request.thing)
        return {
            "inProgressJobs": [_summary(e) for e in pending if e.status == "IN_PROGRESS"],
            "queuedJobs": [_summary(e) for e in pending if e.status == "QUEUED"],
        }

    def _start_next(self, request: _Request, body: dict) -> dict:
        found = self.engine.start_next(request.thing, body.get(_DETAILS), body.get(_STEP))
        return self._execution(request.entry, found)

    def _describe(self, request: _Request, body: dict) -> dict:
        number, whole = body.get(_NUMBER), body.get(_DOCUMENT, True)
        if request.job == NEXT:
            found = self.engine.next(request.thing)
            if found is not None and number not in (None, found.number):
                raise JobError("job-unknown", "ResourceNotFound", f"no execution {number}")
            return self._execution(request.entry, found, whole)
        found = self.engine.execution(request.job, request.thing, number)
        if not found.pending:
            text = f"the execution is {found.status}"
            raise JobError("job-describe", "TerminalStateReached", text)
        return self._execution(request.entry, found, whole)

    def _update(self, request: _Request, body: dict) -> dict:
        if "status" not in body:
            raise bad_request("job-request", "status is missing")
        found = self.engine.update(
            request.thing,
            request.job,
            body["status"],
            body.get(_DETAILS),
            body.get(_VERSION),
            body.get(_NUMBER),
            body.get(_STEP),
        )
        answer: dict = {}
        if body.get(_STATE):
            answer["executionState"] = _state(found)
        if body.get(_DOCUMENT):
            answer["jobDocument"] = self._document(found.job)
        return answer

    # -- shapes --
    def _document(self, job: str) -> dict:
        """Rule `file-url`: URLs are made when the document is asked for."""
        found = self.engine.job(job)
        seconds = self._broker.settings.url_life or found.url_life
        return self._fill(json.loads(found.document), seconds)

    def _execution(self, entry: dict, found: Execution | None, whole: bool = True) -> dict:
        """The answer about one execution; without one it has no member `execution`."""
        if found is None:
            return {}
        entry["job"] = found.job
        shown = {"jobId": found.job, "thingName": found.thing, "status": found.status}
        shown |= {_DETAILS: found.details, **_summary(found)}
        left = self.engine.seconds_left(found)
        if left is not None:
            shown["approximateSecondsBeforeTimedOut"] = left
        if whole:
            shown["jobDocument"] = self._document(found.job)
        return {"execution": shown}

    # -- notices --
    def _changed(self, thing: str, listed: bool, head: bool) -> None:
        # The answer to what caused it goes out first.
        loop = asyncio.get_running_loop()
        loop.call_soon(self._notify, thing, listed, head)

    def _notify(self, thing: str, listed: bool, head: bool) -> None:
        """Rule `job-notify`."""
        now = {"timestamp": int(self._clock())}
        if listed:
            jobs: dict[str, list] = {}
            for execution in self.engine.store.pending(thing)[:_LISTED]:
                jobs.setdefault(execution.status, []).append(_summary(execution))
            self._publish(f"$aws/things/{thing}/jobs/notify", {**now, "jobs": jobs})
        if head:
            body = self._execution({}, self.engine.next(thing))
            self._publish(f"$aws/things/{thing}/jobs/notify-next", {**now, **body})

    def _publish(self, topic: str, body: dict) -> None:
        self._broker.publish(topic, json.dumps(body).encode(), 1)


def _summary(execution: Execution) -> dict:
    shown = {
        "jobId": execution.job,
        "queuedAt": int(execution.queued),
        "lastUpdatedAt": int(execution.updated),
        "versionNumber": execution.version,
        _NUMBER: execution.number,
    }
    if execution.started is not None:
        shown["startedAt"] = int(execution.started)
    return shown


def _state(execution: Execution) -> dict:
    return {
        "status": execution.status,
        _DETAILS: execution.details,
        "versionNumber": execution.version,
    }


# -- what a request must look like --
def _read(payload: bytes) -> dict:
    try:
        body = forms.decode("json", payload)
    except forms.FormError as error:
        raise JobError("job-json", "InvalidJson", str(error)) from error
    if not isinstance(body, dict):
        raise bad_request("job-request", "not an object")
    return body


def _token(body: dict) -> str | None:
    """The client token, which every answer repeats."""
    token = body.get("clientToken")
    if token is not None and (not isinstance(token, str) or not 1 <= len(token) <= _TOKEN):
        raise bad_request("job-request", f"clientToken is a text of 1 to {_TOKEN} characters")
    return token


def _checked(kind: str, body: dict) -> dict:
    """The request without members that are null; JobError for one of a wrong form."""
    given = {name: value for name, value in body.items() if value is not None}
    given.pop("clientToken", None)
    for name, value in given.items():
        if name not in _MEMBERS[kind]:
            raise bad_request("job-request", f"{kind} takes no {name[:_TEXT]}")
        if name == _DETAILS:
            check_details(value)
        elif name == "status":
            if value not in BY_DEVICE:
                raise bad_request("job-states", f"status is one of {', '.join(BY_DEVICE)}")
        elif name in (_DOCUMENT, _STATE):
            if not isinstance(value, bool):
                raise bad_request("job-request", f"{name} is true or false")
        elif type(value) is not int:
            raise bad_request("job-request", f"{name} is a whole number")
        elif name == _STEP and value != NO_TIMEOUT and not 1 <= value <= MAX_MINUTES:
            raise bad_request("job-timeout", f"{name} is -1 or 1 to {MAX_MINUTES}")
    return given
