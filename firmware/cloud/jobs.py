"""AWS IoT Jobs over MQTT: what this thing has to do, and what it says of it (guide 7.2).

    $aws/things/<thing>/jobs/$next/get       the first job of the list
    $aws/things/<thing>/jobs/<job>/get       one job
    $aws/things/<thing>/jobs/get             the list
    $aws/things/<thing>/jobs/<job>/update    how one stands

The answer to a request comes on its topic with `/accepted` or `/rejected` behind it, subscribed to
or not. A client token tells ours from those that are late. Requests go out with QoS 0: an answer
tells more than a PUBACK, and what has none is asked again. How far a download has got is told by
ota/progress.py.

Imported when there is a connection. Nothing here outlives the `Jobs` that is made of it.
"""

import asyncio
import gc
import json
import os
import time

from micropython import const

from firmware.cloud.execution import (
    MALFORMED,
    NO_ANSWER,
    NO_MEMORY,
    JobError,
    holds,
    read_code,
    read_execution,
    read_id,
    read_state,
)
from firmware.cloud.session import SessionError
from firmware.log import WARNING, log

_TOO_LONG = b"too long"

# How long an answer may take, how often it is looked for, how often a request is sent, and the
# shortest pause before the second time.
_ANSWER_MS = const(10000)
_POLL_MS = const(20)
_TRIES = const(3)
_PAUSE_MS = const(1000)

# An answer of more bytes than this that does not fit the heap is too long. For a smaller one there
# may be room another time.
_LARGE = const(2048)

# Requests whose late answers are still known as such, and not taken for messages to the host.
_NAMES = const(3)


