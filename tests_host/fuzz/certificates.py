"""Certificates that a module accepts one after the other, as values of `CONF`."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


def value(pem: bytes) -> bytes:
    """PEM as the value of a key, and as `CONF?` shows it: LF as an escape."""
    return pem.replace(b"\n", b"\\A")


def certificate(name: str, key, issuer: str, issuer_key, authority: bool = False) -> bytes:
    """A certificate for `key` in PEM, signed by `issuer_key`."""

    def named(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 3650 * _DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


class Certificates:
    """Values for the three keys, two each, any of which may follow any other. cloud: the local
    cloud's folder, whose `signer` the module's first OTA certificate is."""

    def __init__(self, cloud: Path):
        signer = serialization.load_pem_private_key((cloud / "signer.key").read_bytes(), None)
        host = ec.generate_private_key(ec.SECP256R1())
        root = (cloud / "ca.pem").read_bytes()
        other = certificate("other root", host, "other root", host, authority=True)
        self.signers = [value(certificate("signer", signer, "signer", signer)) for _ in range(2)]
        self.hosts = [value(certificate("host", host, "host", host)) for _ in range(2)]
        self.roots = [value(root), value(root + other)]
