"""The birth identities of modules that are being made, and where they come from.

A source has `of(unit)`, which returns arguments of `factory.factory_files`, and `settle()`, a
context in which the work is made final: what a source has promised to a cloud is kept when the
block ends well, and not otherwise.
"""

import contextlib
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def read(path):
    """A file's bytes. Raises ValueError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


class Single:
    """One birth identity for one module, or none for any number of them.

    birth: (certificate, key), both PEM, or None.
    """

    def __init__(self, birth=None):
        self._birth = birth

    def of(self, unit):
        """The arguments for one module."""
        return {"birth": self._birth, "thing": unit.thing}

    def settle(self):
        """There is nothing to settle."""
        return contextlib.nullcontext()


class Files:
    """Birth identities in a folder: `certificates/<serial>.pem` and `keys/<serial>.key`."""

    def __init__(self, folder):
        self._folder = Path(folder)

    def of(self, unit):
        """The arguments for one module: its thing has the serial number's name by default."""
        certificate = read(self._folder / "certificates" / f"{unit.serial}.pem")
        key = read(self._folder / "keys" / f"{unit.serial}.key")
        return {"birth": (certificate, key), "thing": unit.thing or unit.serial}

    def settle(self):
        """There is nothing to settle."""
        return contextlib.nullcontext()


class LocalCloud:
    """Birth identities from a local cloud: a new key each, known to the registry when all are
    made. Raises ValueError for a thing that exists already."""

    def __init__(self, folder):
        from tools.cloud.identity import prepare
        from tools.cloud.registry import Registry

        self._folder = Path(folder)
        self._authority = prepare(self._folder).device_ca()
        with Registry(self._folder) as registry:
            self._there = set(registry.things())
        self._issued = []

    def of(self, unit):
        """The arguments for one module: its thing has the serial number's name by default."""
        from tools.cloud import pki

        thing = unit.thing or unit.serial
        if thing in self._there:
            raise ValueError(
                f"the cloud has a thing {thing} already: take other serial numbers (--start)"
            )
        self._there.add(thing)
        key = pki.make_key()
        certificate = pki.sign_client(self._authority, key.public_key(), thing)
        made = pki.Issuer(certificate, key)
        self._issued.append((thing, made.cert_pem))
        return {"birth": (made.cert_pem, made.key_pem), "thing": thing}

    @contextlib.contextmanager
    def settle(self):
        """Registers what was issued, all or nothing."""
        from tools.cloud.registry import Registry

        with Registry(self._folder) as registry, registry.transaction():
            there = set(registry.things())
            for thing, pem in self._issued:
                # Somebody else may have been at work meanwhile.
                if thing in there:
                    raise ValueError(f"the cloud has a thing {thing} already")
                number = registry.add_certificate(pem)
                registry.attach_policy("default", number)
                registry.add_thing(thing)
                registry.attach_thing(thing, number)
            yield


def write_private(path, data):
    """Make a file that only its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def request(folder, unit):
    """Make a key and a request for its certificate: `keys/<serial>.key`, `csr/<serial>.csr` in
    `folder`. The common name is the thing's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.NameAttribute(x509.NameOID.COMMON_NAME, _common_name(unit))
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([name]))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / "keys" / f"{unit.serial}.key", pem)
    signed = csr.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    (folder / "csr" / f"{unit.serial}.csr").write_bytes(signed)


def _common_name(unit):
    name = unit.thing or unit.serial
    # X.520's limit; a thing's name may be longer.
    if len(name) > 64:
        raise ValueError(f"the name {name} is longer than a certificate's common name may be (64)")
    return name
