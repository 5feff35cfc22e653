"""The module's reader of bundles and its boot record, against the tools that write them."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.ota import folders, unpack
from firmware.ota.header import ImageError
from tools.fleet import image_bundle


class Bytes:
    """An area in memory that notices what does not belong to the bundle."""

    def __init__(self, data, start, end):
        self._data = data
        self._start = start
        self._end = end

    def readinto(self, offset, buffer):
        assert self._start <= offset <= offset + len(buffer) <= self._end
        buffer[:] = self._data[offset : offset + len(buffer)]


def read(payload, start=256):
    """{name: content} as unpack.entries finds them."""
    data = b"\xee" * start + payload + b"\xee" * 20
    area = Bytes(data, start, start + len(payload))
    found = {}
    for name, at, size, crc in unpack.entries(area, start, len(payload)):
        content = data[at : at + size]
        if zlib.crc32(content) != crc:
            raise ImageError(b"wrong checksum")
        found[name.decode()] = content
    return found


PART = st.text("abXY09_-.", min_size=1, max_size=4).filter(lambda part: part[0] not in "-.")
NAMES = st.builds(
    lambda folder, rest: "/".join([folder, *rest]),
    st.sampled_from(["firmware", "lib"]),
    st.lists(PART, min_size=1, max_size=3),
)
FILES = st.dictionaries(NAMES, st.binary(max_size=20), min_size=1, max_size=6)


def packed(names):
    """A bundle of these names (bytes), whatever they are."""
    body = b"".join(struct.pack("<BLL", len(n), 3, zlib.crc32(b"abc")) + n + b"abc" for n in names)
    return b"OXLBUNDL" + struct.pack("<H", len(names)) + body


@settings(deadline=None, max_examples=200)
@given(FILES, st.integers(0, 300))
def test_it_reads_what_the_tool_packs(files, start):
    try:
        payload = image_bundle.pack(files)
    except image_bundle.ImageError:
        # A file that is a folder too.
        with pytest.raises(ImageError, match="a file is a folder"):
            read(packed(sorted(name.encode() for name in files)))
        return
    assert read(payload, start) == files


def same(payload):
    """Both readers agree, on contents or on their refusal."""
    try:
        wanted = image_bundle.unpack(payload)
    except image_bundle.ImageError:
        with pytest.raises(ImageError) as told:
            read(payload)
        assert len(told.value.args[0]) < 64
    else:
        assert read(payload) == wanted


RAW = st.binary(max_size=9) | NAMES.map(str.encode)


@settings(deadline=None, max_examples=300)
@given(st.lists(RAW, max_size=5))
def test_names_and_their_order(names):
    same(packed(names))
    same(packed(sorted(names)))


@pytest.mark.parametrize(
    "name",
    [b"boot.py", b"main.py", b"lib", b"lib/", b"/lib/a", b"lib/../../boot.py", b"lib/./a",
     b"lib//a", b"lib/a/", b"lib\\a", b"lib/.a", b"lib/-a", b"lib/a b", b"lib/\xff", b"lib/a\0",
     b"app/a", b"Lib/a", b"", b"/", b"lib/a\n", b"firmware", b"lib/@", b"lib/[", b"lib/{",
     b"lib/a:b", b"libx/a", "lib/é".encode()],
)  # fmt: skip
def test_hostile_names(name):
    assert not unpack.allowed(name)
    same(packed([name]))
    with pytest.raises(ImageError, match="bad name"):
        read(packed([name]))


@pytest.mark.parametrize("name", [b"lib/a", b"firmware/a/_b/0c-.d", b"lib/" + b"x" * 251])
def test_good_names(name):
    assert unpack.allowed(name)
    assert read(packed([name])) == {name.decode(): b"abc"}


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "no files"),
        ([b"lib/b", b"lib/a"], "bad name"),
        ([b"lib/a", b"lib/a"], "bad name"),
        ([b"lib/a", b"lib/a/b"], "a file is a folder"),
        # With others in between.
        ([b"lib/a", b"lib/a-b", b"lib/a.c/d", b"lib/a/b"], "a file is a folder"),
        ([b"lib/a", b"lib/a-", b"lib/a--", b"lib/a--/b"], "a file is a folder"),
        ([b"lib/a", b"lib/a-", b"lib/a--", b"lib/a-/b"], "a file is a folder"),
    ],
)
def test_bundles_that_are_refused(names, why):
    same(packed(names))
    with pytest.raises(ImageError, match=why):
        read(packed(names))


def test_a_file_and_others_that_begin_with_its_name():
    names = [b"lib/a", b"lib/a-", b"lib/a-b/c", b"lib/a.b", b"lib/a0/b", b"lib/b"]
    assert len(read(packed(names))) == 6


@settings(deadline=None)
@given(FILES.filter(lambda files: len(files) < 3), st.data())
def test_a_bundle_that_ends_early_or_late(files, data):
    payload = packed(sorted(name.encode() for name in files))
    end = data.draw(st.integers(0, len(payload) - 1))
    same(payload[:end])
    same(payload + b"\0")
    with pytest.raises(ImageError):
        read(payload[:end])
    with pytest.raises(ImageError):
        read(payload + b"\0")


@settings(deadline=None)
@given(FILES, st.data())
def test_flipped_bits(files, data):
    payload = bytearray(packed(sorted(name.encode() for name in files)))
    for _ in range(data.draw(st.integers(1, 3))):
        bit = data.draw(st.integers(0, len(payload) * 8 - 1))
        payload[bit // 8] ^= 1 << bit % 8
    same(bytes(payload))


@pytest.mark.parametrize("size", [4, 1000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_size_beyond_the_end(size):
    payload = b"OXLBUNDL\x01\0" + struct.pack("<BLL", 5, size, 0) + b"lib/a" + b"abc"
    with pytest.raises(ImageError, match="ends early"):
        read(payload)


# -- the boot record --


@pytest.mark.parametrize("letter", ["a", "b"])
@pytest.mark.parametrize("state", [b"v", b"n", b"p"])
def test_the_record(letter, state):
    data = folders.pack(letter, state)
    body = b"OXB" + letter.encode() + state
    assert data == body + struct.pack("<L", zlib.crc32(body))
    assert folders.parse(data) == (letter, state)
    for bit in range(len(data) * 8):
        other = bytearray(data)
        other[bit // 8] ^= 1 << bit % 8
        assert folders.parse(bytes(other)) is None
    for end in range(len(data)):
        assert folders.parse(data[:end]) is None
    assert folders.parse(data + b"\0") is None


@given(st.binary(max_size=12))
def test_no_bytes_are_a_record_by_chance(data):
    assert folders.parse(data) is None


@pytest.mark.parametrize("body", [b"OXBcv", b"OXBav", b"OXCav", b"OXBax"])
def test_letters_and_states_that_do_not_exist(body):
    found = folders.parse(body + struct.pack("<L", zlib.crc32(body)))
    assert found == (("a", b"v") if body == b"OXBav" else None)
