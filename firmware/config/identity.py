"""What was put into the module when it was made: names, certificates, private key.

The files are written by the manufacturing tool (`/factory`), and no command writes or clears them;
factory.py reads them at the start. The private key leaves this module only towards the TLS
library.
"""

from firmware.config.bundle import split
from firmware.log import ERROR, log

FOLDER = "/factory/"

# Without these there can be no connection.
_NEEDED = ("cert.der", "key.der", "roots.der")


def read(name):
    """A factory file's bytes, or b"" when it is not there."""
    try:
        with open(FOLDER + name, "rb") as file:
            return file.read()
    except OSError as error:
        if error.errno != 2:  # ENOENT
            log(ERROR, "identity:", name, "errno", error.errno)
        return b""


class Identity:
    """The factory data. uid: the chip's own number, as text in bytes.

    `faults` names the files that are damaged: what was in them is not used. What factory.py fills
    in: `board` (None: what suits the chip), `endpoint`, `ntp`, `thing`, `about`, and whether there
    is a certificate of our own, `certified`.
    """

    def __init__(self, uid):
        self.uid = uid
        self.faults = []
        self.board = None
        self.endpoint = b""
        self.ntp = b""
        self.thing = uid
        self.about = b""
        self.certified = False

    def note(self, name, why):
        """The factory file `name` is damaged; `why` is for the log."""
        log(ERROR, "identity: lost", name, why)
        if name not in self.faults:
            self.faults.append(name)

    def fault(self):
        """The file without which there can be no connection, if it is damaged, else None."""
        for name in _NEEDED:
            if name in self.faults:
                return name
        return None

    def sound(self, name):
        """A factory file's bytes, b"" when it is damaged or not there."""
        return b"" if name in self.faults else read(name)

    def _certificates(self, name):
        try:
            return split(self.sound(name))
        except ValueError as error:
            self.note(name, error)
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
        return self.sound("key.der")