class Jobs:
    """The jobs of `thing` (bytes), over `session`.

    One request is under way at a time. All that asks raises JobError, and SessionError when
    there is no connection or it is lost meanwhile.
    """

    def __init__(self, session, thing):
        self._session = session
        self._root = b"$aws/things/" + thing + b"/jobs/"
        self._names = []
        self._token = int.from_bytes(os.urandom(3), "big")
        # The token of the request that waits for its answer, and the answer: a dict, a JobError,
        # or only its code.
        self._mine = self._answer = None
        self._busy = False

    async def close(self):
        """End: answers that still come are not taken care of any more."""
        for name in self._names:
            self._route(name, None, None)
        self._names.clear()

    # ---- what there is to do ---------------------------------------------------------------

    async def next(self):
        """The `Execution` that comes first, one in progress before those that are queued; None
        when there is none, or the registry does not know this thing."""
        try:
            return await self.describe("$next")
        except JobError as error:
            if error.code != b"ResourceNotFound":
                raise
        return None

    async def describe(self, job_id):
        """The `Execution` of the job `job_id` (str), with its document if that can be received."""
        name = job_id.encode() + b"/get"
        body = b""
        while True:
            try:
                answer = await self._ask(name, body)
                break
            except JobError as error:
                if error.code not in (_TOO_LONG, NO_MEMORY) or body:
                    raise
                # A short one may fill the memory too, with a thousand empty lists for instance.
                body = b',"includeJobDocument":false'
        found = answer.get("execution")
        if not found:
            if job_id == "$next":
                return None
            raise JobError(MALFORMED)
        execution = read_execution(found)
        if job_id not in ("$next", execution.id):
            raise JobError(MALFORMED)
        execution.too_long = bool(body)
        return execution

    async def pending(self):
        """The ids (str) of all jobs that are not done, those in progress first."""
        answer = await self._ask(b"get", b"")
        ids = []
        for name in ("inProgressJobs", "queuedJobs"):
            listed = answer.get(name)
            if not isinstance(listed, list):
                raise JobError(MALFORMED)
            for job in listed:
                ids.append(read_id(job))
        return ids

    # ---- what is said of it ----------------------------------------------------------------

    async def update(self, execution, status, details):
        """Tell that `execution` is in `status` (bytes: IN_PROGRESS, SUCCEEDED, FAILED, REJECTED).

        details: dict of str, at most 10, the values as from `execution.detail_text`; unless empty
        they replace those before. Asks again when there is no answer or a bad one; an update that
        the cloud turns out to have is a success. A JobError with `gone` False may pass: others
        have sent updates (`VersionMismatch`), or the cloud cannot at the moment."""
        tries = 0
        while True:
            tries += 1
            try:
                await self._tell(execution, status, details)
                return
            except JobError as error:
                failure = error
            state = failure.state
            if state and state[0] == status and holds(state[2], details):
                execution.stand(state)
                return
            await self._pause(failure, tries)

    async def _tell(self, execution, status, details):
        """One update."""
        body = b',"status":"%s","includeJobExecutionState":true' % status
        if details:
            body += b',"statusDetails":' + json.dumps(details).encode()
        if execution.version:
            body += b',"expectedVersion":%d' % execution.version
        answer = await self._once(execution.id.encode() + b"/update", body)
        # What is not said follows from what was asked.
        execution.stand(
            read_state(answer.get("executionState"))
            or (status, execution.version and execution.version + 1, details)
        )

    # ---- requests --------------------------------------------------------------------------

    async def _ask(self, name, body):
        """The answer (dict) to a request that may be repeated."""
        tries = 0
        while True:
            tries += 1
            try:
                return await self._once(name, body)
            except JobError as error:
                failure = error
            await self._pause(failure, tries)

    async def _pause(self, error, tries):
        """Wait before a request is sent again; raises `error` when that would not help."""
        if tries >= _TRIES or not error.passing:
            raise error
        log(WARNING, "jobs:", error.code, "- asking again")
        gc.collect()
        # So that those that failed at the same moment do not come back at the same moment.
        await asyncio.sleep_ms((_PAUSE_MS << (tries - 1)) + os.urandom(1)[0] * 4)

    async def _once(self, name, body):
        """The answer (dict) to one request. body: further members, each with a comma before."""
        session = self._session
        while self._busy:
            await asyncio.sleep_ms(_POLL_MS)
        self._busy = True
        try:
            self._listen(name)
            connection = session.connections
            self._token += 1
            token = str(self._token)
            self._answer = None
            self._mine = token
            await session.post(
                self._root + name, b'{"clientToken":"%s"%s}' % (token.encode(), body), 0
            )
            started = time.ticks_ms()
            while self._answer is None:
                # Of another connection no answer comes.
                if session.connections != connection or not session.connected():
                    raise SessionError(b"connection lost")
                if time.ticks_diff(time.ticks_ms(), started) >= _ANSWER_MS:
                    raise JobError(NO_ANSWER)
                await asyncio.sleep_ms(_POLL_MS)
            answer = self._answer
            if isinstance(answer, bytes):
                answer = JobError(answer)
            if isinstance(answer, JobError):
                raise answer
            return answer
        finally:
            self._mine = self._answer = None
            self._busy = False

    def _listen(self, name):
        """Have the answers to the request `name`."""
        if name in self._names:
            return
        if len(self._names) >= _NAMES:
            self._route(self._names.pop(0), None, None)
        self._names.append(name)
        self._route(name, self._accepted, self._rejected)

    def _route(self, name, accepted, rejected):
        self._session.route(self._root + name + b"/accepted", accepted)
        self._session.route(self._root + name + b"/rejected", rejected)

    # ---- the answers: these run where messages are received, and must not raise -------------

    def _accepted(self, payload):
        self._arrived(payload, False)

    def _rejected(self, payload):
        self._arrived(payload, True)

    def _arrived(self, payload, bad):
        if self._mine is None:
            # Late, or twice.
            return
        try:
            answer = self._read(payload, bad)
        except MemoryError:
            answer = _TOO_LONG if len(payload) > _LARGE else NO_MEMORY
        except (ValueError, TypeError):
            # Whose it is cannot be seen. It is on the topic that ours has to come on.
            answer = MALFORMED
        if answer is not None:
            self._answer = answer
            self._mine = None

    def _read(self, payload, bad):
        """The answer, None when it is another request's. Raises ValueError, TypeError."""
        if payload is None:
            return _TOO_LONG
        answer = json.loads(payload)
        if not isinstance(answer, dict):
            raise ValueError
        if answer.get("clientToken") != self._mine:
            return None
        if not bad:
            return answer
        state = read_state(answer.get("executionState"))
        return JobError(read_code(answer.get("code")), state)
