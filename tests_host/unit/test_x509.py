"""Certificates: what is read, who signed them, and that nothing else ever happens; judged by the
cryptography package and by the certificates of PKITS."""

import asyncio
import datetime
import inspect
import itertools
import random
import warnings
from pathlib import Path

import pytest
from cryptography import x509 as theirs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import der, p256, pem, x509
from lib import rsa as our_rsa
from tests_host.unit import crypto_cases as cases
from tests_host.unit.test_der import tlv

_PKITS = cases.VECTORS / "x509/PKITS_data/certs"
_ROOTS = Path(__file__).parents[2] / "tools/flash/amazon_roots.pem"
_CRITICAL_CA = (theirs.BasicConstraints(ca=True, path_length=None), True)


def signed_by(certificate, key) -> bool:
    verdict = asyncio.run(x509.signed_by(certificate, key))
    assert verdict in (True, False)
    return verdict


def _usage(*names):
    every = inspect.signature(theirs.KeyUsage.__init__).parameters
    return theirs.KeyUsage(**{name: name in names for name in list(every)[1:]})


def _extended(*purposes):
    return theirs.ExtendedKeyUsage([theirs.ObjectIdentifier(each) for each in purposes])


def _load(data: bytes):
    """Their certificate; old and odd ones only make them warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return theirs.load_der_x509_certificate(data)


def _agree(ours, other) -> None:
    """Every field of ours is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ours.version == {theirs.Version.v1: 1, theirs.Version.v3: 3}[other.version]
        assert ours.serial == other.serial_number
        assert ours.issuer == other.issuer.public_bytes()
        assert ours.subject == other.subject.public_bytes()
        assert ours.not_before == other.not_valid_before_utc.timestamp()
        assert ours.not_after == other.not_valid_after_utc.timestamp()
        assert ours.signed == other.tbs_certificate_bytes
        assert ours.signature == other.signature
        oid = der.dotted(ours.signature_algorithm[0])
        assert oid == other.signature_algorithm_oid.dotted_string
        known = ("2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37")
        unknown = [
            each.oid.dotted_string
            for each in other.extensions
            if each.critical and each.oid.dotted_string not in known
        ]
        assert ours.unknown_critical == (unknown[-1] if unknown else None)
        ca = path = None
        for each in other.extensions:
            if isinstance(each.value, theirs.BasicConstraints):
                ca, path = each.value.ca, each.value.path_length
            elif isinstance(each.value, theirs.KeyUsage) and not each.value.key_cert_sign:
                ca = False
        assert ours.path_length == path
        assert ours.is_ca == (bool(ca) and not unknown)


def _agree_on_key(ours, other) -> bool:
    """The keys are the same; False when it is of a kind that we have not."""
    key = other.public_key()
    if isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 4096:
        numbers = key.public_numbers()
        mine = ours.key
        assert (mine.modulus, mine.exponent) == (numbers.n, numbers.e)
        return True
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        numbers = key.public_numbers()
        assert (ours.key.x, ours.key.y) == (numbers.x, numbers.y)
        return True
    with pytest.raises(x509.X509Error, match="public key"):
        ours.key  # noqa: B018
    return False


@pytest.mark.parametrize("kind, signer", [*itertools.product(["ec", "rsa"], ["ec", "rsa"])])
def test_certificates_of_the_cryptography_package(kind, signer):
    private = cases.ec_key(1) if kind == "ec" else cases.rsa_key(2048, 3)
    ca_private, ca_data = cases.root(signer)
    data = cases.certificate(
        private, ca_private, (_usage("digital_signature"), True), subject="leaf", issuer="root"
    )
    leaf, ca = x509.parse(data), x509.parse(ca_data)
    for ours, raw in ((leaf, data), (ca, ca_data)):
        assert ours.der == raw
        _agree(ours, _load(raw))
        assert _agree_on_key(ours, _load(raw))
    assert isinstance(leaf.key, p256.PublicKey if kind == "ec" else our_rsa.PublicKey)
    assert not leaf.is_ca and ca.is_ca and ca.path_length == 1
    assert leaf.issuer == ca.subject
    assert signed_by(leaf, ca.key)
    assert signed_by(ca, ca.key)
    assert not signed_by(leaf, leaf.key)
    assert not signed_by(ca, leaf.key)
    other = x509.parse(cases.root("rsa" if signer == "ec" else "ec")[1])
    assert not signed_by(leaf, other.key)


