"""What happens to jobs: created, started, updated by devices, timed out, cancelled, deleted.

It knows nothing of MQTT: `jobs.py` is how devices reach it, `update_control.py` how operators do.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import unicodedata

from tools.cloud.job_store import Execution, Job, JobStore

JOB_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
DETAIL_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
MAX_DETAIL = 1024
MAX_DETAILS = 10
MAX_DOCUMENT = 32768
MAX_MINUTES = 10080
BY_DEVICE = ("IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED")
TERMINAL = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "REMOVED", "CANCELED")
_URL_LIFE = (60, 3600)
NO_TIMEOUT = -1


class JobError(ValueError):
    """A request that is refused: `rule` names the rule, `code` is what devices are answered;
    `execution` comes with those two codes that tell the device where it stands."""

    def __init__(self, rule: str, code: str, text: str, execution: Execution | None = None):
        super().__init__(text)
        self.rule = rule
        self.code = code
        self.execution = execution


def bad_request(rule: str, text: str) -> JobError:
    """The error for a member of a wrong form."""
    return JobError(rule, "InvalidRequest", text)


def check_details(details) -> None:
    """Rule `job-details`; raises JobError."""
    rule = "job-details"
    if not isinstance(details, dict) or len(details) > MAX_DETAILS:
        raise bad_request(rule, f"statusDetails is an object of at most {MAX_DETAILS} pairs")
    for name, value in details.items():
        if not DETAIL_NAME.fullmatch(name):
            raise bad_request(rule, "a key of statusDetails has 1 to 128 of [a-zA-Z0-9:_-]")
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_DETAIL:
            text = f"a value of statusDetails is a text of 1 to {MAX_DETAIL} characters"
            raise bad_request(rule, text)
        # Controls, formats, surrogates, private use, unassigned.
        if any(unicodedata.category(c).startswith("C") for c in value):
            raise bad_request(rule, "a value of statusDetails has a character of category Other")


class Engine:
    """The jobs of one registry. Minutes last `settings.job_minute` seconds."""

    def __init__(self, registry, settings, changed, clock=time.time):
        """`changed(thing, listed, head)` is called after a change: whether the thing's list has
        other members now, and whether another execution is its first (rule `job-notify`).
        `clock`: seconds since 1970."""
        self._registry = registry
        self._settings = settings
        self._changed = changed
        self._clock = clock
        self.store = JobStore(registry)

    # -- operators --
    def create(
        self, job: str, things: list[str], document, description="", url_life=1800, timeout=None
    ) -> None:
        """A new job for these things, which must exist (rule `job-targets`).

        `document`: an object, or its JSON text. `url_life`: seconds that URLs in it stay good.
        `timeout`: minutes that an execution may be in progress.
        """
        rule = "job-create"
        if not isinstance(job, str) or not JOB_ID.fullmatch(job):
            raise bad_request(rule, "a job id has 1 to 64 of [a-zA-Z0-9_-]")
        if self.store.job(job) is not None:
            raise JobError(rule, "ResourceAlreadyExists", f"job {job} exists")
        if not isinstance(things, list) or not things or len(set(things)) != len(things):
            raise bad_request(rule, "things is a list of different thing names, at least one")
        for thing in things:
            if self._registry.thing(thing) is None:
                raise JobError("job-targets", "ResourceNotFound", f"there is no thing {thing}")
        if type(url_life) is not int or not _URL_LIFE[0] <= url_life <= _URL_LIFE[1]:
            raise bad_request(rule, "url_life takes 60 to 3600 seconds")
        if timeout is not None and (type(timeout) is not int or not 1 <= timeout <= MAX_MINUTES):
            raise bad_request(rule, f"timeout takes 1 to {MAX_MINUTES} minutes")
        if not isinstance(description, str):
            raise bad_request(rule, "description is a text")
        now, text = self._clock(), _document(document)
        made = Job(
            job,
            text,
            description,
            url_life,
            timeout,
            "IN_PROGRESS",
            None,
            None,
            0,
            now,
            now,
            None,
        )
        with self._change(things):
            self.store.add(made, things)

    def cancel(self, job: str, force=False, comment=None, reason=None) -> None:
        """Rule `job-cancel`: cancel what is queued; with `force` also what is in progress."""
        found = self.job(job)
        if found.status == "COMPLETED" or (found.status == "CANCELED" and not force):
            raise JobError("job-cancel", "InvalidRequest", f"job {job} is {found.status}")
        wanted = ("QUEUED", "IN_PROGRESS") if force else ("QUEUED",)
        executions = [e for e in self.store.executions(job) if e.status in wanted]
        now = self._clock()
        with self._change([e.thing for e in executions]):
            found.status, found.comment, found.reason = "CANCELED", comment, reason
            found.forced, found.updated, found.completed = int(bool(force)), now, now
            self.store.save_job(found)
            for execution in executions:
                self._move(execution, "CANCELED", now)

    def delete(self, job: str, force=False) -> None:
        """Rule `job-delete`: a job that has ended; with `force` any."""
        found = self.job(job)
        executions = self.store.executions(job)
        busy = found.status == "IN_PROGRESS" or any(e.pending for e in executions)
        if busy and not force:
            text = f"job {job} has not ended"
            raise JobError("job-delete", "InvalidStateTransition", text)
        with self._change([e.thing for e in executions]):
            self.store.delete_job(job)

    def cancel_execution(
        self, job: str, thing: str, force=False, expected_version=None, details=None
    ) -> None:
        """Cancel one execution: a queued one, or with `force` one in progress."""
        execution = self.execution(job, thing)
        if details is not None:
            check_details(details)
        self._check_version(execution, expected_version)
        if not execution.pending or (execution.status == "IN_PROGRESS" and not force):
            raise _transition(execution, "CANCELED", "job-cancel")
        if details is not None:
            execution.details = details
        with self._change([thing]):
            self._move(execution, "CANCELED", self._clock())

    def delete_execution(self, job: str, thing: str, force=False) -> None:
        """Delete one execution that has ended; with `force` any."""
        execution = self.execution(job, thing)
        if execution.pending and not force:
            raise JobError("job-delete", "InvalidStateTransition", "the execution has not ended")
        with self._change([thing]):
            self.store.delete(execution)
            self._complete(job, self._clock())

    def remove_target(self, job: str, thing: str) -> None:
        """The thing is no target any more: its execution is REMOVED (rule `job-removed`)."""
        execution = self.execution(job, thing)
        if not execution.pending:
            raise _transition(execution, "REMOVED", "job-removed")
        with self._change([thing]):
            self._move(execution, "REMOVED", self._clock())

    def sweep(self) -> None:
        """Rule `job-timeout`: end the executions whose time is over."""
        now = self._clock()
        for execution in self.store.overdue(now):
            with self._change([execution.thing]):
                self._move(execution, "TIMED_OUT", now)

    # -- both --
    def job(self, job: str) -> Job:
        """A job; JobError when there is none."""
        found = self.store.job(job)
        if found is None:
            raise JobError("job-unknown", "ResourceNotFound", f"there is no job {job}")
        return found

    def execution(self, job: str, thing: str, number: int | None = None) -> Execution:
        """The execution of a job on a thing; JobError when there is none (of that number)."""
        found = self.store.execution(job, thing)
        if found is None or number not in (None, found.number):
            text = f"there is no such execution of job {job} for {thing}"
            raise JobError("job-unknown", "ResourceNotFound", text)
        return found

    def next(self, thing: str) -> Execution | None:
        """What `$next` stands for: the first of the thing's list."""
        pending = self.store.pending(thing)
        return pending[0] if pending else None

    def seconds_left(self, execution: Execution) -> int | None:
        """Until the nearer of its timers; None when neither runs."""
        ends = [end for end in (execution.step_end, execution.run_end) if end is not None]
        if execution.status != "IN_PROGRESS" or not ends:
            return None
        return max(0, int(min(ends) - self._clock()))

    # -- devices --
    def start_next(self, thing: str, details=None, step_minutes=None) -> Execution | None:
        """Rule `job-start-next`: the first of the list, in progress from now on."""
        execution = self.next(thing)
        if execution is None:
            return None
        if execution.status == "QUEUED":
            if details is not None:
                execution.details = details
            self._set_step(execution, step_minutes)
            with self._change([thing]):
                self._move(execution, "IN_PROGRESS", self._clock())
        elif step_minutes is not None:
            self._set_step(execution, step_minutes)
            with self._change([thing]):
                self.store.save(execution)
        return execution

    def update(
        self,
        thing: str,
        job: str,
        status: str,
        details=None,
        expected_version=None,
        number=None,
        step_minutes=None,
    ) -> Execution:
        """Rules `job-states`, `job-version`: a device tells how far it is."""
        execution = self.execution(job, thing, number)
        if not execution.pending:
            raise _transition(execution, status, "job-states")
        self._check_version(execution, expected_version)
        if details is not None:
            execution.details = details
        self._set_step(execution, step_minutes)
        with self._change([thing]):
            self._move(execution, status, self._clock())
        return execution

    # -- inside --
    def _check_version(self, execution: Execution, expected: int | None) -> None:
        if expected not in (None, execution.version):
            text = f"version is {execution.version}, not {expected}"
            raise JobError("job-version", "VersionMismatch", text, execution)

    def _set_step(self, execution: Execution, minutes: int | None) -> None:
        if minutes == NO_TIMEOUT:
            execution.step_end = None
        elif minutes is not None:
            execution.step_end = self._clock() + minutes * self._settings.job_minute

    def _move(self, execution: Execution, status: str, now: float) -> None:
        """One accepted change (rule `job-version`); inside `_change`."""
        if status == "IN_PROGRESS" and execution.started is None:
            execution.started = now
            minutes = self.job(execution.job).timeout
            if minutes is not None:
                execution.run_end = now + minutes * self._settings.job_minute
        execution.status, execution.updated = status, now
        execution.version += 1
        self.store.save(execution)
        if status in TERMINAL:
            self._complete(execution.job, now)

    def _complete(self, job: str, now: float) -> None:
        """A job ends when none of its executions is left to be done."""
        found = self.job(job)
        if found.status != "IN_PROGRESS" or any(e.pending for e in self.store.executions(job)):
            return
        found.status, found.updated, found.completed = "COMPLETED", now, now
        self.store.save_job(found)

    @contextlib.contextmanager
    def _change(self, things: list[str]):
        """All changes inside it or none; afterwards the things' lists are compared."""
        before = {thing: self._listed(thing) for thing in things}
        with self.store.transaction():
            yield
        for thing, old in before.items():
            new = self._listed(thing)
            listed, head = set(old) != set(new), old[:1] != new[:1]
            if listed or head:
                self._changed(thing, listed, head)

    def _listed(self, thing: str) -> list[tuple]:
        return [(e.job, e.number, e.queued) for e in self.store.pending(thing)]


def _document(document) -> str:
    """The text of a job document, checked (rule `job-create`)."""
    try:
        text = document if isinstance(document, str) else json.dumps(document, allow_nan=False)
        value = json.loads(text)
    except ValueError as error:
        raise bad_request("job-create", f"the document is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise bad_request("job-create", "the document is an object")
    if len(text.encode("utf-8")) > MAX_DOCUMENT:
        raise bad_request("job-create", f"the document has more than {MAX_DOCUMENT} bytes")
    return text


def _transition(execution: Execution, status: str, rule: str) -> JobError:
    text = f"from {execution.status} to {status}"
    return JobError(rule, "InvalidStateTransition", text, execution)
