"""What is put into a module when it is made: the files of `/factory`.

Used by the virtual module's manufacture and by the flash tool. PEM comes in, DER goes out: the
device has no use for PEM and half the room.
"""

import binascii
import datetime
import json
import warnings

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

MAX_ROOTS = 5


def _certificates(pem, what):
    try:
        with warnings.catch_warnings():
            # One of the roots of AWS has the serial number 0, which was legal in its day.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return x509.load_pem_x509_certificates(_as_bytes(pem))
    except ValueError:
        raise ValueError(f"the {what} is not a certificate in PEM form") from None


def _certificate(pem, what):
    found = _certificates(pem, what)
    if len(found) != 1:
        raise ValueError(f"the {what} has to be one certificate, these are {len(found)}")
    return found[0]


def _as_bytes(text):
    return text.encode() if isinstance(text, str) else bytes(text)


def _check_dates(certificate, what, now):
    if now < certificate.not_valid_before_utc:
        begin = certificate.not_valid_before_utc
        raise ValueError(f"the {what} is not valid before {begin:%Y-%m-%d %H:%M} UTC")
    if now > certificate.not_valid_after_utc:
        raise ValueError(f"the {what} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")


def _check_authority(certificate, what):
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        # Version 1 roots have no extensions; their being roots is all there is to know.
        if certificate.issuer == certificate.subject:
            return
        raise ValueError(f"the {what} is not a CA certificate") from None
    if not constraints.value.ca:
        raise ValueError(f"the {what} is not a CA certificate")


def _private_key(data, what):
    data = _as_bytes(data)
    try:
        if data.lstrip().startswith(b"-----"):
            return load_pem_private_key(data, password=None)
        return load_der_private_key(data, password=None)
    except TypeError:
        raise ValueError(f"the {what} is encrypted; decrypt it first") from None
    except ValueError:
        raise ValueError(f"the {what} is not a private key in PEM form") from None


def _public_bytes(key):
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _identity(prefix, cert_pem, key_pem, what, now):
    certificate = _certificate(cert_pem, what + " certificate")
    _check_dates(certificate, what + " certificate", now)
    key = _private_key(key_pem, what + " key")
    if _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
        raise ValueError(f"the {what} key does not belong to the {what} certificate")
    return {
        prefix + "cert.der": certificate.public_bytes(Encoding.DER),
        # SEC1 and PKCS#1, which every version of mbedTLS reads.
        prefix + "key.der": key.private_bytes(
            Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        ),
    }


def _sums(files):
    """The file by which the module notices that another one is damaged: a line for each, and one
    for the lines before it."""
    lines = b"".join(
        b"%s %08x\n" % (name.encode(), binascii.crc32(data)) for name, data in files.items()
    )
    return lines + b"sums %08x\n" % binascii.crc32(lines)


def factory_files(
    *,
    endpoint,
    ntp,
    board,
    roots_pem,
    birth=None,
    claim=None,
    ota_cert_pem=None,
    about=None,
    thing=None,
    now=None,
):
    """Return {path: bytes} of the files to put into a module's `/factory`.

    endpoint, ntp: `host` or `host:port`. board: a name of `firmware/board.py`.
    roots_pem: one to five CA certificates. birth, claim: None or (certificate, key), both PEM.
    ota_cert_pem: the certificate that module images are checked with. about, thing: the initial
    values of those configuration keys, when other than the firmware's own.
    now: the time (UTC, aware) at which the certificates have to be valid; the present one.
    Raises ValueError with a sentence that says what is wrong; it never quotes a key.
    """
    now = now or datetime.datetime.now(datetime.timezone.utc)
    info = {"endpoint": endpoint, "ntp": ntp, "board": board}
    if about is not None:
        info["about"] = about
    if thing is not None:
        info["thing"] = thing
    roots = _certificates(roots_pem, "root CA")
    if not 1 <= len(roots) <= MAX_ROOTS:
        raise ValueError(f"there may be 1 to {MAX_ROOTS} root CAs, these are {len(roots)}")
    for root in roots:
        _check_authority(root, "root CA")
        _check_dates(root, "root CA", now)
    files = {
        "module.json": json.dumps(info, sort_keys=True).encode(),
        "roots.der": b"".join(root.public_bytes(Encoding.DER) for root in roots),
    }
    if birth is not None:
        files |= _identity("", *birth, "device", now)
    if claim is not None:
        files |= _identity("claim_", *claim, "claim", now)
    if ota_cert_pem is not None:
        signer = _certificate(ota_cert_pem, "OTA certificate")
        _check_dates(signer, "OTA certificate", now)
        files["ota_cert.der"] = signer.public_bytes(Encoding.DER)
    files["sums"] = _sums(files)
    return {"/factory/" + name: data for name, data in files.items()}
