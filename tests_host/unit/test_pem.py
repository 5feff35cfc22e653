"""PEM, judged by the cryptography package."""

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import pem


@pytest.fixture(scope="module")
def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    start = datetime.datetime(2026, 1, 1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def test_pem_lines_are_what_cryptography_writes(certificate):
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert b"".join(pem.lines(der)) == certificate.public_bytes(serialization.Encoding.PEM)


def _pem(der, width=64, end=b"\n"):
    text = base64.b64encode(der)
    lines = [text[i : i + width] for i in range(0, len(text), width)]
    return end.join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


@settings(max_examples=300)
@given(
    st.lists(st.binary(min_size=1, max_size=400), max_size=3),
    st.sampled_from([1, 2, 3, 5, 64, 76, 255, 256, 257, 5000]),
    st.sampled_from([b"\n", b"\r\n", b" \n", b"\n\n"]),
)
def test_decode_gives_back_what_was_encoded(values, width, end):
    text = b"".join(b"some text\n" + _pem(value, width, end) for value in values)
    assert pem.decode(text) == values
    assert pem.decode(b"-----\n" + text + b"\nmore, and no last LF") == values


def test_decode_reads_what_lines_writes(certificate):
    der = certificate.public_bytes(serialization.Encoding.DER)
    text = b"".join(pem.lines(der))
    assert pem.decode(text * 3) == [der] * 3
    assert pem.decode(text[:-1]) == [der]


def test_blocks_of_another_kind_are_passed_over(certificate):
    der = certificate.public_bytes(serialization.Encoding.DER)
    other = _pem(b"x" * 100).replace(b"CERTIFICATE", b"EC PARAMETERS")
    assert pem.decode(other) == []
    assert pem.decode(other + _pem(der) + other) == [der]


_GOOD = _pem(bytes(range(100)))


@pytest.mark.parametrize(
    "bad",
    [
        b"AT+CONF? Version",
        b"-----BEGIN CERTIFICATE-----",
        b"-----END EC PRIVATE KEY-----",
        b"-----END CERTIFICATE",
        b"AAAA*AAA",
        b"AA AA",
        b"AAAA=AAA",
        b"AA==AAAA",
        b"AAA",
        b"====",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
    ],
)
@pytest.mark.parametrize("line", [1, 2, 3])
def test_junk_inside_a_block(bad, line):
    lines = _GOOD.split(b"\n")
    lines.insert(line, bad)
    with pytest.raises(ValueError):
        pem.decode(b"\n".join(lines))


def test_a_block_that_does_not_end_or_ends_early():
    lines = _GOOD.split(b"\n")
    for count in range(1, len(lines) - 2):
        with pytest.raises(ValueError, match="END"):
            pem.decode(b"\n".join(lines[:count]))
    for characters in (1, 2, 3):
        short = lines[0] + b"\n" + lines[1][:-characters] + b"\n" + lines[-2]
        with pytest.raises(ValueError):
            pem.decode(short)


def test_characters_behind_the_padding():
    for tail in (b"AAAA", b"=", b"A"):
        with pytest.raises(ValueError):
            pem.decode(_pem(b"x" * 1000, 4).replace(b"==\n", b"==\n" + tail + b"\n"))
    # Bits that no byte takes must be zero.
    with pytest.raises(ValueError):
        pem.decode(_pem(b"\x00").replace(b"AA==", b"AB=="))


def test_the_decoder_starts_anew_after_an_error():
    decoder = pem.Decoder()
    lines = _GOOD.split(b"\n")
    assert decoder.line(b"noise") is None
    assert not decoder.inside
    assert decoder.line(memoryview(lines[0] + b"\r\n")) is None
    assert decoder.inside
    decoder.line(lines[1])
    assert decoder.inside
    with pytest.raises(ValueError):
        decoder.line(b"AT+CONF? Version\n")
    assert not decoder.inside
    assert decoder.line(lines[2]) is None
    assert decoder.line(lines[-2]) is None
    for _ in range(2):
        assert not decoder.ends(lines[-2])
        assert [decoder.line(line) for line in lines[:-2]] == [None] * (len(lines) - 2)
        assert not decoder.ends(lines[-2][:-1])
        assert decoder.ends(lines[-2] + b"\r")
        assert decoder.line(bytearray(lines[-2])) == bytes(range(100))
        assert not decoder.inside


def test_a_block_has_a_limit():
    assert pem.decode(_pem(b"x" * 4096)) == [b"x" * 4096]
    for width in (64, 10000):
        with pytest.raises(ValueError, match="long"):
            pem.decode(_pem(b"x" * 4097, width))
    decoder = pem.Decoder(limit=10)
    lines = _pem(b"x" * 11).split(b"\n")
    decoder.line(lines[0])
    with pytest.raises(ValueError, match="long"):
        decoder.line(lines[1])


@settings(max_examples=300)
@given(st.data())
def test_a_changed_character_is_found_or_changes_the_value(data):
    at = data.draw(st.integers(0, len(_GOOD) - 1))
    new = data.draw(st.integers(0, 255))
    text = _GOOD[:at] + bytes([new]) + _GOOD[at + 1 :]
    try:
        found = pem.decode(text)
    except ValueError:
        return
    if found == [bytes(range(100))]:
        # Only white space may differ.
        assert b"".join(text.split()) == b"".join(_GOOD.split())
    else:
        assert found == [] or len(found[0]) == 100


@pytest.mark.parametrize("label", [b"CERTIFICATE REQUEST", b"EC PRIVATE KEY"])
def test_other_labels_are_not_read_as_certificates(certificate, label):
    data = certificate.public_bytes(serialization.Encoding.DER)
    written = list(pem.lines(data, label))
    assert written[0] == b"-----BEGIN " + label + b"-----\n"
    assert written[-1] == b"-----END " + label + b"-----\n"
    assert written[1:-1] == list(pem.lines(data))[1:-1]
    assert pem.decode(b"".join(written)) == []
