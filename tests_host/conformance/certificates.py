"""Certificates by name for the transcripts, made when first asked for.

    signer        what module images are checked with at first (the local cloud's)
    ota-next      signed by the key of `signer`; ota-third: by that of `ota-next`
    ota-tampered  `ota-next` with another subject, the signature left as it was
    host-first    signs itself; host-next: signed by its key; host-rsa: too, with an RSA key
    host-last     signed by the key of `host-rsa`
    stranger      signs itself, and nobody knows it
    root          the local cloud's root; stranger-ca: a CA that nobody knows
    wrong-ca      the CA behind the server's certificate with the fault `wrong-ca`
    five, six     so many CA certificates
    amazon        the roots that a module has when it is made for AWS

All but the roots are for code signing, and none of them has extensions.
"""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tools.cloud import pki

# What is signed by whom, and with which kind of key of its own.
_SIGNED = {
    "ota-next": ("signer", "ec"),
    "ota-third": ("ota-next", "ec"),
    "host-first": (None, "ec"),
    "host-next": ("host-first", "ec"),
    "host-rsa": ("host-first", "rsa"),
    "host-last": ("host-rsa", "ec"),
    "stranger": (None, "ec"),
}
_AMAZON = Path(__file__).parents[2] / "tools" / "flash" / "amazon_roots.pem"
_DAY = datetime.timedelta(days=1)


class Certificates:
    """state: the folder of the local cloud."""

    def __init__(self, state):
        self._store = pki.Store(state)
        self._state = state
        self._pair = cache(self._make)

    def pem(self, name: str) -> bytes:
        """The certificate, or certificates, `name` in PEM; KeyError when there is no such one."""
        if name == "ota-tampered":
            return self._tampered()
        if name in ("five", "six"):
            return b"".join(self.pem(f"ca-{n}") for n in range(5 if name == "five" else 6))
        if name == "amazon":
            return _AMAZON.read_bytes()
        if name == "root":
            return (self._state / "ca.pem").read_bytes()
        if name == "wrong-ca":
            chain, _ = self._store.server_files("wrong-ca", "rsa")
            return x509.load_pem_x509_certificates(chain.read_bytes())[1].public_bytes(
                Encoding.PEM
            )
        return self._pair(name).cert_pem

    def der(self, name: str) -> bytes:
        """The certificate, or certificates, `name` in DER, one behind the other."""
        found = x509.load_pem_x509_certificates(self.pem(name))
        return b"".join(each.public_bytes(Encoding.DER) for each in found)

    def key_file(self, name: str) -> Path:
        """A file with the private key of the certificate `name`, in PEM."""
        path = self._state / f"key-of-{name}.pem"
        path.write_bytes(self._pair(name).key_pem)
        return path

    def _make(self, name: str) -> pki.Issuer:
        if name == "signer":
            return self._store.signer()
        if name == "stranger-ca" or name.startswith("ca-"):
            return pki.make_ca(name, "ec")
        issuer, kind = _SIGNED[name]
        return _sign(name, kind, None if issuer is None else self._pair(issuer))

    def _tampered(self) -> bytes:
        certificate = self._pair("ota-next").certificate
        der = certificate.public_bytes(Encoding.DER)
        changed = der.replace(b"ota-next", b"ota-evil")
        assert changed != der
        return x509.load_der_x509_certificate(changed).public_bytes(Encoding.PEM)


def _sign(name: str, kind: str, issuer: pki.Issuer | None) -> pki.Issuer:
    """A certificate without extensions, valid now."""
    key = pki.make_key(kind)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 3650 * _DAY)
    )
    signed = builder.sign(key if issuer is None else issuer.key, hashes.SHA256())
    return pki.Issuer(signed, key)
