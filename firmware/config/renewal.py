"""New certificates are verified before they are kept (guide 7.5, 7.10, 7.11; decision D13).

Whoever brings them, the host or an update job, they have to stand the same checks:

    RootCA           up to five CA certificates that TLS can use; on trial first
    OTAcertificate   signed with the key of the present one
    HOTAcertificate  the same; the first one need not be
"""

from micropython import const

from firmware.at.errors import SIGNATURE, AtError
from lib import x509

MAX_ROOTS = const(5)
# All certificates of a key together, in DER: a bundle of five large ones.
_MAX_BYTES = const(8192)


def _refuse(why):
    raise AtError(SIGNATURE, why)


async def renew(module, name, found):
    """Verify `found` (a list of DER, bytes) as the certificates of the key `name` (spelt as in
    the table), and keep them; what is there already needs no proof, and no flash.

    Raises AtError: SIGNATURE with the reason for whatever cannot be verified, and the old value
    stays; PARAMETER when the flash does not take it. Gives way to other tasks."""
    many = name == b"RootCA"
    if not found:
        _refuse(b"no certificate")
    if len(found) > (MAX_ROOTS if many else 1):
        _refuse(b"too many certificates")
    if sum([len(der) for der in found]) > _MAX_BYTES:
        _refuse(b"certificates over %d bytes" % _MAX_BYTES)
    if found == module.config.query(name)[0]:
        return
    try:
        if many:
            context = module.session.make_context()
            for der in found:
                _check_root(x509.parse(der), context)
        else:
            await _check_successor(found[0], module.config, name)
    except x509.X509Error as error:
        _refuse(str(error).encode())
    module.config.keep_certificates(name, found)


def _check_root(root, context):
    """Refuse what is no CA certificate, or has a key that TLS cannot use."""
    if not root.is_ca:
        _refuse(b"not a CA certificate")
    try:
        context.load_verify_locations(root.der)
    except (OSError, ValueError):
        _refuse(b"not usable for TLS")


async def _check_successor(der, config, name):
    """Refuse `der` unless the present certificate's key has signed it."""
    new = x509.parse(der)
    if new.unknown_critical:
        _refuse(b"unknown critical extension")
    # What could never verify anything would lock out every update that is to come: a key that we
    # cannot use, which could not verify its own successor either, or the wrong purpose.
    _ = new.key
    if not new.signs_code:
        _refuse(b"not for code signing")
    present = config.get(name)
    if not present:
        if name == b"HOTAcertificate":
            return
        _refuse(b"there is no certificate to verify it with")
    if not await x509.signed_by(new, x509.parse(present[0]).key):
        _refuse(b"not signed by the present certificate")
    # The host and an update job may have brought one each.
    if config.get(name) != present:
        _refuse(b"the present certificate has changed meanwhile")
