"""Keys and certificates of the local cloud, made once and kept in its folder.

Two trees. The server's is shaped as AWS's: a self-signed root (`ca.pem`, the only one that a
client needs), an intermediate that the server sends along, and a leaf for localhost. Devices,
claim and operator certificates come from a device CA of their own, those of fleet provisioning
from a third, which the server does not trust as such: it trusts each registered certificate (rule
`certificate-registered`).
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ENDPOINT = "localhost"
SERVER_CERTIFICATES = ("valid", "expired", "wrong-ca", "wrong-name")
_FOREVER = datetime.datetime(2049, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc)
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Issuer:
    """A certificate with its key: what is needed to sign another one."""

    certificate: x509.Certificate
    key: object

    @property
    def cert_pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key in PEM (PKCS#8, not encrypted)."""
        return key_to_pem(self.key)


def key_to_pem(key, traditional: bool = False) -> bytes:
    """A private key in PEM: PKCS#8, or `traditional` (PKCS#1 for RSA, SEC 1 for EC)."""
    kind = serialization.PrivateFormat
    return key.private_bytes(
        serialization.Encoding.PEM,
        kind.TraditionalOpenSSL if traditional else kind.PKCS8,
        serialization.NoEncryption(),
    )


def make_key(kind: str = "ec"):
    """A new private key: `ec` (P-256) or `rsa` (2048 bits)."""
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read; it never exists with a wider mode."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.replace(temporary, path)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Local cloud"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _build(subject, public_key, issuer: Issuer | None, key, start, end, extensions):
    """Sign a certificate; `issuer` None means self-signed with `key`."""
    signer = key if issuer is None else issuer.key
    issuer_name = subject if issuer is None else issuer.certificate.subject
    issuer_public = public_key if issuer is None else issuer.key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


def _usage(*names: str) -> tuple[x509.KeyUsage, bool]:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in names for name in every}), True


def make_ca(common_name: str, kind: str, issuer: Issuer | None = None) -> Issuer:
    """A certification authority: a root when `issuer` is None, else an intermediate."""
    key = make_key(kind)
    extensions = [
        (x509.BasicConstraints(ca=True, path_length=None if issuer is None else 0), True),
        _usage("digital_signature", "key_cert_sign", "crl_sign"),
    ]
    start = datetime.datetime.now(datetime.timezone.utc) - _DAY
    certificate = _build(
        _name(common_name), key.public_key(), issuer, key, start, _FOREVER, extensions
    )
    return Issuer(certificate, key)


def make_server(issuer: Issuer, kind: str, names: list[str], start=None, end=None) -> Issuer:
    """A server certificate for `names` (host names or IP addresses)."""
    key = make_key(kind)
    alternatives = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    usage = ("digital_signature", "key_encipherment") if kind == "rsa" else ("digital_signature",)
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        _usage(*usage),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(alternatives), False),
    ]
    start = start or datetime.datetime.now(datetime.timezone.utc) - _DAY
    certificate = _build(
        _name(names[0]), key.public_key(), issuer, key, start, end or _FOREVER, extensions
    )
    return Issuer(certificate, key)


def sign_client(issuer: Issuer, public_key, common_name: str) -> x509.Certificate:
    """A client certificate over `public_key`; it lasts as long as AWS's do, to the end of 2049."""
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        _usage("digital_signature"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    ]
    start = datetime.datetime.now(datetime.timezone.utc) - _DAY
    # X.520 ends a common name at 64 characters; a thing name may have 128.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    return _build(subject, public_key, issuer, None, start, _FOREVER, extensions)


