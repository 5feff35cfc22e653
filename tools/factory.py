"""What is put into a module when it is made: the files of `/factory`.

Used by the virtual module's manufacture, the fleet tool and the flash tool. PEM comes in, DER goes
out: the device has no use for PEM and half the room.
"""

import binascii
import datetime
import json
import re
import warnings
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

from firmware.board import BOARDS

MAX_ROOTS = 5
MAX_ABOUT = 128
# The provisioning template that every local cloud has.
CLOUD_TEMPLATE = "expresslink"

# What AWS allows for the names of things and of provisioning templates.
_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_TEMPLATE = re.compile(r"[a-zA-Z0-9_-]{1,36}")
# A serial number names files, too.
_SERIAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_HOST = re.compile(r"[a-zA-Z0-9.-]{1,253}(:(?P<port>[0-9]{1,5}))?")
_LINE = re.compile(r"[ -~]{1,%d}" % MAX_ABOUT)


def check_thing(name):
    """Raise ValueError unless `name` may be a thing's."""
    if not _THING.fullmatch(name):
        raise ValueError(
            f"the thing name {name!r} is not 1 to 128 letters, digits, colons, hyphens and"
            " underscores"
        )


def check_serial(serial):
    """Raise ValueError unless `serial` may be a serial number."""
    if not _SERIAL.fullmatch(serial):
        raise ValueError(
            f"the serial number {serial!r} is not 1 to 64 letters, digits, hyphens and underscores"
        )


def check_about(text):
    """Raise ValueError unless `text` may be the value of About."""
    if not _LINE.fullmatch(text):
        raise ValueError(
            f"the About text {text!r} is not one line of 1 to {MAX_ABOUT} printable ASCII"
            " characters"
        )


def _check_template(name):
    if not _TEMPLATE.fullmatch(name):
        raise ValueError(
            f"the template name {name!r} is not 1 to 36 letters, digits, hyphens and underscores"
        )


def _check_host(text, what):
    match = _HOST.fullmatch(text)
    if not match or not 0 < int(match["port"] or 1) < 65536:
        raise ValueError(f"the {what} {text!r} is neither host nor host:port")


def _check_names(endpoint, ntp, board, about, thing, template, serial):
    _check_host(endpoint, "endpoint")
    _check_host(ntp, "time server")
    if board not in BOARDS:
        raise ValueError(f"the board {board!r} is not known; there are {', '.join(BOARDS)}")
    checks = (
        (check_about, about),
        (check_thing, thing),
        (_check_template, template),
        (check_serial, serial),
    )
    for check, value in checks:
        if value is not None:
            check(value)


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


def fingerprints(pem, what):
    """The SHA-256 of each certificate in `pem`, in hexadecimal: AWS's certificate ids. Raises
    ValueError."""
    return [one.fingerprint(hashes.SHA256()).hex() for one in _certificates(pem, what)]


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
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise ValueError(f"the {what} key is neither an elliptic curve nor an RSA key")
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


def _check_kinds(birth, claim, template, thing):
    if birth is not None and claim is not None:
        raise ValueError("a module has either a device certificate or a claim, these are both")
    if claim is not None and template is None:
        raise ValueError("a claim needs the name of a provisioning template")
    if claim is not None and thing is not None:
        raise ValueError("a module with a claim gets its thing name from the template, not here")
    if template is not None and claim is None:
        raise ValueError("a provisioning template is of no use without a claim")


def factory_files(
    *,
    endpoint,
    ntp,
    board,
    roots_pem,
    birth=None,
    claim=None,
    template=None,
    ota_cert_pem=None,
    about=None,
    thing=None,
    serial=None,
    now=None,
):
    """Return {path: bytes} of the files to put into a module's `/factory`.

    endpoint, ntp: `host` or `host:port`. board: a name of `firmware/board.py`.
    roots_pem: one to five CA certificates. birth, claim: None or (certificate, key), both PEM, and
    not both of them. template: name of the provisioning template that goes with the claim.
    ota_cert_pem: the certificate that module images are checked with. about, thing: the initial
    values of those configuration keys, when other than the firmware's own. serial: the number
    that the maker knows the module by; the firmware has no use for it.
    now: the time (UTC, aware) at which the certificates have to be valid; the present one.
    Raises ValueError with a sentence that says what is wrong; it never quotes a key.
    """
    now = now or datetime.datetime.now(datetime.timezone.utc)
    _check_names(endpoint, ntp, board, about, thing, template, serial)
    _check_kinds(birth, claim, template, thing)
    info = {"endpoint": endpoint, "ntp": ntp, "board": board}
    given = {"about": about, "thing": thing, "template": template, "serial": serial}
    info |= {name: value for name, value in given.items() if value is not None}
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


def of_cloud(folder):
    """What a local cloud's folder says of a module's factory data, as arguments of
    `factory_files`: endpoint, ntp, roots_pem, ota_cert_pem. Raises ValueError."""
    folder = Path(folder)
    path = folder / "cloud.json"
    try:
        info = json.loads(path.read_text())
        signer = folder / "signer.pem"
        return {
            "endpoint": f"{info['host']}:{info['mqtt']}",
            "ntp": f"{info['host']}:{info['sntp']}" if "sntp" in info else info["host"],
            "roots_pem": (folder / "ca.pem").read_bytes(),
            "ota_cert_pem": signer.read_bytes() if signer.exists() else None,
        }
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename} is missing: start the local cloud on {folder} first"
        ) from None
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged") from None


def claim_of_cloud(folder):
    """A local cloud's claim as arguments of `factory_files`: claim, template. Raises
    ValueError."""
    try:
        pair = tuple((Path(folder) / name).read_bytes() for name in ("claim.pem", "claim.key"))
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None
    return {"claim": pair, "template": CLOUD_TEMPLATE}
