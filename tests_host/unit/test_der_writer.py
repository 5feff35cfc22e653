"""The DER writer: what it writes is what lib.der and the cryptography package read."""

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from lib import der, der_writer
from tests_host.unit.test_der import tlv


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_lengths(size):
    assert der_writer.value(der.OCTET_STRING, b"x" * size) == tlv(der.OCTET_STRING, b"x" * size)


@pytest.mark.parametrize(
    "number, content",
    [
        (0, "00"),
        (1, "01"),
        (0x7F, "7f"),
        (0x80, "0080"),
        (0xFF, "00ff"),
        (0x100, "0100"),
        (0x7FFF, "7fff"),
        (0x8000, "008000"),
        (1 << 255, "0080" + "00" * 31),
        ((1 << 255) - 1, "7f" + "ff" * 31),
    ],
)
def test_integers_are_as_short_as_can_be(number, content):
    content = bytes.fromhex(content)
    assert der_writer.unsigned(number) == bytes([2, len(content)]) + content


def test_negative_numbers_are_refused():
    for number in (-1, -128, -(1 << 300)):
        with pytest.raises(ValueError, match="negative"):
            der_writer.unsigned(number)


@given(st.integers(0, 2**600), st.integers(0, 2**600))
def test_pairs_of_numbers_are_read_by_both(r, s):
    data = der_writer.value(der.SEQUENCE, der_writer.unsigned(r), der_writer.unsigned(s))
    assert decode_dss_signature(data) == (r, s)
    reader = der.Reader(data)
    pair = reader.enter(der.SEQUENCE)
    reader.end()
    assert (pair.unsigned(), pair.unsigned()) == (r, s)
    pair.end()


_TREES = st.recursive(
    st.binary(max_size=140) | st.integers(0, 2**70),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=30,
)


def _write(tree) -> bytes:
    if isinstance(tree, list):
        return der_writer.value(der.SEQUENCE, *map(_write, tree))
    if isinstance(tree, int):
        return der_writer.unsigned(tree)
    return der_writer.value(der.OCTET_STRING, tree)


def _read(reader):
    tag = reader.peek()
    if tag == der.INTEGER:
        return reader.unsigned()
    if tag == der.OCTET_STRING:
        return reader.content(tag)
    inner = reader.enter(der.SEQUENCE)
    tree = []
    while inner.peek() >= 0:
        tree.append(_read(inner))
    return tree


@given(_TREES)
def test_any_tree_is_read_again(tree):
    reader = der.Reader(_write(tree))
    assert _read(reader) == tree
    reader.end()


def test_parts_need_not_be_bytes():
    written = der_writer.value(der.OCTET_STRING, memoryview(b"ab"), bytearray(b"cd"))
    assert written == b"\x04\x04abcd"
