"""Certification requests for P-256 keys (PKCS #10, RFC 2986)."""

from hashlib import sha256

from micropython import const

from lib.der_writer import value

_BIT_STRING = const(0x03)
_UTF8_STRING = const(0x0C)
_SEQUENCE = const(0x30)
_SET = const(0x31)
# Bytes of a common name; the limit of RFC 5280 (appendix A.1, ub-common-name) is as many
# characters, but not everybody counts those.
_LONGEST = const(64)

_VERSION = b"\x02\x01\x00"
_NO_ATTRIBUTES = b"\xa0\x00"
# The object identifier 2.5.4.3.
_COMMON_NAME = b"\x06\x03\x55\x04\x03"
# SubjectPublicKeyInfo before the point (RFC 5480, 2).
_KEY = (
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
    b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
)
# AlgorithmIdentifier of ECDSA with SHA-256 (RFC 5758, 3.2).
_SIGNATURE = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"


async def make(key, common_name):
    """The request (DER) for a certificate with this common name (1 to 64 bytes of UTF-8),
    signed with `key` (lib.p256_key.PrivateKey). Gives way to other tasks.

    ValueError for a name of another length, or that is not UTF-8; OSError as with key.sign().
    """
    if not str(common_name, "utf-8") or len(common_name) > _LONGEST:
        raise ValueError("common name")
    name = value(_SEQUENCE, _COMMON_NAME, value(_UTF8_STRING, common_name))
    name = value(_SEQUENCE, value(_SET, name))
    request = value(_SEQUENCE, _VERSION, name, _KEY, key.point, _NO_ATTRIBUTES)
    signature = await key.sign(sha256(request).digest())
    return value(_SEQUENCE, request, _SIGNATURE, value(_BIT_STRING, b"\x00", signature))
