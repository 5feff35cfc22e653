"""What AWS IoT Jobs says about one job and this thing, checked (guide 7.2).

The protocol is in jobs.py. Nothing here needs a connection.
"""

from micropython import const

QUEUED = b"QUEUED"
IN_PROGRESS = b"IN_PROGRESS"

# The other states of an execution: none of them is ever left.
_ENDED = (b"SUCCEEDED", b"FAILED", b"REJECTED", b"TIMED_OUT", b"CANCELED", b"REMOVED")

# Rejections after which an execution takes no update any more.
_GONE = (b"TerminalStateReached", b"InvalidStateTransition", b"ResourceNotFound")

MALFORMED = b"malformed"
NO_ANSWER = b"no answer"
NO_MEMORY = b"no memory"

_PASSING = (NO_ANSWER, MALFORMED, NO_MEMORY, b"InternalError", b"RequestThrottled")

# Limits: a code of the cloud and a job's id (characters), a text for statusDetails, a version.
_CODE = const(32)
_ID = const(64)
_TEXT = const(128)
_VERSION = const(0x3FFFFFFF)


class JobError(Exception):
    """A request that has failed.

    code: bytes, that of a rejection (`VersionMismatch`, …), or one of ours: `no answer` in 10 s,
    `malformed`, `too long` for the receive buffer, `no memory`.
    state: the execution's (status, version, details) as the cloud has it, or None if not said."""

    def __init__(self, code, state=None):
        super().__init__(code)
        self.code = code
        self.state = state

    @property
    def gone(self):
        """True when the execution will never take an update again."""
        return self.code in _GONE or bool(self.state and self.state[0] in _ENDED)

    @property
    def passing(self):
        """True when it may be otherwise the next time. After all but a throttled one it is not
        known whether the cloud has done what it was asked."""
        return self.code in _PASSING


class Execution:
    """A job as it stands with this thing.

    id: str, of letters, digits, `_`, `-`. status: bytes. version: rises with every update; 0 when
    it is not known, and updates are then taken whatever it is. details: the statusDetails, dict
    of str. document: whatever the JSON holds; None when there is none, or it was too long to be
    received, which `too_long` then says.
    """

    def __init__(self, id, status=IN_PROGRESS, version=0, details=None, document=None):
        self.id = id
        self.status = status
        self.version = version
        self.details = {} if details is None else details
        self.document = document
        self.too_long = False

    def stand(self, state):
        """Take over a state (status, version, details) that the cloud has told."""
        self.status, self.version, self.details = state


def detail_text(data):
    """`data` (bytes) as a value of statusDetails: 1 to 128 ASCII characters.

    The cloud takes no control characters and none of the many others that Unicode calls so; for
    all that is not printable ASCII stands `?`."""
    text = bytes(c if 32 <= c < 127 else 63 for c in data[:_TEXT])
    return text.decode() or "-"


def read_code(value):
    """The code of a rejection as bytes that can be shown, whatever `value` is."""
    code = value.encode()[:_CODE] if isinstance(value, str) else b""
    return bytes(c for c in code if 32 <= c < 127) or b"rejected"


def read_id(value):
    """The id (str) of the job that an object of the cloud is about. Raises JobError."""
    found = value.get("jobId") if isinstance(value, dict) else None
    if not isinstance(found, str) or not 0 < len(found) <= _ID:
        raise JobError(MALFORMED)
    for c in found.encode():
        # Letters, digits, underscore, hyphen: it becomes part of topics.
        if not (97 <= c | 32 <= 122 or 48 <= c <= 57 or c == 95 or c == 45):
            raise JobError(MALFORMED)
    return found


def read_state(value):
    """(status, version, details) of an object of the cloud, None when it is not of that form."""
    if not isinstance(value, dict):
        return None
    status = value.get("status")
    status = status.encode() if isinstance(status, str) else b""
    if status != QUEUED and status != IN_PROGRESS and status not in _ENDED:
        return None
    version = value.get("versionNumber")
    # Not isinstance: True is no number here.
    if type(version) is not int or not 0 < version <= _VERSION:
        return None
    details = value.get("statusDetails")
    if details is None:
        details = {}
    if not isinstance(details, dict):
        return None
    for name in details:
        if not isinstance(name, str) or not isinstance(details[name], str):
            return None
    return status, version, details


def read_execution(value):
    """The `Execution` that an object of the cloud describes. Raises JobError."""
    state = read_state(value)
    if state is None:
        raise JobError(MALFORMED)
    return Execution(read_id(value), state[0], state[1], state[2], value.get("jobDocument"))


def holds(details, sent):
    """True when `details` have all that was sent."""
    for name in sent:
        if details.get(name) != sent[name]:
            return False
    return True