def test_a_key_of_4096_bits():
    key = cases.rsa_key(4096)
    data = cases.certificate(key, key)
    assert signed_by(x509.parse(data), x509.parse(data).key)
    assert not signed_by(x509.parse(cases.root("rsa")[1]), x509.parse(data).key)


def test_algorithms_that_are_not_here_are_named():
    private = cases.ec_key()
    p384 = cases.ec_key(0, ec.SECP384R1)
    edwards = ed25519.Ed25519PrivateKey.generate()
    key = x509.parse(cases.certificate(private, private)).key
    pss = {"rsa_padding": padding.PSS(padding.MGF1(hashes.SHA256()), 32)}
    for signer, digest, oid, options in (
        (private, hashes.SHA384(), "1.2.840.10045.4.3.3", {}),
        (p384, hashes.SHA384(), "1.2.840.10045.4.3.3", {}),
        (cases.rsa_key(), hashes.SHA512(), "1.2.840.113549.1.1.13", {}),
        (cases.rsa_key(), hashes.SHA256(), "1.2.840.113549.1.1.10", pss),
    ):
        certificate = x509.parse(cases.certificate(private, signer, digest=digest, **options))
        with pytest.raises(x509.X509Error, match=oid.replace(".", r"\.") + "$"):
            signed_by(certificate, key)
    # P-384 with SHA-256 is the same algorithm for certificates; such a key is not ours.
    assert not signed_by(x509.parse(cases.certificate(private, p384)), key)
    for holder, oid in ((p384, "1.3.132.0.34"), (edwards, "1.3.101.112"),
                        (cases.ec_key(0, ec.SECP256K1), "1.3.132.0.10")):  # fmt: skip
        certificate = x509.parse(cases.certificate(holder, private))
        assert signed_by(certificate, key)
        with pytest.raises(x509.X509Error, match=oid.replace(".", r"\.") + "$"):
            certificate.key  # noqa: B018
    small = x509.parse(cases.certificate(cases.rsa_key(1024), private))
    with pytest.raises(x509.X509Error, match="2048 to 4096"):
        small.key  # noqa: B018


@pytest.mark.parametrize(
    "extensions, is_ca, signs_code, unknown",
    [
        ([], False, True, None),
        ([_CRITICAL_CA], True, True, None),
        ([(_CRITICAL_CA[0], False)], True, True, None),
        ([(theirs.BasicConstraints(ca=False, path_length=None), True)], False, True, None),
        ([_CRITICAL_CA, (_usage("key_cert_sign"), True)], True, False, None),
        ([_CRITICAL_CA, (_usage("key_cert_sign", "digital_signature"), False)], True, True, None),
        ([_CRITICAL_CA, (_usage("crl_sign"), True)], False, False, None),
        ([_CRITICAL_CA, (_usage("digital_signature"), True)], False, True, None),
        ([(_usage("decipher_only", "key_agreement"), True)], False, False, None),
        ([(_extended("1.3.6.1.5.5.7.3.3"), True)], False, True, None),
        ([(_extended("1.3.6.1.5.5.7.3.1"), True)], False, False, None),
        ([(_extended("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.3"), False)], False, True, None),
        ([(_extended("2.5.29.37.0"), False)], False, True, None),
        (
            [(_usage("key_cert_sign"), True), (_extended("1.3.6.1.5.5.7.3.3"), True)],
            False,
            False,
            None,
        ),
        ([(theirs.SubjectAlternativeName([theirs.DNSName("a.b")]), True)], False, True, None),
        ([_CRITICAL_CA, (theirs.PrecertPoison(), True)], False, True, "1.3.6.1.4.1.11129.2.4.3"),
        ([_CRITICAL_CA, (theirs.InhibitAnyPolicy(0), True)], False, True, "2.5.29.54"),
        ([_CRITICAL_CA, (theirs.InhibitAnyPolicy(0), False)], True, True, None),
    ],
)
def test_what_a_certificate_allows(extensions, is_ca, signs_code, unknown):
    data = cases.certificate(cases.ec_key(), cases.ec_key(), *extensions)
    certificate = x509.parse(data)
    assert certificate.is_ca is is_ca
    assert certificate.signs_code is signs_code
    assert certificate.unknown_critical == unknown
    _agree(certificate, _load(data))


