"""The flood of hostile lines by both roads, with its figures: `run_inside`, `run_terminal`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests_host.fuzz import batches, oracle, terminal
from tests_host.fuzz.inside import Inside
from tests_host.fuzz.lines import Lines
from tools.sim.module import VirtualModule

BATCH = 100
# Lines that the VM is given between two power cycles, by the road inside.
_CHUNK = 20000
# What may be held at the end more than at the beginning, in bytes, however many lines there were:
# values of other lengths live in what is kept, and the collector takes a number for an address
# now and then.
HEAP_BOUND = 2048

# What brings the most names.
_WARM = (b"DIAG INFO", b"DIAG HEAP", b"DIAG SCAN", b"DIAG PING localhost 1", b"TIME?", b"STAT? X")


class Wrong(AssertionError):
    """A reply that should not be, with the lines that bring it about."""


@dataclass
class Figures:
    """What a flood came to."""

    lines: int = 0
    replies: int = 0
    seconds: float = 0.0
    heap_before: int = 0
    heap_after: int = 0

    def __str__(self):
        rate = self.lines / self.seconds if self.seconds else 0
        return (
            f"{self.lines} lines, {self.replies} replies, {rate:.0f} lines/s, "
            f"heap {self.heap_before} -> {self.heap_after} bytes"
        )

    def check_heap(self) -> None:
        """Raise Wrong when the heap has grown."""
        if self.heap_after > self.heap_before + HEAP_BOUND:
            raise Wrong(f"the heap has grown: {self}")


def _tell(seed: int, why: str, batch: list[bytes], trace: str = "") -> Wrong:
    shown = "\n".join(f"  {item if len(item) < 500 else item[:500] + b'...'!r}" for item in batch)
    return Wrong(f"seed {seed}: {why}\n{len(batch)} items are enough:\n{shown}\n{trace}")


def run_inside(folder: Path, cloud: Path, count: int, seed: int, *options: str) -> Figures:
    """`count` lines through a UART that is a file; raises Wrong."""
    figures = Figures()
    source = Lines(seed)
    with Inside(folder, cloud, *options) as inside:
        warm = batches.stream_of([Lines(seed + 1).batch(BATCH)]) + terminal.TIDY
        # Twice: what the first leaves behind in the flash is loaded at the second start.
        inside.run(warm)
        inside.run(warm)
        figures.heap_before = inside.heap
        while figures.lines < count:
            wanted = min(_CHUNK, count - figures.lines)
            given = [source.batch(BATCH) for _ in range((wanted + BATCH - 1) // BATCH)]
            replies = inside.run(batches.stream_of(given))
            _check_inside(inside, given, replies, seed)
            figures.lines += batches.lines_in(given)
            figures.replies += len(replies.lines)
            figures.seconds += inside.seconds
            inside.run(batches.stream_of(given[-50:]) + terminal.TIDY)
            figures.heap_after = max(figures.heap_after, inside.heap)
    figures.check_heap()
    return figures


def _check_inside(inside, given, replies, seed):
    at, why = batches.first_wrong(given, replies)
    trace = inside.trace()
    if at < 0 and not trace:
        return

    def wrong(items):
        found = batches.first_wrong([items], inside.run(batches.stream_of([items])))[1]
        return found or inside.trace()

    for number in [at] if at >= 0 else range(len(given)):
        if wrong(given[number]):
            found = batches.shrink(given[number], wrong)
            wrong(found)
            raise _tell(seed, why, found, inside.trace())
    raise _tell(seed, why, [b"no batch does it alone"], trace)


def run_terminal(module: VirtualModule, count: int, seed: int, online: bool) -> Figures:
    """`count` lines through the module's terminal; raises Wrong.

    online: the module gets connected first, and again whenever it is not."""
    figures = Figures()
    source = Lines(seed, online)
    host = terminal.Terminal(module, seed)
    if online:
        terminal.online(module)
    # Whatever is made at the first use has been made: every name that a command brings is kept
    # for ever, and MicroPython's table of them doubles now and then (14 KB here).
    own = module.command(b"AT+CONF? Certificate")[3:]
    for line in (*_WARM, b"CONF OTAcertificate=" + own, b"CONF RootCA=" + own):
        module.command(b"AT+" + line)
    host.wrong(Lines(seed + 1, online).batch(BATCH))
    figures.heap_before = terminal.heap_used(module)
    while figures.lines < count:
        batch = source.batch(BATCH)
        why = host.wrong(batch)
        if why:
            trace = host.trace()
            raise _tell(seed, why, batch if online else host.shrink(batch), trace)
        figures.lines += batches.lines_in([batch])
        figures.replies += len(oracle.judge_all(b"".join(batch)))
        figures.seconds += host.seconds
        if online and module.command(b"AT+CONNECT?") != b"OK 1":
            raise _tell(seed, "the connection was lost: " + module.console()[-800:], batch)
    figures.heap_after = terminal.heap_used(module)
    figures.check_heap()
    return figures
