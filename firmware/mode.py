"""What the module as a whole is doing: one state, one function that changes it.

init            starting
idle            the start failed, or what is needed was found damaged: the port answers and says
                why; only a restart leads out
configuration   there is no certificate or no SSID yet, or somebody is entering them
normal          all that a connection needs is there
ota             an update is being received or applied
"""

from micropython import const

from firmware.log import INFO, log

INIT = const(0)
IDLE = const(1)
CONFIGURATION = const(2)
NORMAL = const(3)
OTA = const(4)

_NAMES = (b"init", b"idle", b"configuration", b"normal", b"ota")

# Moves that are legal, as state * 8 + next state.
_MOVES = (
    INIT * 8 + IDLE,
    INIT * 8 + CONFIGURATION,
    INIT * 8 + NORMAL,
    CONFIGURATION * 8 + NORMAL,
    CONFIGURATION * 8 + IDLE,
    NORMAL * 8 + IDLE,
    NORMAL * 8 + CONFIGURATION,
    NORMAL * 8 + OTA,
    OTA * 8 + NORMAL,
)


class Mode:
    """The state, and the reason for it (bytes) where there is one to tell."""

    def __init__(self):
        self.state = INIT
        self.reason = b""

    def to(self, state, reason=b""):
        """Change to `state`; raises RuntimeError for a move that does not exist."""
        if self.state * 8 + state not in _MOVES:
            raise RuntimeError("mode: %s to %s" % (_NAMES[self.state], _NAMES[state]))
        self.state = state
        self.reason = reason
        log(INFO, "mode:", _NAMES[state].decode(), reason.decode())

    def name(self):
        """The state's name as bytes."""
        return _NAMES[self.state]