@pytest.mark.parametrize("length", [None, 0, 1, 127, 128])
def test_path_length(length):
    ca = theirs.BasicConstraints(ca=True, path_length=length)
    data = cases.certificate(cases.ec_key(), cases.ec_key(), (ca, True))
    assert x509.parse(data).path_length == length


def test_serial_numbers():
    for serial in (1, 127, 128, 255, 2**63, 2**159 - 1):
        data = cases.certificate(cases.ec_key(), cases.ec_key(), serial=serial)
        assert x509.parse(data).serial == serial


def _utc(*parts):
    return datetime.datetime(*parts, tzinfo=datetime.timezone.utc)


@given(
    st.datetimes(
        min_value=datetime.datetime(1950, 1, 1), max_value=datetime.datetime(9999, 12, 31)
    )
)
@settings(max_examples=60)
def test_dates_of_the_cryptography_package(moment):
    moment = moment.replace(microsecond=0)
    start = min(moment, datetime.datetime(2000, 1, 1))
    data = cases.certificate(cases.ec_key(), cases.ec_key(), start=start, end=moment)
    certificate = x509.parse(data)
    _agree(certificate, _load(data))
    seconds = (moment - datetime.datetime(1970, 1, 1)).total_seconds()
    assert certificate.not_after == seconds


@pytest.mark.parametrize(
    "tag, text, moment",
    [
        (0x17, "491231235959Z", _utc(2049, 12, 31, 23, 59, 59)),
        (0x17, "500101000000Z", _utc(1950, 1, 1)),
        (0x17, "991231235959Z", _utc(1999, 12, 31, 23, 59, 59)),
        (0x17, "000229120000Z", _utc(2000, 2, 29, 12)),
        (0x17, "700101000000Z", _utc(1970, 1, 1)),
        (0x18, "20491231235959Z", _utc(2049, 12, 31, 23, 59, 59)),
        (0x18, "20500101000000Z", _utc(2050, 1, 1)),
        (0x18, "99991231235959Z", _utc(9999, 12, 31, 23, 59, 59)),
        (0x18, "24000229000000Z", _utc(2400, 2, 29)),
        (0x17, "010229000000Z", None),
        (0x18, "21000229000000Z", None),
        (0x17, "260001000000Z", None),
        (0x17, "261301000000Z", None),
        (0x17, "260100000000Z", None),
        (0x17, "260132000000Z", None),
        (0x17, "260431000000Z", None),
        (0x17, "260630000000Z", _utc(2026, 6, 30)),
        (0x17, "260831000000Z", _utc(2026, 8, 31)),
        (0x17, "260931000000Z", None),
        (0x17, "260101240000Z", None),
        (0x17, "260101006000Z", None),
        (0x17, "260101000060Z", None),
        (0x17, "2601010000Z", None),
        (0x17, "2601010000000", None),
        (0x17, "260101000000+0100", None),
        (0x17, "20260101000000Z", None),
        (0x17, "26010100000 Z", None),
        (0x17, "2601010000-1Z", None),
        (0x17, "+60101000000Z", None),
        (0x17, "", None),
        (0x17, "Z", None),
        (0x18, "260101000000Z", None),
        (0x18, "20260101000000.5Z", None),
        (0x18, "2026010100000Z", None),
        (0x16, "260101000000Z", None),
        (0x04, "260101000000Z", None),
    ],
)
def test_forms_of_dates(tag, text, moment):
    good = b"\x17\x0d260101000000Z"
    whole = x509.parse(cases.certificate(cases.ec_key(), cases.ec_key()))
    body = bytes(whole.signed)
    assert body.count(good) == 1
    changed = _again(body.replace(_validity(body), tlv(0x30, tlv(tag, text.encode()) + good)))
    if moment is None:
        with pytest.raises(x509.X509Error, match="time"):
            x509.parse(changed)
    else:
        assert x509.parse(changed).not_before == moment.timestamp()
        assert x509.parse(changed).not_after == _utc(2026, 1, 1).timestamp()


