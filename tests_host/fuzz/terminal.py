"""Drives the virtual module through its terminal, as a host does: offline, or connected."""

from __future__ import annotations

import os
import random
import select
import time

from tests_host.fuzz import batches, oracle

# Pieces in which a host may hand over its bytes, in bytes at most.
_PIECES = (1, 7, 100, 4096)


def talk(module, stream: bytes, count: int, timeout: float = 60, pieces=None) -> oracle.Replies:
    """Send `stream` in pieces, reading all the while; the replies, once there are `count`.

    pieces: a `random.Random` that chooses their sizes, or None for as large as the terminal takes.
    Returns what has come when the time is over or the module falls silent for 5 s.
    """
    replies = oracle.Replies()
    view = memoryview(stream)
    end = time.monotonic() + timeout
    heard = time.monotonic()
    size = 4096
    terminal = module.fileno()
    while view or len(replies.lines) < count:
        readable, writable, _ = select.select([terminal], [terminal] if view else [], [], 0.2)
        now = time.monotonic()
        if readable:
            replies.add(os.read(terminal, 65536))
        if writable:
            if pieces is not None:
                size = pieces.choice(_PIECES)
            view = view[os.write(terminal, view[:size]) :]
        if readable or writable:
            heard = now
        elif now - heard > 5 or now > end:
            break
    # One reply too many would come at once.
    while select.select([terminal], [], [], 0 if view else 0.02)[0]:
        replies.add(os.read(terminal, 65536))
    return replies


class Terminal:
    """A module that is given batches of lines. module: a VirtualModule that has started."""

    def __init__(self, module, seed: int = 0):
        self._module = module
        self._random = random.Random(seed)
        self._seen = len(module.console())
        self._mark = 0
        self.seconds = 0.0  # what the last batch took

    def wrong(self, batch: list[bytes]) -> str:
        """Give the module one batch; why its replies are wrong, or ""."""
        # A new number each time: the lines themselves may ask for what the last mark has set.
        self._mark += 1
        stream = b"".join(batch) + batches.mark(self._mark)
        expected = oracle.judge_all(stream)
        whole = self._random.random() < 0.5
        pieces = None if whole else self._random
        started = time.monotonic()
        replies = talk(self._module, stream, len(expected), pieces=pieces)
        self.seconds = time.monotonic() - started
        return batches.first_wrong([batch], replies, self._mark)[1] or self.trace()

    def trace(self) -> str:
        """An exception on the console, if there is one since the last restart."""
        console = self._module.console()[self._seen :]
        at = console.find("Traceback")
        return "" if at < 0 else console[at : at + 1500]

    def restart(self) -> None:
        """Power off and on; forget the console and what was on the line."""
        self._module.power_cut()
        self._module.flush()
        self._module.power_on()
        self._seen = len(self._module.console())

    def shrink(self, batch: list[bytes]) -> list[bytes]:
        """The lines of `batch` that make a module that has just started answer wrongly; all of
        them when they do not."""

        def fails(items):
            self.restart()
            return bool(self.wrong(items))

        return batches.shrink(batch, fails) if fails(batch) else batch


def online(module) -> None:
    """Connect the module (default access point) and subscribe to two topics."""
    for line in (
        b"CONF SSID=sim-ap",
        b"CONF Passphrase=sim-passphrase",
        b"CONNECT",
        b"CONF Topic1=fuzz",
        b"CONF Topic2=other/+",
        b"SUBSCRIBE1",
        b"SUBSCRIBE2",
    ):
        reply = module.command(b"AT+" + line, timeout=120)
        if not reply.startswith(b"OK"):
            raise AssertionError(f"{line!r}: {reply!r}")
    # The first look for update jobs, which loads and drops its code.
    until = time.monotonic() + 20
    while module.command(b"AT+DIAG INFO updates") != b"OK ready":
        assert time.monotonic() < until, module.console()[-800:]
        time.sleep(0.1)


# Every value that outlives a command set to one size, queues empty: what the heap holds after it
# can be compared with what it held after it before.
TIDY = b"".join(
    b"AT+%s\n" % line
    for line in (
        *[b"CONF Topic%d=%s" % (n, b"t" * 32) for n in range(1, 17)],
        b"CONF TopicRoot=root",
        b"CONF QoS=1",
        # Its code is loaded within a second, and stays.
        b"CONF Defender=86400",
        b"CONF NTPServer=localhost",
        b"DIAG LOG INFO",
        *[b"EVENT?"] * 40,
        *[b"GET"] * 130,
        b"SEND a b",
        b"SEND1 b",
        b"GET1",
        *[b"UNSUBSCRIBE%d" % n for n in range(1, 17)],
        b"STAT? Overflow",
        b"CONF? About",
        b"CONNECT?",
        b"TIME?",
        b"WHERE?",
        b"DIAG LOG",
        b"DIAG HEAP",
        b"DIAG INFO",
        b"DIAG SCAN x",
        b"DIAG PING",
        b"SLEEP never",
        b"CONF RootCA=x",
        b"CONF HOTAcertificate=-----BEGIN CERTIFICATE-----",
        b"CONF? RootCA",
        b"CONF SSID=sim-ap",
        b"CONF Passphrase=sim-passphrase",
    )
)


def heap_used(module) -> int:
    """Tidy up, then the bytes in use that `DIAG HEAP` tells."""
    talk(module, TIDY, len(oracle.judge_all(TIDY)))
    time.sleep(1.5)
    reply = module.command(b"AT+DIAG HEAP").split()
    return int(reply[reply.index(b"used") + 1])
