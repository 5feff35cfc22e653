"""The event queue and the EVENT pin (guide, chapter 6; decisions D30, D31)."""

from collections import deque

from micropython import const

# Event identifiers of Table 4.
MSG = const(1)
STARTUP = const(2)
CONLOST = const(3)
OVERRUN = const(4)
OTA = const(5)
SHADOW = const(6)
CONFMODE = const(7)

DEPTH = const(32)


class Events:
    """First in, first out; the pin is high while something waits.

    pin: called with 1 or 0, as `machine.Pin.__call__` is. profile: the names of the events.
    """

    def __init__(self, pin, profile):
        self._pin = pin
        self._names = profile.events
        # Made at its full length, and nothing else is allocated later but the events themselves.
        self._queue: deque = deque((), DEPTH)
        self.dropped = 0
        pin(0)

    def put(self, identifier, parameter=0, detail=b""):
        """Queue an event. A full queue loses its oldest MSG, or its oldest event if there is no
        MSG in it."""
        if len(self._queue) >= DEPTH:
            self._drop()
        self._queue.append((identifier, parameter, detail))
        self._pin(1)

    def _drop(self):
        """Lose the oldest MSG, or the oldest event when there is no MSG."""
        queue = self._queue
        self.dropped += 1
        lost = False
        for _ in range(len(queue)):
            event = queue.popleft()
            if not lost and event[0] == MSG:
                lost = True
            else:
                queue.append(event)
        if not lost:
            queue.popleft()

    def get(self):
        """The next event as `EVENT?` shows it, or None; the pin falls with the last one."""
        queue = self._queue
        if not queue:
            return None
        identifier, parameter, detail = queue.popleft()
        if not queue:
            self._pin(0)
        shown = b"%d %d %s" % (identifier, parameter, self._names[identifier])
        return shown + b" " + detail if detail else shown

    def clear(self):
        """Forget all events, as sleep and the resets do."""
        while self._queue:
            self._queue.popleft()
        self._pin(0)

    def __len__(self):
        return len(self._queue)
