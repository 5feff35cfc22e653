"""The signature of an image, checked with the certificate for it (guide 7.4, 7.9; decision D34).

Imported for one check.
"""

from firmware.ota.fault import Fault


class SignatureError(Fault):
    """The image is not to be used; the argument says why (bytes)."""


async def verify(certificate, algorithm, digest, signature):
    """Check that `signature` was made over an image with the key of `certificate`.

    certificate: DER, empty when there is none; algorithm: b"ecdsa" (P-256, `signature` is the DER
    of r and s) or b"rsa" (PKCS #1 v1.5, 2048 bits or more); digest: the image's SHA-256, 32 bytes.
    Raises SignatureError. Gives way to other tasks while it computes.

    The certificate's dates are not looked at: a module that was long in a drawer has to take the
    update that brings the next certificate. Key usage and extended key usage are, if it has them.
    """
    from lib import x509

    if not certificate:
        raise SignatureError(b"there is no certificate to verify it with")
    try:
        holder = x509.parse(certificate)
        if holder.unknown_critical:
            raise SignatureError(b"certificate has an unknown critical extension")
        if not holder.signs_code:
            raise SignatureError(b"certificate is not for code signing")
        key = holder.key
    except x509.X509Error as error:
        raise SignatureError(str(error).encode())
    if {b"ecdsa": "P-256", b"rsa": "RSA"}.get(algorithm) != key.algorithm:
        raise SignatureError(b"signature of another kind than the certificate's key")
    if len(digest) != 32 or not await key.verify(digest, signature):
        raise SignatureError(b"signature does not verify")
