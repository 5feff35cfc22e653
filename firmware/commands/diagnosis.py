"""Events and status (guide, chapter 6; 3.6.1, 4.1.7.6; decision D16): what a host polls."""

from firmware.at.errors import KEY_UNKNOWN, AtError


def event_query(module, command):
    """EVENT? (6.1.1)."""
    return module.events.get()


def stat_query(module, command):
    """STAT? Overflow: whether messages have been lost since it was last asked (4.1.7.6)."""
    if command.brief(KEY_UNKNOWN).lower() != b"overflow":
        raise AtError(KEY_UNKNOWN)
    return b"1" if module.messages.take_overflow() else b"0"


def connect_query(module, command):
    """CONNECT? (3.6.1)."""
    return b"1" if module.session.connected() else b"0"