def _validity(body: bytes) -> bytes:
    start = body.index(b"\x17\x0d260101000000Z") - 2
    return body[start : start + 32]


def _again(body: bytes) -> bytes:
    """A certificate of this TBSCertificate whose own length may be wrong by now."""
    content = body[4:] if body[1] == 0x82 else body[3:]
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    return tlv(0x30, tlv(0x30, content) + algorithm + tlv(0x03, b"\x00sig"))


# The parts of a TBSCertificate, for those that no library makes.
_ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
_NAME = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403") + b"\x0c\x01a")))
_DATES = tlv(0x30, b"\x17\x0d260101000000Z" + b"\x17\x0d360101000000Z")
_KEY = tlv(
    0x30,
    bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    + tlv(0x03, b"\x00" + cases.encode(cases.G)),
)
_V3 = bytes.fromhex("a003020102")
_CA = bytes.fromhex("300f0603551d130101ff040530030101ff")


def _body(version=_V3, serial=b"\x02\x01\x05", algorithm=_ALGORITHM, issuer=_NAME, dates=_DATES,
          subject=_NAME, key=_KEY, more=b"") -> bytes:  # fmt: skip
    parts = (version, serial, algorithm, issuer, dates, subject, key, more)
    return tlv(0x30, b"".join(parts))


def _made(algorithm=_ALGORITHM, signature=b"\x00sig", **parts) -> bytes:
    return tlv(0x30, _body(**parts) + algorithm + tlv(0x03, signature))


def _extensions(*values: bytes) -> dict:
    return {"more": tlv(0xA3, tlv(0x30, b"".join(values)))}


def test_the_made_ones_are_certificates():
    data = _made(**_extensions(_CA))
    _agree(x509.parse(data), _load(data))
    assert _agree_on_key(x509.parse(data), _load(data))
    assert x509.parse(data).is_ca


def test_versions():
    assert x509.parse(_made(version=b"")).version == 1
    assert x509.parse(_made(version=bytes.fromhex("a003020101"))).version == 2
    assert x509.parse(_made()).version == 3
    assert not x509.parse(_made(version=b"")).is_ca
    for bad in ("a003020100", "a003020103", "a0030201ff", "a004020102", "a000", "a00402020002"):
        with pytest.raises(x509.X509Error):
            x509.parse(_made(version=bytes.fromhex(bad)))
    for version in (b"", bytes.fromhex("a003020101")):
        with pytest.raises(x509.X509Error):
            x509.parse(_made(version=version, **_extensions(_CA)))


def test_unique_identifiers():
    identifiers = bytes.fromhex("81020041" + "82020042")
    assert x509.parse(_made(more=identifiers)).version == 3
    for more in ("82020042" + "81020041", "81020041" * 2, "83020041", "a1020041"):
        with pytest.raises(x509.X509Error):
            x509.parse(_made(more=bytes.fromhex(more)))
    with pytest.raises(x509.X509Error):
        x509.parse(_made(version=b"", more=identifiers))


