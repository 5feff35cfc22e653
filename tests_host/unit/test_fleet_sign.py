"""`fleet sign` and `fleet verify`: what is signed, with what, and what is never said."""

import base64
import json
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509 import load_pem_x509_certificate

from tests_host.certificates import self_signed
from tests_host.unit import factory_parts as parts
from tests_host.unit.factory_parts import fleet

FORMATS = (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)


@pytest.fixture(scope="module")
def keys():
    return {
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    }


@pytest.fixture
def files(tmp_path, keys):
    """A folder with a file to sign, and for each kind of key the key and a certificate."""
    (tmp_path / "image").write_bytes(b"what is sent" * 100)
    for kind, key in keys.items():
        (tmp_path / f"{kind}.key").write_bytes(parts.key_pem(key))
        (tmp_path / f"{kind}.pem").write_bytes(self_signed(kind, key))
    return tmp_path


def good(*words):
    code, said = fleet(*words)
    assert code == 0, said
    return said


def bad(*words):
    code, said = fleet(*words)
    assert code != 0, said
    return said


def check(kind, files, signature):
    """What a module does, by the library alone."""
    public = load_pem_x509_certificate((files / f"{kind}.pem").read_bytes()).public_key()
    data = (files / "image").read_bytes()
    if kind == "ec":
        public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    else:
        public.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())


FIELDS = {"ec": "sig-sha256-ecdsa", "rsa": "sig-sha256-rsa"}


@pytest.mark.parametrize("kind", FIELDS)
def test_three_forms_of_one_signature(files, kind):
    words = ("sign", files / "image", "--key", files / f"{kind}.key")
    plain = good(*words, "--cert", files / f"{kind}.pem")
    assert plain.count("\n") == 1
    check(kind, files, base64.b64decode(plain.rstrip(), validate=True))
    [(name, text)] = json.loads(good(*words, "--form", "job")).items()
    assert name == FIELDS[kind]
    check(kind, files, base64.b64decode(text, validate=True))
    signer = json.loads(good(*words, "--form", "signer"))
    assert signer["signatureAlgorithm"] == {"ec": "SHA256withECDSA", "rsa": "SHA256withRSA"}[kind]
    assert signer["rawPayloadSize"] == 1200
    check(kind, files, base64.b64decode(signer["signature"], validate=True))


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("form", ["base64", "job", "signer"])
def test_verify_takes_what_sign_prints(files, kind, form):
    said = good("sign", files / "image", "--key", files / f"{kind}.key", "--form", form)
    (files / "signature").write_text(said)
    words = ("verify", files / "image", "--cert", files / f"{kind}.pem", "--signature")
    assert "is good" in good(*words, files / "signature")
    assert "is good" in good(*words, said)
    # Another file, another signer.
    (files / "other").write_bytes(b"what is not sent")
    assert "not this certificate's" in bad("verify", files / "other", *words[2:], said)
    other = "rsa" if kind == "ec" else "ec"
    words = ("verify", files / "image", "--cert", files / f"{other}.pem", "--signature")
    assert "not this certificate's" in bad(*words, said)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees(files):
    signature = base64.b64decode(good("sign", files / "image", "--key", files / "ec.key"))
    (files / "signature").write_bytes(signature)
    certificate = load_pem_x509_certificate((files / "ec.pem").read_bytes())
    form = parts.serialization.PublicFormat.SubjectPublicKeyInfo
    public = certificate.public_key().public_bytes(Encoding.PEM, form)
    (files / "public").write_bytes(public)
    command = ["openssl", "dgst", "-sha256", "-verify", "public", "-signature", "signature"]
    run = subprocess.run([*command, "image"], cwd=files, capture_output=True, text=True)
    assert run.stdout == "Verified OK\n"
    made = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", "rsa.key", "image"],
        cwd=files,
        capture_output=True,
        check=True,
    )
    text = base64.encodebytes(made.stdout).decode()
    words = ("verify", files / "image", "--cert", files / "rsa.pem", "--signature")
    assert "is good" in good(*words, text)


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("form", FORMATS)
def test_keys_in_every_usual_form(files, keys, kind, encoding, form):
    data = keys[kind].private_bytes(encoding, form, NoEncryption())
    (files / "key").write_bytes(data)
    said = good("sign", files / "image", "--key", files / "key")
    check(kind, files, base64.b64decode(said))


def test_an_encrypted_key(files, keys, monkeypatch):
    secret = BestAvailableEncryption(b"opensesame")
    data = keys["ec"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    (files / "key").write_bytes(data)
    words = ("sign", files / "image", "--key", files / "key")
    assert "needs a passphrase" in bad(*words)
    monkeypatch.setenv("EXPRESSLINK_SIGNING_PASSPHRASE", "wrong-one")
    assert "wrong passphrase" in (said := bad(*words))
    assert "wrong-one" not in said
    monkeypatch.setenv("EXPRESSLINK_SIGNING_PASSPHRASE", "opensesame")
    check("ec", files, base64.b64decode(good(*words)))


def test_the_cloud_s_own_signer(files):
    cloud = parts.make_cloud(files / "cloud")
    said = good("--cloud", cloud, "sign", files / "image")
    assert "is good" in good("--cloud", cloud, "verify", files / "image", "--signature", said)
    shutil.copy(cloud / "signer.pem", files / "ec.pem")
    check("ec", files, base64.b64decode(said))
    assert "start the local cloud" in bad("--cloud", files, "sign", files / "image")
    assert "--key" in bad("sign", files / "image")


def test_keys_that_modules_cannot_check(files):
    for key in (
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
    ):
        (files / "key").write_bytes(parts.key_pem(key))
        assert "P-256 and RSA-2048 only" in bad("sign", files / "image", "--key", files / "key")
    words = ("sign", files / "image", "--key", files / "ec.key", "--cert", files / "rsa.pem")
    assert "is not the private key of" in bad(*words)


@pytest.mark.parametrize("name", ["key", "cert"])
def test_damaged_keys_and_certificates_are_not_quoted(files, name):
    pem = (files / ("ec.key" if name == "key" else "ec.pem")).read_text()
    lines = pem.splitlines()
    for damaged in ("\n".join([lines[0], lines[1][::-1], *lines[2:]]), lines[1], ""):
        (files / "damaged").write_text(damaged)
        given = {"key": files / "ec.key", "cert": files / "ec.pem", name: files / "damaged"}
        options = ("--key", given["key"], "--cert", given["cert"])
        said = bad("sign", files / "image", *options)
        assert str(files / "damaged") in said
        for line in lines[1:-1]:
            assert line[:16] not in said and line[::-1][:16] not in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not base64!", "not base64"),
        ('{"signature": 1}', "no single signature"),
        ('{"sig--": null}', "no single signature"),
        ('{"signature": "AA==", "sig-sha256-rsa": "AA=="}', "no single signature"),
        ("{", "damaged"),
        ("", "not this certificate's"),
        ("AAAA", "not this certificate's"),
    ],
)
def test_signatures_that_are_none(files, text, why):
    words = ("verify", files / "image", "--cert", files / "ec.pem", "--signature", text)
    assert why in bad(*words)
