"""Signatures of update files: made with a person's own key, checked with the certificate.

ECDSA on P-256 (a DER SEQUENCE of r and s) or RSA-2048 (PKCS#1 v1.5), both over the SHA-256 of the
whole file; in a job document they are base64.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

ECDSA = "sig-sha256-ecdsa"
RSA = "sig-sha256-rsa"
UNSIGNED = "sig--"

# What AWS Signer calls them.
SIGNER_NAMES = {ECDSA: "SHA256withECDSA", RSA: "SHA256withRSA"}
_RSA_BITS = 2048
_PEM = b"-----BEGIN"


class SigningError(ValueError):
    """A key, certificate or signature cannot be used; the text says why and quotes no key."""


@dataclass(frozen=True)
class Signature:
    """field: its name in a job document, ECDSA or RSA; value: the signature, raw."""

    field: str
    value: bytes

    @property
    def text(self):
        """Base64, in one line, as in the job document."""
        return base64.b64encode(self.value).decode()


def load_key(path, passphrase=None):
    """The private key in a file, PEM or DER. passphrase: bytes, or None. Raises SigningError."""
    data = Path(path).read_bytes()
    load = load_pem_private_key if _PEM in data else load_der_private_key
    try:
        key = load(data, passphrase)
    except TypeError:
        wants = "needs a passphrase" if passphrase is None else "has no passphrase"
        raise SigningError(f"{path}: the private key {wants}") from None
    # Without the library's own words: they may quote what it has read.
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError(
            f"{path}: no private key in PEM or DER, or a wrong passphrase"
        ) from None
    _field(key.public_key(), path)
    return key


def certificates(data):
    """The certificates in `data`, PEM or one in DER. Raises SigningError."""
    try:
        if _PEM in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError("no certificate in PEM or DER") from None


def load_certificate(path):
    """The first certificate in a file, one that modules can check with. Raises SigningError."""
    try:
        certificate = certificates(Path(path).read_bytes())[0]
        public = certificate.public_key()
    except (SigningError, UnsupportedAlgorithm):
        raise SigningError(f"{path}: no certificate in PEM or DER") from None
    _field(public, path)
    return certificate


def _field(public, path):
    """The name in a job document of signatures that belong to a public key."""
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1":
        return ECDSA
    if isinstance(public, rsa.RSAPublicKey) and public.key_size == _RSA_BITS:
        return RSA
    raise SigningError(f"{path}: modules check P-256 and RSA-2048 only, this is another kind")


def belongs(key, certificate):
    """Whether a private key is the certificate's."""
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ours, theirs = key.public_key(), certificate.public_key()
    return ours.public_bytes(*form) == theirs.public_bytes(*form)


def sign(data, key):
    """The Signature of `data` (bytes) with a key of `load_key`."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return Signature(ECDSA, key.sign(data, ec.ECDSA(hashes.SHA256())))
    return Signature(RSA, key.sign(data, padding.PKCS1v15(), hashes.SHA256()))


def verify(data, value, certificate):
    """Check `value`, a raw signature of `data`, with a certificate. Raises SigningError."""
    public = certificate.public_key()
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(value, data, ec.ECDSA(hashes.SHA256()))
        else:
            public.verify(value, data, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise SigningError("the signature is not this certificate's for this file") from None


def signer_form(signature, data):
    """What AWS Signer leaves in a bucket, without the file itself, as one JSON text."""
    return json.dumps(
        {
            "rawPayloadSize": len(data),
            "signature": signature.text,
            "signatureAlgorithm": SIGNER_NAMES[signature.field],
        },
        indent=2,
    )


def read_signature(text):
    """The raw signature in a text: base64, a part of a job document with it, or AWS Signer's JSON.
    Raises SigningError."""
    text = text.strip()
    if text.startswith("{"):
        try:
            given = json.loads(text)
        except ValueError:
            raise SigningError("the signature's JSON is damaged") from None
        found = [given[name] for name in (ECDSA, RSA, "signature") if name in given]
        if len(found) != 1 or not isinstance(found[0], str):
            raise SigningError("there is no single signature in this JSON")
        text = found[0]
    try:
        # Lines of 64 or 76 characters are usual.
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise SigningError("the signature is not base64") from None
