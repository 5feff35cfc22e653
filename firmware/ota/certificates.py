"""Certificates that come by an update job (guide 7.3 Table 5, 7.5, 7.10, 7.11).

Imported for one job.
"""

from micropython import const

from firmware.at.errors import AtError
from firmware.borrowed import drop
from firmware.ota.fault import Fault

# What a file of certificates may have: it lies in memory as a whole. The roots of AWS take 5,888.
MAX_BYTES = const(8192)


class CertificateError(Fault):
    """The certificates are not taken, and the old ones stay; the argument says why (bytes)."""


def key(kind):
    """The key of the dictionary that a file of type `kind` (Table 5: 103, 107 or 204) is for."""
    return {103: b"OTAcertificate", 107: b"RootCA", 204: b"HOTAcertificate"}[kind]


async def apply(module, kind, data):
    """Verify the certificates in `data` as those that a host brings by CONF, and keep them.

    kind: 103, 107 or 204; data: the file (bytes or bytearray), PEM or DER. New roots are on trial
    until a connection with them has worked (D13). Raises CertificateError. Gives way to other
    tasks."""
    if len(data) > MAX_BYTES:
        raise CertificateError(b"file of certificates over %d bytes" % MAX_BYTES)
    try:
        found = _read(data)
        # Not needed any more, neither is what has read it: what comes now is large.
        data = None
        drop(" lib.pem ")
        from firmware.config import renewal

        await renewal.renew(module, key(kind), found)
    except AtError as error:
        raise CertificateError(error.detail)
    except ValueError as error:
        raise CertificateError(str(error).encode())


def _read(data):
    """The certificates in a file as a list of DER. Raises ValueError."""
    from firmware.config.bundle import split
    from lib import pem

    return pem.decode(data) if pem.BEGIN in data else split(bytes(data))
