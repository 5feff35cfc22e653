"""Certificates for tests, made when they are asked for."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding


def self_signed(name, key=None, *, ca=False, days=(-1, 365), digest="SHA256", like=None):
    """A certificate in PEM that signs itself.

    key: a new P-256 key by default. ca: with the basic constraints of a CA. days: its validity,
    from now. digest: name of the hash, None for keys that have none of their choice. like: a
    certificate whose name and public key it has; then the signature is somebody else's.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(like.subject if like else subject)
        .issuer_name(like.subject if like else subject)
        .public_key(like.public_key() if like else key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    return builder.sign(key, getattr(hashes, digest)() if digest else None).public_bytes(
        Encoding.PEM
    )
