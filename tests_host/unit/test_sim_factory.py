"""The factory files: what goes in, and what is refused."""

import binascii
import datetime
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from tools.factory import factory_files, of_cloud

NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def make_cert(key, name="device", ca=None, begin=-1, end=365):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW + begin * DAY)
        .not_valid_after(NOW + end * DAY)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
    return builder.sign(key, hashes.SHA256())


def pem(thing):
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    return thing.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
ROOT = make_cert(KEY, "root", ca=True)
DEVICE = make_cert(KEY)


def make(**changes):
    given = {
        "endpoint": "localhost:8883",
        "ntp": "localhost:123",
        "board": "ESP32-DevKitC",
        "roots_pem": pem(ROOT),
        "now": NOW,
    }
    return factory_files(**{**given, **changes})


def test_names_and_roots_are_always_there():
    files = make()
    assert set(files) == {"/factory/module.json", "/factory/roots.der", "/factory/sums"}
    *lines, last = files["/factory/sums"].splitlines(keepends=True)
    for line in lines:
        name, crc = line.decode().split()
        assert binascii.crc32(files["/factory/" + name]) == int(crc, 16)
    assert len(lines) == len(files) - 1
    assert last == b"sums %08x\n" % binascii.crc32(b"".join(lines))
    assert json.loads(files["/factory/module.json"]) == {
        "endpoint": "localhost:8883",
        "ntp": "localhost:123",
        "board": "ESP32-DevKitC",
    }
    assert x509.load_der_x509_certificate(files["/factory/roots.der"]) == ROOT


@pytest.mark.parametrize(
    ("kind", "prefix", "name"),
    [("birth", "", {"thing": "fridge-1"}), ("claim", "claim_", {"template": "fridges"})],
)
def test_identities_signer_and_names_become_der(kind, prefix, name):
    files = make(
        **{kind: (pem(DEVICE), pem(KEY))},
        ota_cert_pem=pem(DEVICE),
        about="a fridge",
        serial="F-1",
        **name,
    )
    cert = x509.load_der_x509_certificate(files[f"/factory/{prefix}cert.der"])
    key = serialization.load_der_private_key(files[f"/factory/{prefix}key.der"], None)
    assert cert == DEVICE
    assert key.private_numbers() == KEY.private_numbers()
    assert x509.load_der_x509_certificate(files["/factory/ota_cert.der"]) == DEVICE
    info = json.loads(files["/factory/module.json"])
    assert info == {
        "endpoint": "localhost:8883",
        "ntp": "localhost:123",
        "board": "ESP32-DevKitC",
        "about": "a fridge",
        "serial": "F-1",
        **name,
    }


def test_an_rsa_key_works_too():
    key = rsa.generate_private_key(65537, 2048)
    files = make(birth=(pem(make_cert(key)), pem(key)))
    serialization.load_der_private_key(files["/factory/key.der"], None)


def test_several_roots_are_kept_in_order():
    second = make_cert(OTHER, "second", ca=True)
    files = make(roots_pem=pem(ROOT) + pem(second))
    first = ROOT.public_bytes(serialization.Encoding.DER)
    assert files["/factory/roots.der"] == first + second.public_bytes(serialization.Encoding.DER)


def encrypted():
    return KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret-passphrase"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cloud.json is missing: start the local cloud"),
        ("{", "cloud.json is damaged"),
        ("[]", "cloud.json is damaged"),
        ('{"host": "localhost"}', "cloud.json is damaged"),
        ('{"host": "localhost", "mqtt": 1}', "ca.pem is missing: start the local cloud"),
    ],
)
def test_a_cloud_folder_that_is_not_one(tmp_path, text, message):
    if text is not None:
        (tmp_path / "cloud.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        of_cloud(tmp_path)


CLAIM = {"claim": (pem(DEVICE), pem(KEY)), "template": "t"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"roots_pem": b"nonsense"}, "root CA is not a certificate"),
        ({"roots_pem": pem(make_cert(KEY, ca=False))}, "not a CA certificate"),
        ({"roots_pem": pem(ROOT) * 6}, "1 to 5 root CAs, these are 6"),
        ({"roots_pem": pem(make_cert(KEY, ca=True, end=0))}, None),
        ({"roots_pem": pem(make_cert(KEY, ca=True, begin=-9, end=-1))}, "expired on 2026-11-20"),
        ({"birth": (pem(DEVICE), pem(OTHER))}, "device key does not belong"),
        (CLAIM | {"claim": (pem(DEVICE), pem(OTHER))}, "claim key does not belong"),
        ({"birth": (pem(DEVICE), b"-----BEGIN nonsense")}, "device key is not a private key"),
        ({"birth": (pem(DEVICE), encrypted())}, "device key is encrypted"),
        ({"birth": (pem(DEVICE) * 2, pem(KEY))}, "has to be one certificate, these are 2"),
        ({"birth": (pem(make_cert(KEY, begin=1)), pem(KEY))}, "not valid before 2026-11-22"),
        ({"birth": (pem(make_cert(KEY, begin=-9, end=-2)), pem(KEY))}, "expired on 2026-11-19"),
        ({"birth": (pem(DEVICE), pem(ed25519.Ed25519PrivateKey.generate()))}, "neither an ell"),
        ({"ota_cert_pem": b"x"}, "OTA certificate is not a certificate"),
        (CLAIM | {"birth": (pem(DEVICE), pem(KEY))}, "these are both"),
        (CLAIM | {"template": None}, "needs the name of a provisioning template"),
        (CLAIM | {"thing": "x"}, "gets its thing name from the template"),
        (CLAIM | {"template": "t" * 37}, "template name 't+' is not"),
        ({"template": "t"}, "no use without a claim"),
        ({"thing": "t" * 129}, "thing name 't+' is not"),
        ({"thing": "a/b"}, "thing name 'a/b' is not"),
        ({"serial": "../x"}, "serial number '../x' is not"),
        ({"about": "two\nlines"}, "is not one line"),
        ({"about": "Kühlschrank"}, "printable ASCII"),
        ({"about": "x" * 129}, "1 to 128"),
        ({"endpoint": "https://x"}, "endpoint 'https://x' is neither host nor host:port"),
        ({"endpoint": "x:65536"}, "neither host nor host:port"),
        ({"ntp": ""}, "time server '' is neither"),
        ({"board": "Pico"}, "the board 'Pico' is not known"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(changes, text):
    if text is None:
        # Valid up to this very moment.
        make(**changes)
        return
    with pytest.raises(ValueError, match=text) as caught:
        make(**changes)
    assert "secret" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)