def certificate_id(certificate: x509.Certificate) -> str:
    """AWS's certificate id: SHA-256 over the DER form, 64 hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def der_id(der: bytes) -> str:
    """`certificate_id` of a certificate in DER."""
    return hashlib.sha256(der).hexdigest()


def _load(cert_path: Path, key_path: Path) -> Issuer:
    certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
    key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    return Issuer(certificate, key)


class Store:
    """The key files of one cloud folder; what is missing is made when it is asked for."""

    def __init__(self, state: Path):
        """`state`: the folder; created when absent."""
        self.state = Path(state)
        self.private = self.state / "private"
        self.private.mkdir(parents=True, exist_ok=True)
        os.chmod(self.private, 0o700)

    @contextlib.contextmanager
    def lock(self):
        """Keep other processes from making the same keys at the same time."""
        with open(self.private / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _pair(self, cert: Path, key: Path, make) -> Issuer:
        """The pair in these files; `make()` is called, and its result written, when absent.

        The certificate is written last, so that one which exists always has its key beside it.
        """
        if not cert.exists():
            fresh = make()
            write_private(key, fresh.key_pem)
            cert.write_bytes(fresh.cert_pem)
        return _load(cert, key)

    def root(self) -> Issuer:
        """The server's root; `ca.pem` holds its certificate and nothing else."""
        return self._pair(
            self.state / "ca.pem",
            self.private / "root.key",
            lambda: make_ca("Local cloud root", "rsa"),
        )

    def device_ca(self) -> Issuer:
        """The authority that signs device, claim and operator certificates."""
        return self._pair(
            self.private / "device-ca.pem",
            self.private / "device-ca.key",
            lambda: make_ca("Local cloud devices", "ec"),
        )

    def fleet_ca(self) -> Issuer:
        """The authority that signs what fleet provisioning issues: RSA as AWS's, so that the
        certificates are as long as they are there."""
        return self._pair(
            self.private / "fleet-ca.pem",
            self.private / "fleet-ca.key",
            lambda: make_ca("Local cloud fleet", "rsa"),
        )

    def client(self, name: str) -> Issuer:
        """`<name>.pem` and `<name>.key` in the folder: a certificate from the device CA."""

        def make() -> Issuer:
            key = make_key()
            return Issuer(sign_client(self.device_ca(), key.public_key(), name), key)

        return self._pair(self.state / f"{name}.pem", self.state / f"{name}.key", make)

    def signer(self) -> Issuer:
        """The code-signing pair: P-256, self-signed, for code signing only."""

        def make() -> Issuer:
            key = make_key()
            extensions = [
                _usage("digital_signature"),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            ]
            start = datetime.datetime.now(datetime.timezone.utc) - _DAY
            subject = _name("Local cloud code signing")
            certificate = _build(subject, key.public_key(), None, key, start, _FOREVER, extensions)
            return Issuer(certificate, key)

        return self._pair(self.state / "signer.pem", self.state / "signer.key", make)

    def server_files(self, which: str, kind: str) -> tuple[Path, Path]:
        """Chain file (leaf, intermediate) and key file of a server certificate.

        `which`: valid, expired, wrong-ca (another root) or wrong-name; `kind`: rsa or ec.
        """
        if which not in SERVER_CERTIFICATES:
            raise ValueError(f"no server certificate called {which}")
        name = "server" + ("-ec" if kind == "ec" else "")
        name += "" if which == "valid" else f"-{which}"
        chain, key = self.private / f"{name}.pem", self.private / f"{name}.key"
        if not chain.exists():
            leaf, middle = self._make_chain(which, kind)
            write_private(key, leaf.key_pem)
            chain.write_bytes(leaf.cert_pem + middle.cert_pem)
        return chain, key

    def _make_chain(self, which: str, kind: str) -> tuple[Issuer, Issuer]:
        names = [ENDPOINT, "127.0.0.1", "::1"]
        if which == "wrong-ca":
            stranger = make_ca("Stranger root", "ec")
            middle = make_ca("Stranger intermediate", kind, stranger)
            return make_server(middle, kind, names), middle
        middle = self._pair(
            self.private / f"intermediate-{kind}.pem",
            self.private / f"intermediate-{kind}.key",
            lambda: make_ca(f"Local cloud intermediate ({kind})", kind, self.root()),
        )
        if which == "expired":
            now = datetime.datetime.now(datetime.timezone.utc)
            return make_server(middle, kind, names, now - 30 * _DAY, now - _DAY), middle
        if which == "wrong-name":
            return make_server(middle, kind, ["elsewhere.invalid"]), middle
        return make_server(middle, kind, names), middle
