"""What was put into the module when it was made: names, certificates, private key.

The files are written by the manufacturing tool (`/factory`), and no command writes or clears them.
One of them, `sums`, has a line for each of the others, `name CRC-32` (hexadecimal), and a last one
for the lines before it. The private key leaves this module only towards the TLS library.
"""

import binascii
import json

from firmware.config.bundle import split
from firmware.log import ERROR, log

_FOLDER = "/factory/"

# Without these there can be no connection.
_NEEDED = ("cert.der", "key.der", "roots.der")


def _read(name):
    """A file's bytes, or b"" when it is not there."""
    try:
        with open(_FOLDER + name, "rb") as file:
            return file.read()
    except OSError as error:
        if error.errno != 2:  # ENOENT
            log(ERROR, "identity:", name, "errno", error.errno)
        return b""


def _texts(info):
    """`info` if it is a dictionary of texts. Raises ValueError."""
    if not isinstance(info, dict):
        raise ValueError("no description")
    for value in info.values():
        if not isinstance(value, str):
            raise ValueError("not a text")
    return info


class Identity:
    """The factory data. uid: the chip's own number, as bytes.

    `faults` names the files that are damaged: what was in them is not used.
    """

    def __init__(self, uid):
        self.uid = "".join("%02x" % c for c in uid).encode()
        self.faults = []
        self._check_sums()
        info = self._sound("module.json")
        try:
            info = _texts(json.loads(info)) if info else {}
        except ValueError as error:
            self._fault("module.json", error)
            info = {}
        # None: what suits the chip.
        self.board = info.get("board")
        self.endpoint = info.get("endpoint", "").encode()
        self.ntp = info.get("ntp", "pool.ntp.org").encode()
        self.thing = info.get("thing", "").encode() or self.uid
        self.about = info.get("about", "").encode()
        # Whether there is a certificate of our own, to be read when it is needed.
        self.certified = bool(self.certificate())

    def _check_sums(self):
        lines = _read("sums").split(b"\n")
        if len(lines) < 2:
            # Made before there were sums.
            return
        body = b"\n".join(lines[:-2]) + b"\n"
        if lines[-2] != b"sums %08x" % binascii.crc32(body):
            # Nothing can be said of the others then.
            self._fault("sums", "checksum")
            return
        for line in lines[:-2]:
            name, _, wanted = line.partition(b" ")
            name = name.decode()
            if wanted != b"%08x" % binascii.crc32(_read(name)):
                self._fault(name, "checksum")

    def _fault(self, name, error):
        log(ERROR, "identity: lost", name, error)
        if name not in self.faults:
            self.faults.append(name)

    def fault(self):
        """The file without which there can be no connection, if it is damaged, else None."""
        for name in _NEEDED:
            if name in self.faults:
                return name
        return None

    def _sound(self, name):
        return b"" if name in self.faults else _read(name)

    def _certificates(self, name):
        try:
            return split(self._sound(name))
        except ValueError as error:
            self._fault(name, error)
            return []

    def certificate(self):
        """The device certificate as a list of DER, empty when there is none."""
        return self._certificates("cert.der")

    def roots(self):
        """The server root certificates as a list of DER."""
        return self._certificates("roots.der")

    def ota_certificate(self):
        """The certificate that module images are checked with, as a list of DER."""
        return self._certificates("ota_cert.der")

    def private_key(self):
        """The device's private key in DER: for the TLS library only."""
        return self._sound("key.der")
