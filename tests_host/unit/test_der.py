"""The DER reader: what is DER, what is only BER, and what is neither."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib import der
from lib.der import DerError, Reader


def tlv(tag: int, content: bytes) -> bytes:
    """A value, its length as short as can be."""
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_lengths(size):
    data = tlv(der.OCTET_STRING, b"x" * size)
    reader = Reader(data + b"rest")
    assert reader.content(der.OCTET_STRING) == b"x" * size
    assert reader.peek() == ord("r")
    reader = Reader(data)
    assert reader.value() == data
    assert reader.peek() == -1
    reader.end()
    with pytest.raises(DerError):
        Reader(data[:-1] if size else data[:1]).content()


@pytest.mark.parametrize(
    "data",
    [
        "",
        "04",
        "0401",
        "0480",  # a length that is not told
        "04800000",
        "048100",  # lengths that are longer than they need be
        "04817f" + 127 * "00",
        "04820080" + 128 * "00",
        "0483000100" + 256 * "00",
        "0484000000ff" + 255 * "00",
        "0484ffffffff",
        "04ffffffff",
        "0483ffffff00",
        "0481",
        "048201",
        "1f0100",  # a tag of several bytes
        "3f0100",
    ],
)
def test_values_that_are_refused(data):
    data = bytes.fromhex(data)
    for read in ("content", "value"):
        with pytest.raises(DerError):
            getattr(Reader(data), read)()
    with pytest.raises(DerError):
        Reader(data).enter(0x04)


def test_the_tag_must_be_right():
    data = tlv(der.INTEGER, b"\x05")
    for read in ("content", "value", "enter"):
        with pytest.raises(DerError, match="tag 02"):
            getattr(Reader(data), read)(der.SEQUENCE)
    for read in ("boolean", "bits", "octets", "oid"):
        with pytest.raises(DerError, match="tag 02"):
            getattr(Reader(data), read)()
    with pytest.raises(DerError, match="tag 04"):
        Reader(tlv(der.OCTET_STRING, b"")).integer()


def test_what_is_inside_ends_where_its_value_ends():
    inner = tlv(der.INTEGER, b"\x05")
    reader = Reader(tlv(der.SEQUENCE, inner) + tlv(der.SEQUENCE, inner * 2))
    first = reader.enter(der.SEQUENCE)
    with pytest.raises(DerError):
        reader.end()
    second = reader.enter(der.SEQUENCE)
    reader.end()
    assert first.integer() == 5
    first.end()
    with pytest.raises(DerError):
        first.integer()
    assert second.integer() == 5
    with pytest.raises(DerError):
        second.end()
    # Values that would reach beyond the one around them, into bytes that are there.
    for inner in ("020205", "0281", "028201", "02"):
        inner = bytes.fromhex(inner)
        reader = Reader(tlv(der.SEQUENCE, inner) + b"\x81" + b"\x05" * 200)
        with pytest.raises(DerError):
            reader.enter(der.SEQUENCE).integer()


@given(st.integers(-(2**600), 2**600) | st.integers(-70000, 70000))
@example(-128)
@example(-129)
@example(127)
@example(128)
def test_integers(value):
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    content = value.to_bytes(size, "big", signed=True)
    data = tlv(der.INTEGER, content)
    assert Reader(data).integer() == value
    if value >= 0:
        assert Reader(data).unsigned() == value
    else:
        with pytest.raises(DerError):
            Reader(data).unsigned()
    longer = tlv(der.INTEGER, (b"\x00" if value >= 0 else b"\xff") + content)
    with pytest.raises(DerError):
        Reader(longer).integer()


def test_an_integer_has_at_least_a_byte():
    with pytest.raises(DerError):
        Reader(b"\x02\x00").integer()


def test_booleans():
    assert Reader(b"\x01\x01\xff").boolean() is True
    assert Reader(b"\x01\x01\x00").boolean() is False
    for bad in (b"\x01\x00", b"\x01\x01\x01", b"\x01\x02\xff\xff", b"\x01\x01"):
        with pytest.raises(DerError):
            Reader(bad).boolean()


def test_bit_strings():
    assert Reader(b"\x03\x01\x00").bits() == (b"", 0)
    assert Reader(b"\x03\x02\x00\xff").octets() == b"\xff"
    assert Reader(b"\x03\x02\x05\xa0").bits() == (b"\xa0", 5)
    for bad in (b"\x03\x00", b"\x03\x01\x01", b"\x03\x02\x08\x00", b"\x03\x02\x05\xb0"):
        with pytest.raises(DerError):
            Reader(bad).bits()
    with pytest.raises(DerError):
        Reader(b"\x03\x02\x05\xa0").octets()


@given(
    st.integers(0, 2),
    st.integers(0, 39),
    st.lists(st.integers(0, 2**70) | st.integers(0, 300), max_size=8),
)
def test_object_identifiers(first, second, rest):
    def base128(arc):
        encoded = [arc & 0x7F]
        while arc := arc >> 7:
            encoded.append(arc & 0x7F | 0x80)
        return bytes(reversed(encoded))

    content = b"".join(map(base128, [first * 40 + second, *rest]))
    oid = Reader(tlv(der.OID, content)).oid()
    assert oid == content
    if len(oid) <= 40:
        assert der.dotted(oid) == ".".join(map(str, [first, second, *rest]))


def test_object_identifiers_of_certificates():
    assert der.dotted(bytes.fromhex("2a8648ce3d030107")) == "1.2.840.10045.3.1.7"
    assert der.dotted(bytes.fromhex("883701")) == "2.999.1"
    assert der.dotted(bytes.fromhex("551d13")) == "2.5.29.19"
    assert der.dotted(b"\x2a" + b"\x01" * 1000).count(".") == 40
    assert der.dotted(b"\x2a" + b"\xff" * 1000 + b"\x01") == "1.2"
    for bad in ("0600", "060180", "06022a80", "06022a81", "0603802a01", "06042a80802a"):
        with pytest.raises(DerError):
            Reader(bytes.fromhex(bad)).oid()


_READS = ["content", "value", "integer", "unsigned", "boolean", "bits", "octets", "oid", "enter"]


@settings(max_examples=500)
@given(st.binary(max_size=60), st.lists(st.sampled_from(_READS), min_size=1, max_size=10))
def test_nothing_but_der_errors(data, reads):
    """Whatever the bytes are; a reader never gives more than there is."""
    reader = Reader(data)
    for read in reads:
        tag = reader.peek()
        assert -1 <= tag <= 255
        start = reader.at
        try:
            if read == "enter":
                inner = reader.enter(tag)
                assert start < inner.at <= inner.stop == reader.at <= len(data)
                reader = inner
            else:
                result = getattr(reader, read)()
                assert read != "value" or result == data[start : reader.at]
        except DerError:
            return
        assert start < reader.at <= len(data) or read == "enter"
