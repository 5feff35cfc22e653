"""What devices may ask of a stream, and which blocks they get for it.

{"c": client token, "s": version, "f": file id, "l": block size, "o": first block,
 "n": number of blocks, "b": bitmap of the wanted ones, relative to the first}
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

MOST = 131072  # bytes that one request yields
LEAST_BLOCK, MOST_BLOCK = 256, 131072
LAST_OFFSET = 98304
MOST_BLOCKS = 98304
MOST_BITMAP = 12287  # bytes
_TOKEN = 64  # bytes
_GET = ("c", "s", "f", "l", "o", "n", "b")
_DESCRIBE = ("c",)


class StreamRefusal(ValueError):
    """A request that is rejected: `rule` names the rule, `code` is what the device gets."""

    def __init__(self, rule: str, code: str, text: str):
        super().__init__(text)
        self.rule = rule
        self.code = code


@dataclass(frozen=True)
class Get:
    """A request for blocks. `bitmap` None: all from `offset` on."""

    version: int | None
    file: int
    size: int
    offset: int
    count: int
    bitmap: bytes | None

    def blocks(self, length: int) -> list[int]:
        """The indices of the blocks that a file of so many bytes gives (rule `stream-blocks`).

        Bit k of byte j of the bitmap stands for block offset + 8j + k.
        """
        end = -(-length // self.size)
        if self.bitmap is None:
            wanted = range(self.offset, min(end, self.offset + self.count))
        else:
            wanted = [
                self.offset + 8 * j + k
                for j, byte in enumerate(self.bitmap)
                for k in range(8)
                if byte >> k & 1 and self.offset + 8 * j + k < end
            ]
        return list(wanted[: min(self.count, MOST // self.size)])


def token(body: dict) -> str | None:
    """The client token, which every answer repeats."""
    value = body.get("c")
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "replace")) <= _TOKEN:
        raise _bad(f"c is a text of 1 to {_TOKEN} bytes")
    return value


def check_describe(body: dict) -> None:
    """Raise StreamRefusal for a member that `describe` does not have."""
    _known(body, _DESCRIBE)


def read_get(form: str, body: dict) -> Get:
    """The request in `body`; raises StreamRefusal (rules `stream-request`, `stream-limits`)."""
    _known(body, _GET)
    file = _number(body, "f", None, 0, 255, "InvalidRequest")
    size = _number(body, "l", None, LEAST_BLOCK, MOST_BLOCK, "BlockSizeOutOfBounds")
    offset = _number(body, "o", 0, 0, LAST_OFFSET, "OffsetOutOfBounds")
    count = _number(body, "n", MOST // size, 0, MOST_BLOCKS, "BlockCountLimitExceeded")
    version = None
    if body.get("s") is not None:
        version = _number(body, "s", None, 0, 65535, "VersionMismatch")
    return Get(version, file, size, offset, count, _bitmap(form, body.get("b")))


def _known(body: dict, names: tuple) -> None:
    for name in body:
        if name not in names:
            raise _bad("a member that is not known")


def _number(body: dict, name: str, default, low: int, high: int, code: str) -> int:
    value = body.get(name)
    if value is None:
        if default is None:
            raise _bad(f"{name} is missing")
        return default
    if type(value) is not int:
        raise _bad(f"{name} is a whole number")
    if not low <= value <= high:
        raise StreamRefusal("stream-limits", code, f"{name} is {low} to {high}")
    return value


def _bitmap(form: str, value) -> bytes | None:
    """Hexadecimal digits in JSON, with or without 0x; bytes in CBOR."""
    if value is None:
        return None
    if form == "json":
        if not isinstance(value, str):
            raise _bad("b is a text of hexadecimal digits")
        try:
            value = binascii.unhexlify(value.removeprefix("0x"))
        except ValueError:
            raise _bad("b is a text of hexadecimal digits, two for a byte") from None
    if not isinstance(value, bytes):
        raise _bad("b is a byte string")
    if len(value) > MOST_BITMAP:
        text = f"b has more than {MOST_BITMAP} bytes"
        raise StreamRefusal("stream-limits", "BlockBitmapLimitExceeded", text)
    return value


def _bad(text: str) -> StreamRefusal:
    return StreamRefusal("stream-request", "InvalidRequest", text)