@pytest.mark.parametrize(
    "name, parts",
    {
        "an empty list": _extensions(),
        "the same one twice": _extensions(_CA, _CA),
        "a boolean that is neither": _extensions(_CA.replace(b"\x01\x01\xff", b"\x01\x01\x01")),
        "no value": _extensions(bytes.fromhex("30050603551d13")),
        "something behind the value": _extensions(_CA[:1] + b"\x11" + _CA[2:] + b"\x05\x00"),
        "something behind the list": {"more": tlv(0xA3, tlv(0x30, _CA) + b"\x05\x00")},
        "two lists": {"more": tlv(0xA3, tlv(0x30, _CA)) * 2},
        "no list": {"more": tlv(0xA3, b"")},
        "negative path length": _extensions(
            tlv(0x30, bytes.fromhex("0603551d13") + tlv(4, bytes.fromhex("30060101ff0201ff")))
        ),
        "constraints not a sequence": _extensions(
            tlv(0x30, bytes.fromhex("0603551d13") + tlv(4, b"\x05\x00"))
        ),
        "something behind the constraints": _extensions(
            tlv(0x30, bytes.fromhex("0603551d13") + tlv(4, b"\x30\x00\x05\x00"))
        ),
        "something in the constraints": _extensions(
            tlv(0x30, bytes.fromhex("0603551d13") + tlv(4, b"\x30\x05\x01\x01\xff\x05\x00"))
        ),
        "a third part of the key's algorithm": {
            "key": tlv(0x30, tlv(0x30, _KEY[4:23] + b"\x05\x00") + _KEY[23:])
        },
        "key usage not a bit string": _extensions(
            tlv(0x30, bytes.fromhex("0603551d0f") + tlv(4, b"\x04\x01\x80"))
        ),
        "purposes that are none": _extensions(
            tlv(0x30, bytes.fromhex("0603551d25") + tlv(4, b"\x30\x02\x05\x00"))
        ),
        "a serial number that is none": {"serial": b"\x02\x00"},
        "a name that is no sequence": {"issuer": tlv(0x31, b"")},
        "a name with half an attribute": {
            "subject": tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403"))))
        },
        "a name with too much": {
            "issuer": tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403050005 00"))))
        },
        "a third date": {"dates": tlv(0x30, _DATES[2:] + b"\x17\x0d360101000000Z")},
        "one date": {"dates": tlv(0x30, b"\x17\x0d260101000000Z")},
        "unused bits in the signature": {"signature": b"\x01si\x00"},
    }.items(),
)
def test_what_is_no_certificate(name, parts):
    with pytest.raises(x509.X509Error, match="no certificate"):
        x509.parse(_made(**parts))


def test_the_two_algorithms_must_be_the_same():
    data = tlv(0x30, _body() + bytes.fromhex("300a06082a8648ce3d040303") + b"\x03\x02\x00s")
    with pytest.raises(x509.X509Error, match="two signature algorithms"):
        x509.parse(data)


def test_nothing_follows_the_signature():
    data = tlv(0x30, _body() + _ALGORITHM + b"\x03\x02\x00s" + b"\x05\x00")
    with pytest.raises(x509.X509Error, match="something follows"):
        x509.parse(data)


def test_parameters_that_no_signature_has():
    algorithm = tlv(0x30, _ALGORITHM[2:] + b"\x30\x00")
    data = tlv(0x30, _body(algorithm=algorithm) + algorithm + b"\x03\x02\x00s")
    with pytest.raises(x509.X509Error, match=r"algorithm 1\.2\.840\.10045\.4\.3\.2"):
        signed_by(x509.parse(data), x509.parse(_made()).key)


def test_lenient_where_certificates_in_use_are_not_der():
    """FALSE is the default and should be left out; some issuers write it."""
    constraints = bytes.fromhex("300f0603551d1301010004053003010100")
    assert not x509.parse(_made(**_extensions(constraints))).is_ca
    # NULL where ECDSA has no parameters, and nothing where RSA has NULL.
    for algorithm in ("300c06082a8648ce3d0403020500", "300b06092a864886f70d01010b"):
        algorithm = bytes.fromhex(algorithm)
        data = tlv(0x30, _body(algorithm=algorithm) + algorithm + b"\x03\x02\x00s")
        assert not signed_by(x509.parse(data), x509.parse(_made()).key)


