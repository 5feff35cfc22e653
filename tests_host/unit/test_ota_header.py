"""The module's view of an image's header, against the tool that writes them (docs/updates.md)."""

import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from firmware.ota import header
from firmware.ota.header import BUNDLE, SLOT, ImageError
from tools.fleet import image_header

TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=7)
NUMBERS = st.builds(
    lambda *parts: ".".join(map(str, parts)), *[st.integers(0, 99999) for _ in range(3)]
)
HEADERS = st.builds(
    image_header.Header,
    kind=st.sampled_from([SLOT, BUNDLE]),
    vendor=TEXTS,
    model=TEXTS,
    chip=st.sampled_from(["esp32", "esp32s3", "esp32c3"]),
    version=NUMBERS,
    security=st.integers(0, 2**32 - 1),
    length=st.integers(1, 2**32 - 257),
    sha256=st.binary(min_size=32, max_size=32),
)
GOOD = image_header.Header(
    BUNDLE, "open-expresslink", "any", "any", "1.2.3", 4, 1000, bytes(range(32))
)


def sealed(data):
    """`data` with the CRC that it has to have, so that what is behind that check is reached."""
    return data[:252] + struct.pack("<L", zlib.crc32(data[:252]))


@settings(deadline=None)
@given(HEADERS)
def test_what_the_tool_writes_is_read(made):
    found = header.parse(made.pack())
    assert (found.kind, found.security, found.length) == (made.kind, made.security, made.length)
    for name in ("vendor", "model", "chip", "version"):
        assert getattr(found, name) == getattr(made, name).encode()
    assert found.digest == made.sha256


@settings(deadline=None)
@given(st.integers(0, 256 * 8 - 1))
def test_every_flipped_bit_is_noticed(bit):
    data = bytearray(GOOD.pack())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ImageError):
        header.parse(bytes(data))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise(data):
    for start in (b"", b"OXLIMAGE"):
        with pytest.raises(ImageError):
            header.parse(start + data)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(range(252)), st.binary(min_size=1, max_size=40))
@example(9, b"\3")  # a kind that does not exist
@example(76, b"esp32\0\0\0")  # a text that ends and goes on
@example(92, b"1.2.3".ljust(32, b"."))  # one that does not end
@example(92, b"1.2.03")
@example(92, b"1.2.100000")
@example(92, b"1.2.")
@example(92, b"1.2.3.4")
@example(92, "1.2.٣".encode())
@example(12, b"\xff")
@example(12, b"a\x1b")
@example(12, b"a\x7f")
@example(12, b"\0" * 32)
@example(128, b"\0\0\0\0")
@example(128, b"\xff\xff\xff\xff")
@example(164, b"\1")
def test_it_takes_what_the_tool_takes_and_nothing_else(at, new):
    data = GOOD.pack()
    data = sealed((data[:at] + new + data[at + len(new) :])[:252])
    try:
        image_header.parse(data)
        good = True
    except image_header.ImageError as error:
        # Of characters that cannot be printed it knows those of ASCII alone.
        assume("can be printed" not in str(error) or any(c < 32 for c in new) or 127 in new)
        good = False
    if good:
        header.parse(data)
    else:
        with pytest.raises(ImageError) as told:
            header.parse(data)
        reason = told.value.args[0]
        assert isinstance(reason, bytes)
        assert len(reason) < 64
        assert reason.decode().isprintable()


@pytest.mark.parametrize("size", [0, 1, 8, 255])
def test_too_short(size):
    with pytest.raises(ImageError, match="no module image"):
        header.parse(GOOD.pack()[:size])


def test_what_is_behind_the_header_does_not_matter():
    assert header.parse(memoryview(GOOD.pack() + b"more")).version == b"1.2.3"


SLOT_IMAGE = replace(GOOD, kind=SLOT, chip="esp32s3", model="ESP32-S3-DevKitC-1")


def refuse(made, kind=BUNDLE, security=4, size=1256):
    found = header.parse(made.pack())
    header.refuse(found, kind, "ESP32-S3-DevKitC-1", "esp32s3", security, size)


def test_images_that_suit():
    refuse(GOOD)
    refuse(replace(GOOD, model="ESP32-S3-DevKitC-1", chip="esp32s3"), security=0)
    refuse(SLOT_IMAGE, SLOT)


@pytest.mark.parametrize(
    ("made", "given", "why"),
    [
        (GOOD, {"kind": SLOT}, b"not a slot image"),
        (SLOT_IMAGE, {"kind": BUNDLE}, b"not a bundle"),
        (GOOD, {"kind": 0}, b"this build takes no module images"),
        (SLOT_IMAGE, {"kind": 0}, b"this build takes no module images"),
        (replace(GOOD, vendor="open-expresslink2"), {}, b"image of another vendor"),
        (replace(GOOD, model="Any"), {}, b"image for the model Any"),
        (replace(SLOT_IMAGE, model="ESP32-DevKitC"), {"kind": SLOT},
         b"image for the model ESP32-DevKitC"),
        (replace(SLOT_IMAGE, chip="esp32"), {"kind": SLOT}, b"image for the chip esp32"),
        (GOOD, {"security": 5}, b"security version 4 is below 5"),
        (GOOD, {"size": 1255}, b"image of 1255 bytes, header says 1256"),
        (GOOD, {"size": 1257}, b"image of 1257 bytes, header says 1256"),
        (GOOD, {"size": 1000}, b"image of 1000 bytes, header says 1256"),
    ],
)  # fmt: skip
def test_images_that_do_not_suit(made, given, why):
    with pytest.raises(ImageError) as told:
        refuse(made, **given)
    assert told.value.args[0] == why


@settings(deadline=None)
@given(NUMBERS, NUMBERS)
def test_versions_compare_as_numbers(one, other):
    ours = header.numbers(one.encode()) < header.numbers(other.encode())
    assert ours == (image_header.version_numbers(one) < image_header.version_numbers(other))
    assert header.numbers(b"0.9.10") < header.numbers(b"0.10.9")


@settings(deadline=None)
@given(st.from_regex(r"[0-9.]{0,12}", fullmatch=True) | st.text(max_size=6))
def test_what_is_a_version(text):
    try:
        image_header.version_numbers(text)
    except image_header.ImageError:
        with pytest.raises(ImageError):
            header.numbers(text.encode())
    else:
        header.numbers(text.encode())
