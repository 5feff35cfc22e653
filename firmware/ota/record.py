"""The job that is being dealt with, kept in flash over restarts and lost connections.

    NONE -> OFFERED -> LOADING -> READY -> TRIAL -> REPORT -> NONE
              |           |         |                 ^
              +-----------+---------+-----------------+

A record exists from the moment when a job is proposed to the host, or begun without asking, until
the cloud has been told how it ended. It is one value of the store, so a power cut leaves the old
or the new one. What is in the job's document is not repeated: it is asked for again.
"""

import json

from micropython import const

from firmware.log import ERROR, INFO, log

OFFERED = const(1)
LOADING = const(2)
READY = const(3)
TRIAL = const(4)
REPORT = const(5)

_NAMES = ("none", "offered", "loading", "ready", "trial", "report")

# Moves that are legal, as phase * 8 + next phase.
_MOVES = (
    0 * 8 + OFFERED,
    0 * 8 + LOADING,
    OFFERED * 8 + LOADING,
    OFFERED * 8 + REPORT,
    LOADING * 8 + READY,
    LOADING * 8 + REPORT,
    READY * 8 + TRIAL,
    READY * 8 + REPORT,
    TRIAL * 8 + READY,
    TRIAL * 8 + REPORT,
)

_NAME = "ota"
# Of what this version writes; another version's record is not understood.
FORMAT = const(1)

MODULE = const(101)
HOST = const(202)


class Record:
    """One job. phase: see above. `type`: MODULE or HOST. The rest are values of `data`, which is
    what lies in flash, under these names:

        job      the job's id, "" while it is not known (resume.py)
        detail   what OTA? shows of it
        force    true: the host is not asked
        size     bytes of the file, 0 while not known
        done     bytes from its beginning that have arrived for good
        area     name of the area where it lies
        head     first 256 bytes of a module image, base64
        slot     where the module image has been installed
        version  what is in there
        status   how the job ended, for the cloud, and
        reason   in words
    """

    def __init__(self, store, data):
        self._store = store
        self.data = data

    @property
    def phase(self):
        """Where the job has got to."""
        return self.data["phase"]

    def name(self):
        """The phase's name as bytes."""
        return _NAMES[self.phase].encode()

    @property
    def job(self):
        """The job's id (str)."""
        return self.data["job"]

    @property
    def type(self):
        """MODULE or HOST."""
        return self.data["type"]

    def to(self, phase, **values):
        """The only place where the phase changes; `values` change with it. Raises OSError when
        the flash refuses: nothing has changed then."""
        now = self.data.get("phase", 0)
        if now * 8 + phase not in _MOVES:
            raise RuntimeError("ota: %s to %s" % (_NAMES[now], _NAMES[phase]))
        self.keep(phase=phase, **values)
        log(INFO, "ota:", self.data["job"], _NAMES[phase], values.get("reason", ""))

    def keep(self, **values):
        """Change `values` and write the record. Raises OSError: nothing has changed then."""
        data = dict(self.data)
        data.update(values)
        self._store.write(_NAME, json.dumps(data).encode())
        self.data = data

    def remove(self):
        """The job is done with. Raises OSError."""
        self._store.remove(_NAME)


def begin(store, phase, job, kind, detail, force, size):
    """A record for a new job, written. Raises OSError."""
    record = Record(
        store,
        {
            "format": FORMAT,
            "job": job,
            "type": kind,
            "detail": detail.decode(),
            "force": force,
            "size": size,
            "done": 0,
        },
    )
    record.to(phase)
    return record


def load(store):
    """The record in flash, or None."""
    value = store.read(_NAME)
    if value is None:
        return None
    try:
        data = json.loads(value)
        if data["format"] != FORMAT or not 0 < data["phase"] <= REPORT:
            raise ValueError("another version's")
        _ = data["job"], data["type"], data["done"]
    except (ValueError, KeyError, TypeError) as error:
        # The job goes on in the cloud, and will be taken up anew.
        log(ERROR, "ota: record not understood:", error)
        return None
    return Record(store, data)
