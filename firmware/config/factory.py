"""Reads the factory files at the start; dropped from memory then.

One of them, `sums`, has a line for each of the others, `name CRC-32` (hexadecimal), and a last one
for the lines before it.
"""

import binascii
import json

from firmware.config import identity


def load(uid):
    """The module's `identity.Identity`. uid: the chip's own number, as bytes."""
    made = identity.Identity("".join("%02x" % c for c in uid).encode())
    _check_sums(made)
    info = made.sound("module.json")
    try:
        info = _texts(json.loads(info)) if info else {}
    except ValueError as error:
        made.note("module.json", error)
        info = {}
    made.board = info.get("board", "")
    made.endpoint = info.get("endpoint", "").encode()
    made.ntp = info.get("ntp", "pool.ntp.org").encode()
    made.template = info.get("template", "").encode()
    made.about = info.get("about", "").encode()
    made.thing = info.get("thing", "").encode() or made.uid
    made.certified = bool(made.certificate())
    made.born = (made.certified, made.thing)
    return made


def _texts(info):
    """`info` if it is a dictionary of texts. Raises ValueError."""
    if not isinstance(info, dict):
        raise ValueError("no description")
    for value in info.values():
        if not isinstance(value, str):
            raise ValueError("not a text")
    return info


def _check_sums(made):
    """Note the files that are damaged."""
    lines = identity.read("sums").split(b"\n")
    if len(lines) < 2:
        # Made before there were sums.
        return
    body = b"\n".join(lines[:-2]) + b"\n"
    if lines[-2] != b"sums %08x" % binascii.crc32(body):
        # Nothing can be said of the others then.
        made.note("sums", "checksum")
        return
    for line in lines[:-2]:
        name, _, wanted = line.partition(b" ")
        name = name.decode()
        if wanted != b"%08x" % binascii.crc32(identity.read(name)):
            made.note(name, "checksum")
