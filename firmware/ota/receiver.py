"""Takes the pieces of one file and puts them where it is kept, straight into flash.

What counts is what the flash gives back: every piece is read again after it was written, compared
by its CRC, and hashed then, in the file's order.
"""

import asyncio
import hashlib
from binascii import crc32

from micropython import const

from firmware.ota.fault import Fault

# Bytes of a piece: a sector of flash, and a block of a stream.
BLOCK = const(4096)

# How many blocks from `done` on may be in flash before it moves on.
_AHEAD = const(16)

# Where blocks have to be written in order, this many of them are read back together: to read what
# was just written makes a filesystem finish a sector early, and begin it again.
_BATCH = const(4)

# The header of a module image, and what is held back of what is behind it (area.py).
_HEAD = const(272)

# Bytes that are read at a time after a restart, and at least when blocks are read back.
_PIECE = const(512)


class Failed(Fault):
    """A download that nothing can complete any more; the argument (bytes) says why."""


class Receiver:
    """One file on its way into an area.

    size: bytes of the file, at least 1. area: where it is kept (`area.py`). skip: how many of its
    first bytes are not kept there, less than BLOCK. check: function(head) that is called with the
    file's first 272 bytes (fewer if it is shorter) before anything behind the first block is
    taken, and raises what it has against them.

    For others to read: `head`, those first bytes, b"" while they are missing; `done`, how many
    bytes are in flash and hashed; `ahead`, the offsets of blocks behind them that are in flash
    already, with their CRCs; `error`, what has ended it: Failed, or what `check` has raised.

    Failed when the file is empty or does not fit into the area.
    """

    def __init__(self, size, area, skip=0, check=None):
        if size <= 0:
            raise Failed(b"empty file")
        if size - skip > area.size:
            raise Failed(b"too large for " + area.name)
        self.size = size
        self.head = b""
        self.done = 0
        self.ahead = {}
        self.error = None
        self._area = area
        self._skip = skip
        self._check = check
        # Where in the area writing has begun; None while it has not.
        self._start = None
        self._sha = hashlib.sha256()
        self._digest = b""
        self._ordered = getattr(area, "ordered", False)

    @property
    def complete(self):
        """True when all of the file is there."""
        return self.done == self.size

    def digest(self):
        """SHA-256 of the file, once it is complete: of what the flash has given back."""
        if not self._digest:
            self._digest = self._sha.digest()
        return self._digest

    async def resume(self, done, head):
        """Take over what is there from before a restart, before anything else is put.

        done: how many bytes, a multiple of BLOCK or all of them, had been received and synced;
        `self.done` may then be less. head: the file's first 272 bytes. Raises Failed, and what
        `check` raises."""
        size = self.size
        skip = self._skip
        if done < size:
            # What begins in the middle of a sector begins at that sector's beginning again.
            done = max(0, done // BLOCK * BLOCK - skip) // BLOCK * BLOCK
        if not 0 < done <= size or len(head) != min(_HEAD, size):
            return
        try:
            self._see(head)
            self._sha.update(self.head[:skip])
            hold = getattr(self._area, "hold", 0)
            if hold:
                self._area.write(0, self.head[skip : skip + hold])
            at = 0
            end = done - skip
            scratch = memoryview(bytearray(_PIECE))
            while at < end:
                at += len(self._read(at, end, scratch))
                await asyncio.sleep_ms(0)
            if done < size:
                # The beginning of the sector is at the end of a block whose beginning is kept.
                self._start = done
                self._area.start(done)
        except Exception as error:  # noqa: BLE001
            self._end(error)
            raise self.error
        self.done = done

    def put(self, offset, view):
        """Take the bytes `view` that begin at `offset` in the file: a whole block, or the file's
        end. True when it was taken. The first block comes first; the others may come in any
        order, within limits, if the area does not mind.

        `view` is written over: what is read back needs no memory of its own. Never raises: see
        `error`."""
        index = (offset - self.done) // BLOCK
        ahead = self.ahead
        size = len(view)
        if (
            self.error
            or offset % BLOCK
            or not 0 <= index < _AHEAD
            or offset in ahead
            or size != min(BLOCK, self.size - offset)
            or (offset and not self.head)
            or (self._ordered and index != len(ahead))
        ):
            return False
        try:
            if not self.head:
                self._see(view)
            if self._start is None:
                self._area.start(0)
                self._start = 0
            at = offset - self._skip
            # What is not kept, or is kept already.
            less = max(0, self._start - at)
            if less < size:
                self._area.write(at + less, view[less:] if less else view)
            ahead[offset] = crc32(view)
            if not self._ordered or index >= _BATCH - 1 or offset + size == self.size:
                if size < _PIECE:
                    view = memoryview(bytearray(_PIECE))
                while self.done in ahead:
                    self._advance(view)
        except Exception as error:  # noqa: BLE001
            self._end(error)
            return False
        return True

    def _see(self, view):
        """Look at the file's first bytes."""
        head = bytes(view[:_HEAD])
        if self._check:
            try:
                self._check(head)
            except MemoryError:
                raise
            except Exception as error:
                self.error = error
                raise
        self.head = head

    def _end(self, error):
        """It has ended with `error`: what the first look has against it stays as it is."""
        if self.error is None:
            self.error = error if isinstance(error, Failed) else Failed(_reason(error))

    def _advance(self, scratch):
        """Read the next block back, hash it, compare its CRC."""
        offset = self.done
        at = offset - self._skip
        end = min(offset + BLOCK, self.size) - self._skip
        crc = 0
        if at < 0:
            head = self.head[: min(-at, self.size)]
            self._sha.update(head)
            crc = crc32(head)
            at = 0
        while at < end:
            piece = self._read(at, end, scratch)
            crc = crc32(piece, crc)
            at += len(piece)
        if crc != self.ahead.pop(offset):
            raise Failed(b"flash does not hold what was written")
        self.done = end + self._skip

    def _read(self, at, end, scratch):
        """Hash a piece of the area, and return it: as much from `at` on as `scratch` holds, but no
        farther than `end`."""
        piece = scratch[: end - at] if end - at < len(scratch) else scratch
        self._area.readinto(at, piece)
        self._sha.update(piece)
        return piece


def _reason(error):
    """What a host can be told of an exception of the area."""
    if isinstance(error, OSError):
        return b"flash fault, errno %d" % (error.errno or 0)
    if isinstance(error, MemoryError):
        return b"no memory"
    if error.args and isinstance(error.args[0], bytes):
        return error.args[0]
    return b"internal error, " + type(error).__name__.encode()