@pytest.mark.parametrize(
    "key, text",
    [
        (tlv(0x30, bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
             + tlv(3, b"\x00\x03" + cases.encode(cases.G)[1:33])), "compressed point"),
        (tlv(0x30, bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
             + tlv(3, b"\x00" + cases.encode((5, 5)))), "not on the curve"),
        (tlv(0x30, bytes.fromhex("300906072a8648ce3d0201") + tlv(3, b"\x00x")),
         "type 1.2.840.10045.2.1"),
        (tlv(0x30, bytes.fromhex("300b06072a8648ce3d0201") + tlv(3, b"\x00x")), None),
        (tlv(0x30, bytes.fromhex("300b06072a8648ce3d02010500") + tlv(3, b"\x00x")),
         "type 1.2.840.10045.2.1"),
        (tlv(0x30, bytes.fromhex("300b06072a8648ce3d02013000") + tlv(3, b"\x00x")),
         "type 1.2.840.10045.2.1"),
        (tlv(0x30, bytes.fromhex("300b06072a8648ce3d02010600") + tlv(3, b"\x00x")), "public key"),
        (tlv(0x30, bytes.fromhex("300d06092a864886f70d0101010500") + tlv(3, b"\x00")),
         "cut short"),
        (tlv(0x30, bytes.fromhex("300d06092a864886f70d0101010500")
             + tlv(3, b"\x00" + tlv(0x30, b"\x02\x01\x05\x02\x01\x03"))), "2048 to 4096"),
        (tlv(0x30, bytes.fromhex("300d06092a864886f70d0101010500")
             + tlv(3, b"\x00" + tlv(0x30, b"\x02\x01\x85\x02\x01\x03"))), "negative"),
        (tlv(0x30, bytes.fromhex("300b06092a864886f70d010101")
             + tlv(3, b"\x00" + tlv(0x30, b"\x02\x01\x05\x02\x01\x03"))),
         "type 1.2.840.113549.1.1.1"),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_used(key, text):
    if text is None:
        with pytest.raises(x509.X509Error, match="no certificate"):
            x509.parse(_made(key=key))
        return
    certificate = x509.parse(_made(key=key))
    with pytest.raises(x509.X509Error, match=text):
        certificate.key  # noqa: B018


def test_depth_costs_nothing():
    """Values in values in values: what is not looked into cannot exhaust the stack."""
    value = b""
    for _ in range(5000):
        value = tlv(0x30, value)
    deep = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403") + value)))
    assert x509.parse(_made(subject=deep)).subject == deep
    for data in (value, b"\x30\x80" * 5000, b"\xa0\x80" * 5000, b"\x30" * 5000):
        with pytest.raises(x509.X509Error):
            x509.parse(data)


def _genuine(data: bytes):
    """What the cryptography package says: its certificate, or None."""
    try:
        return _load(data)
    except (ValueError, theirs.InvalidVersion):
        return None


@pytest.mark.parametrize("kind, signer", [("ec", "ec"), ("rsa", "ec"), ("ec", "rsa")])
def test_every_byte_changed(kind, signer):
    """One bit of every byte: it is no certificate any more, or not signed."""
    private = cases.ec_key(1) if kind == "ec" else cases.rsa_key()
    ca_private, ca_data = cases.root(signer)
    data = cases.certificate(private, ca_private, _CRITICAL_CA, (_usage("key_cert_sign"), True))
    key = x509.parse(ca_data).key
    assert signed_by(x509.parse(data), key)
    generator = random.Random(7)
    refused = unsigned = 0
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << generator.randrange(8)
        try:
            certificate = x509.parse(bytes(changed))
            assert not signed_by(certificate, key), at
            unsigned += 1
        except x509.X509Error:
            refused += 1
            continue
        other = _genuine(bytes(changed))
        if other is not None and certificate.version != 2:
            try:
                _agree(certificate, other)
            except (ValueError, theirs.DuplicateExtension):
                # They read names, dates and extensions only now.
                continue
    print(f"{refused} refused, {unsigned} not signed")
    assert refused > 50
    assert unsigned > 150


def test_every_bit_changed_and_every_length_is_read_or_refused():
    data = cases.certificate(cases.ec_key(1), cases.ec_key(), _CRITICAL_CA)
    read = 0
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit >> 3] ^= 1 << (bit & 7)
        read += _read(bytes(changed))
    assert 0 < read < len(data) * 8
    for size in range(len(data)):
        assert not _read(data[:size])
        assert not _read(data[:size] + data[size + 1 :]) or size > 0
    assert not _read(data + b"\x00")


def _read(data: bytes) -> bool:
    """Whether it is a certificate; anything but X509Error goes through to the test."""
    try:
        certificate = x509.parse(data)
        certificate.key  # noqa: B018
    except x509.X509Error:
        return False
    return True


_SAMPLE = _made(**_extensions(_CA))


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_pieces_put_together_anyhow(data):
    """Cuts, copies, insertions and changed bytes, several at once."""
    value = bytearray(_SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value)))
        count = data.draw(st.integers(0, 12))
        kind = data.draw(st.sampled_from(["cut", "copy", "insert", "change", "length"]))
        if kind == "cut":
            del value[at : at + count]
        elif kind == "copy":
            value[at:at] = value[max(0, at - count) : at]
        elif kind == "insert":
            value[at:at] = data.draw(st.binary(max_size=12))
        elif kind == "change":
            for i in range(at, min(at + count, len(value))):
                value[i] = data.draw(st.integers(0, 255))
        elif at < len(value):
            value[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0x81, 0x82, 0x83, 0x84, 255]))
    _read(bytes(value))


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_anything(data):
    _read(data)
    _read(tlv(0x30, data))
    _read(tlv(0x30, tlv(0x30, data) + _ALGORITHM + b"\x03\x02\x00s"))


