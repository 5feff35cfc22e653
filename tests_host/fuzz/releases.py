"""Small versions of the application to be updated to: good ones, and ones that must not stay."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests_host.fuzz.tree import tree
from tools.fleet import image_bundle, image_header, image_make

# What an update, and its proof, can do without.
_WITHOUT = (
    *("confmode*", "provisioning.py", "newcomer.py", "defender.py", "messaging.py", "sleep.py"),
    *("services.py", "diag_network.py", "certificates.py"),
    *("renew.py", "renewal.py", "web.py", "mailbox.py", "http*.py", "icmp.py"),
    *("keypair.py", "p256_key.py", "csr.py", "der_writer.py", "hmac_sha256.py", "rsa.py"),
)
# Times that would only be waited for.
_SHORTER = (
    ("firmware/module.py", "_TURN_MS = const(1000)", "_TURN_MS = const(50)"),
    ("firmware/ota/trial.py", "_LONGEST_MS = const(600000)", "_LONGEST_MS = const(300)"),
    ("firmware/ota/trial.py", "_PAUSE_MS = const(2000)", "_PAUSE_MS = const(100)"),
    ("main.py", "time.sleep(2)", "time.sleep(0.1)"),
)

GOOD = ("9.1.0", "9.2.0")
# Starts, and stays only if it can connect.
DENIED = "9.6.0"
# Ends in an exception before it has a terminal to answer at.
BROKEN = "9.7.0"
# Not signed by whom the module trusts.
FORGED = "9.8.0"


@dataclass
class Release:
    """A module image. version: which says `CONF? Version`."""

    version: str
    data: bytes
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        """What follows the header."""
        return self.data[image_header.SIZE :]


class Releases:
    """folder: an empty one; kind: "slot" or "bundle". source: the tree to start a board with."""

    def __init__(self, folder: Path, kind: str):
        self.source = tree(
            folder / "small", "torn_flash", "import torn_flash\n", "boot.py", _WITHOUT
        )
        for name, old, new in _SHORTER:
            _change(self.source / name, old, new)
        damaged = folder / "broken"
        shutil.copytree(self.source, damaged)
        _change(damaged / "firmware/app.py", "def make():\n", "def make():\n    return None\n")
        self._kind = kind
        self.of = {
            version: self._make(version, damaged if version == BROKEN else self.source)
            for version in (*GOOD, DENIED, BROKEN, FORGED)
        }

    def _make(self, version: str, source: Path) -> Release:
        labels = image_make.Labels(version=version)
        if self._kind == "slot":
            return Release(version, image_make.slot(labels, "esp32", source))
        made = Release(version, image_make.bundle(labels, source))
        made.files = image_bundle.unpack(made.payload)
        return made


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if text.count(old) != 1:
        raise ValueError(f"{path.name} no longer has {old!r} once")
    path.write_text(text.replace(old, new))
