"""Certificate signing requests of devices: what is taken, and what is read from them."""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_PEM = re.compile(
    r"\s*-----BEGIN CERTIFICATE REQUEST-----\s[A-Za-z0-9+/=\s]+"
    r"-----END CERTIFICATE REQUEST-----\s*"
)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_RSA_LEAST = 2048


class CsrError(ValueError):
    """The request is refused (rule `provisioning-csr`)."""


def read(pem: str):
    """(public key, common name or None) of a request in PEM; raises CsrError.

    The signature is checked, which shows that the sender has the private key (RFC 2986).
    """
    if not _PEM.fullmatch(pem):
        raise CsrError("not one CERTIFICATE REQUEST in PEM")
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
        key = request.public_key()
        good = request.is_signature_valid
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CsrError(f"not readable: {type(error).__name__}") from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _RSA_LEAST:
            raise CsrError(f"RSA key of {key.key_size} bits, at least {_RSA_LEAST}")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise CsrError("the key is neither RSA nor on P-256, P-384 or P-521")
    if not good:
        raise CsrError("the signature does not belong to the key")
    name = names[0].value if names else None
    return key, name if isinstance(name, str) else None
