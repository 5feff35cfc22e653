"""What the tests of manufacturing need: a cloud's folder, certificates, firmware files with a
partition table, and the tool itself."""

import csv
import json
import struct

from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization

from tests_host.certificates import self_signed
from tools.cloud import identity, pki
from tools.cloud.registry import Registry
from tools.fleet.__main__ import main
from tools.fleet.factory_layout import BOOTLOADER
from tools.sim import espimage

ENDPOINT = "abc-ats.iot.eu-central-1.amazonaws.com"

# The flash sizes that the bootloader's header speaks of, in MiB.
_SIZES = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4}


def key_pem(key):
    """A private key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def entry(label, kind, subtype, address, size):
    """A line of ESP-IDF's partition table."""
    return struct.pack("<HBBLL16sL", 0x50AA, kind, subtype, address, size, label.encode(), 0)


def firmware(chip, end=0x200000, flash_mib=8, entries=None):
    """A .bin file with bootloader, partition table and (no) application, as MicroPython's.

    end: where the application's partition ends; entries: another table.
    """
    if entries is None:
        entries = [
            entry("nvs", 1, 2, 0x9000, 0x6000),
            entry("phy_init", 1, 1, 0xF000, 0x1000),
            entry("factory", 0, 0, 0x10000, end - 0x10000),
        ]
    boot = bytearray(espimage.build([(0x3FFF0000, b"bootloader")], chip))
    boot[3] = _SIZES[flash_mib] << 4
    start = 0x8000 - BOOTLOADER[chip]
    data = boot + b"\xff" * (start - len(boot)) + b"".join(entries)
    digest = b"\xeb\xeb" + b"\xff" * 14 + bytes(16)
    return bytes(data + digest + b"\xff" * 0x1000)


def make_cloud(folder):
    """Fill `folder` as a local cloud does at its first start."""
    identity.prepare(folder)
    ports = {"host": "localhost", "mqtt": 28883, "sntp": 28123}
    (folder / "cloud.json").write_text(json.dumps(ports))
    return folder


def make_pair(folder):
    """Options of a device certificate and its key, new ones in `folder`."""
    key = pki.make_key()
    (folder / "cert.pem").write_bytes(self_signed("device", key))
    (folder / "key.pem").write_bytes(key_pem(key))
    return ["--cert", folder / "cert.pem", "--key", folder / "key.pem"]


def make_claim(folder):
    """Options of a claim, with a new certificate in `folder`."""
    _, cert, _, key = make_pair(folder)
    return ["--claim-cert", cert, "--claim-key", key, "--template", "fridges"]


def fleet(*words):
    """Run the tool; (exit code, what it said)."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def make(out, *words):
    """`factory make` that has to succeed; what it said."""
    code, said = fleet("factory", "make", "--out", out, *words)
    assert code == 0, said
    return said


def rows(out):
    """What modules.csv says."""
    with open(out / "modules.csv", newline="") as file:
        return list(csv.DictReader(file))


def serials(out, text):
    """A list of modules beside the folder `out`."""
    path = out.parent / "serials.csv"
    path.write_text(text, newline="")
    return path


def things(cloud):
    """The names of the things that a cloud has."""
    with Registry(cloud) as registry:
        return set(registry.things())
