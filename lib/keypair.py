"""Whether a private key is the one that belongs to a certificate.

Keys are unencrypted DER: SEC 1 (RFC 5915) for P-256, PKCS #1 (RFC 8017, A.1.2) for RSA, PKCS #8
(RFC 5958) for both.
"""

import asyncio

from micropython import const

from lib import der, x509

# Context tags, of PKCS #8 (attributes, public key) and SEC 1 (curve, public key).
_FIRST = const(0xA0)
_SECOND = const(0xA1)
_PUBLIC = const(0x81)


async def belongs(key, certificate):
    """Whether `key` (DER) is the private key to the public one of `certificate` (a
    lib.x509.Certificate), and whole: all the numbers in it fit together. Gives way to other
    tasks while it computes.

    ValueError when it is no private key, or one that is encrypted; lib.x509.X509Error (one too)
    when the certificate's key is not fit for use; OSError as with lib.p256_key.load().
    """
    try:
        reader = _open(key, certificate.key_algorithm)
        if not reader:
            return False
        if reader.peek() == der.OCTET_STRING:
            secret = _secret(reader, certificate)
            numbers = None
        else:
            numbers = [reader.unsigned() for _ in range(8)]
            reader.end()
    except der.DerError as error:
        raise ValueError("no private key: %s" % error)
    if numbers:
        return certificate.point is None and await _fits(numbers, certificate.key)
    if secret is None:
        return False
    # The library is only loaded for keys that are of its kind.
    from lib import p256_key

    return (await p256_key.load(secret)).point == certificate.point


def _open(data, algorithm):
    # A reader of the key behind its version; None when it says that it is of another kind.
    inside = False
    while True:
        reader = der.Reader(data)
        fields = reader.enter(der.SEQUENCE)
        reader.end()
        if fields.peek() == der.SEQUENCE:
            fields.value()
            if fields.peek() == der.OCTET_STRING:
                raise ValueError("encrypted private key")
        version = fields.unsigned()
        tag = fields.peek()
        # SEC 1 has version 1, PKCS #1 has 0, PKCS #8 may have both.
        if version > 1 or (tag != der.SEQUENCE and version != (tag == der.OCTET_STRING)):
            raise der.DerError("version")
        if tag != der.SEQUENCE or inside:
            return fields
        # PKCS #8: the key itself is inside.
        inside = True
        other = x509.algorithm(fields) != algorithm
        data = fields.content(der.OCTET_STRING)
        while fields.peek() in (_FIRST, _PUBLIC):
            fields.value()
        fields.end()
        if other:
            return None


def _secret(reader, certificate):
    # The number of a P-256 key; None when what stands beside it is another curve or point.
    secret = reader.content()
    good = certificate.point is not None
    if reader.peek() == _FIRST:
        field = reader.enter(_FIRST)
        good = field.value() == certificate.key_algorithm[1] and good
        field.end()
    if reader.peek() == _SECOND:
        field = reader.enter(_SECOND)
        good = field.octets() == certificate.point and good
        field.end()
    reader.end()
    return secret if good else None


async def _fits(numbers, public):
    # Modulus, exponent, private exponent, two primes, an exponent for each, and a coefficient.
    n, e, d, p, q, dp, dq, coefficient = numbers
    if n != public.modulus or e != public.exponent or p < 2 or q < 2 or p * q != n:
        return False
    for prime, exponent in ((p, dp), (q, dq)):
        await asyncio.sleep(0)
        if d % (prime - 1) != exponent or exponent * e % (prime - 1) != 1:
            return False
    await asyncio.sleep(0)
    return coefficient * q % p == 1