# Two with a signature that is no string of whole bytes, one whose issuer is one of those, and one
# with a signature that is wrong.
_PKITS_UNSIGNED = ["InvalidCASignatureTest2EE", "InvalidEESignatureTest3EE"]
_PKITS_DAMAGED = {"BadSignedCACert", "InvalidDSASignatureTest6EE"}


def test_pkits():
    """Every certificate of NIST's path validation suite against every issuer of its name."""
    parsed = {}
    damaged = set()
    for path in sorted(_PKITS.glob("*.crt")):
        data = path.read_bytes()
        try:
            parsed[path.stem] = (x509.parse(data), data)
        except x509.X509Error:
            damaged.add(path.stem)
    assert damaged == _PKITS_DAMAGED
    # Names are compared in many ways there; the keys' identifiers tell the issuer for certain.
    issuers = {}
    for name, (_, data) in parsed.items():
        identifier = _identifier(data, theirs.SubjectKeyIdentifier)
        issuers.setdefault(identifier, []).append(name)
    signed, unsigned, other = [], [], 0
    for name, (certificate, data) in parsed.items():
        verdicts = []
        for issuer in issuers.get(_identifier(data, theirs.AuthorityKeyIdentifier), ()):
            try:
                verdicts.append(signed_by(certificate, parsed[issuer][0].key))
            except x509.X509Error as error:
                assert "1.2.840.10040.4" in str(error), (name, error)
                other += 1
                break
            assert verdicts[-1] == _they_say(data, parsed[issuer][1]), (name, issuer)
        else:
            (signed if any(verdicts) else unsigned).append(name)
    print(f"PKITS: {len(signed)} signed, {len(unsigned)} not signed, {other} with DSA")
    assert unsigned == _PKITS_UNSIGNED
    assert len(signed) == 397
    assert len(signed) + len(unsigned) + other + len(damaged) == 405
    agreed = 0
    for name in signed:
        certificate, data = parsed[name]
        _agree(certificate, _load(data))
        agreed += _agree_on_key(certificate, _load(data))
    assert agreed >= 396


