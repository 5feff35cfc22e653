"""What was put into the module when it was made: names, certificates, private key.

The files are written by the manufacturing tool (`/factory`), and no command writes or clears them.
The private key leaves this module only towards the TLS library.
"""

import json

from firmware.log import ERROR, log
from lib import pem

_FOLDER = "/factory/"


def _read(name):
    """A file's bytes, or b"" when it is not there."""
    try:
        with open(_FOLDER + name, "rb") as file:
            return file.read()
    except OSError as error:
        if error.errno != 2:  # ENOENT
            log(ERROR, "identity:", name, "errno", error.errno)
        return b""


class Identity:
    """The factory data. uid: the chip's own number, as bytes."""

    def __init__(self, uid):
        self.uid = "".join("%02x" % c for c in uid).encode()
        self.faults = []
        info = _read("module.json")
        try:
            info = json.loads(info) if info else {}
        except ValueError as error:
            self._fault("module.json", error)
            info = {}
        self.board = info.get("board", "ESP32-DevKitC")
        self.endpoint = info.get("endpoint", "").encode()
        self.ntp = info.get("ntp", "pool.ntp.org").encode()
        self.thing = info.get("thing", "").encode() or self.uid
        self.about = info.get("about", "Open ExpressLink - " + self.board).encode()

    def _fault(self, name, error):
        log(ERROR, "identity: lost", name, error)
        self.faults.append(name)

    def _certificates(self, name):
        try:
            return pem.split(_read(name))
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
        return _read("key.der")
