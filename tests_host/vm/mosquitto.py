"""Starts Debian's Mosquitto on free ports of the loopback, and makes certificates for it."""

import datetime
import getpass
import ipaddress
import shutil
import socket
import subprocess
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BINARY = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Mosquitto:
    """A broker in a folder of its own; `settings` are lines of its configuration."""

    def __init__(self, folder: Path, *settings: str):
        self.port = free_port()
        self.log = folder / "mosquitto.log"
        config = folder / "mosquitto.conf"
        # Started by root it would change to a user who cannot read the test's folder.
        user = f"user {getpass.getuser()}"
        lines = [f"listener {self.port} 127.0.0.1", user, *settings]
        config.write_text("\n".join(lines) + "\n")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [BINARY, "-c", str(config)], stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()

    def _wait(self):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise TimeoutError("mosquitto does not listen")

    def stop(self):
        """End the process."""
        self.process.terminate()
        self.process.wait(10)


class Authority:
    """A certification authority that issues P-256 certificates into a folder."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.name, self.key.public_key(), ca=True)
        self._write(name, self.certificate, self.key)

    def _sign(self, subject, public_key, names=(), ca=False, days=1):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str, *hosts: str, days: int = 1):
        """Write NAME.pem, NAME.der, NAME.key (PEM) and NAME.key.der for these host names."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(h) for h in hosts if not h[0].isdigit()]
        names += [x509.IPAddress(ipaddress.ip_address(h)) for h in hosts if h[0].isdigit()]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0] if hosts else name)])
        self._write(name, self._sign(subject, key.public_key(), names, days=days), key)

    def _write(self, name, certificate, key):
        pem, der = serialization.Encoding.PEM, serialization.Encoding.DER
        shape = serialization.PrivateFormat.TraditionalOpenSSL
        plain = serialization.NoEncryption()
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{name}.der").write_bytes(certificate.public_bytes(der))
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(pem, shape, plain))
        (self.folder / f"{name}.key.der").write_bytes(key.private_bytes(der, shape, plain))