def _identifier(data: bytes, kind):
    """The identifier of a certificate's own key, or of its issuer's."""
    certificate = _genuine(data)
    # Theirs does not read DSA keys without parameters.
    for extension in certificate.extensions if certificate else ():
        if isinstance(extension.value, kind):
            value = extension.value
            return value.digest if kind is theirs.SubjectKeyIdentifier else value.key_identifier
    return None


def _they_say(data: bytes, issuer: bytes) -> bool:
    certificate = _load(data)
    key = _load(issuer).public_key()
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, padding.PKCS1v15(),
                   certificate.signature_hash_algorithm)  # fmt: skip
    except InvalidSignature:
        return False
    return True


def test_the_certificates_among_the_vectors():
    """What theirs reads, ours reads with the same result, but for what is listed here."""
    refused = {
        "mismatch_inner_outer_sig_algorithm.der",
        "rsa_pss_cert_invalid_mgf.der",
        "rsa_pss_cert_no_sig_params.der",
        "rsa_pss_cert_unsupported_mgf_hash.der",
        "two_basic_constraints.pem",
        "v1_cert.pem",
    }
    # A curve told by its parameters, and keys for RSA-PSS only.
    keyless = {"ec_no_named_curve.pem", "rsa_pss.pem", "rsa_pss_cert.pem"}
    count = keys = 0
    for path in sorted((cases.VECTORS / "x509").rglob("*")):
        if "PKITS" in str(path) or path.suffix not in (".pem", ".der"):
            continue
        raw = path.read_bytes()
        for data in pem.decode(raw) if path.suffix == ".pem" else [raw]:
            other = _genuine(data)
            if other is None:
                _read(data)
                continue
            if path.name in refused:
                with pytest.raises(x509.X509Error):
                    x509.parse(data)
                continue
            certificate = x509.parse(data)
            count += 1
            if path.name in keyless:
                with pytest.raises(x509.X509Error, match="type 1"):
                    certificate.key  # noqa: B018
                continue
            try:
                _agree(certificate, other)
                keys += _agree_on_key(certificate, other)
            except (ValueError, theirs.UnsupportedGeneralNameType) as error:
                # What theirs finds wrong in extensions that ours does not look into.
                assert not isinstance(error, x509.X509Error), path
            except UnsupportedAlgorithm:
                continue
    print(f"{count} certificates, {keys} keys")
    assert count > 100
    assert keys > 80


def test_the_roots_that_a_board_is_made_with():
    """Amazon's and Starfield's; two have keys or signatures that only TLS can use."""
    found = [x509.parse(data) for data in pem.decode(_ROOTS.read_bytes())]
    assert len(found) == 5
    assert all(root.is_ca and root.version == 3 for root in found)
    signed = 0
    for root in found:
        _agree(root, _load(root.der))
        _agree_on_key(root, _load(root.der))
        try:
            assert signed_by(root, root.key)
            signed += 1
        except x509.X509Error as error:
            assert str(error) in (
                "signature algorithm 1.2.840.113549.1.1.12",
                "public key of type 1.3.132.0.34",
            )
    assert signed == 3


def test_the_point_of_a_key():
    """As it stands in the certificate, and only of P-256; nobody needs the curve for it."""
    for private in (cases.ec_key(), cases.ec_key(1)):
        numbers = private.public_key().public_numbers()
        certificate = x509.parse(cases.certificate(private, cases.ec_key()))
        assert certificate.point == cases.encode((numbers.x, numbers.y))
    for private in (
        cases.rsa_key(),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
    ):
        assert x509.parse(cases.certificate(private, cases.ec_key())).point is None
