"""Who the module is: names, certificates, private keys.

What it was made with is in files (`/factory`) that the manufacturing tool writes and no command
touches; factory.py reads them at the start. What the cloud has issued since counts more, and is
kept in the store. A private key leaves this module only towards the TLS library.
"""

from firmware.config.bundle import split
from firmware.log import ERROR, log

FOLDER = "/factory/"

# An identity that the cloud has issued, or a person has brought: one value in the store, so that
# nothing of it is ever there without the rest.
#
#     length of the thing's name (1 byte) | name | certificate (DER) | private key (DER)
ISSUED = "Identity"
# Where it is until the cloud has accepted a connection with it.
TRIAL = "Identity.trial"


def record(thing, certificate, key):
    """An issued identity as it is kept. thing: 1 to 128 bytes; certificate and key: DER."""
    return bytes((len(thing),)) + thing + certificate + key


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
    """uid: the chip's own number, as text in bytes.

    `faults` names the factory files that are damaged: what was in them is not used. What
    factory.py fills in: `board` (empty: not told; app.py then says which), `endpoint`, `ntp`,
    `template` (of provisioning), `about`, and `born` (certificate there, name of the thing).
    `thing` is the name that counts now, and `certified` says whether there is a certificate;
    `on_trial`, whether they are an issued identity that has not made a connection yet; `doubted`,
    whether there is such a one that has been refused `refusals` times (trial.py).
    """

    def __init__(self, uid):
        self.uid = uid
        self.faults = []
        self.board = ""
        self.endpoint = b""
        self.ntp = b""
        self.template = b""
        self.about = b""
        self.born: tuple = (False, uid)
        self.certified = False
        self.thing = uid
        self.on_trial = False
        self.doubted = False
        self.refusals = 0
        self._issued = None
        self.store = self._config = None

    def attach(self, store, config):
        """Use the issued identities in `store`; `config` is told of every new name."""
        self.store = store
        self._config = config
        self.choose()

    def choose(self):
        """Have the identity that counts: on trial, unless it is in doubt; issued; born. To be
        called when the store has been changed by others."""
        self.certified, self.thing = self.born
        self._issued = None
        for name in (TRIAL, ISSUED):
            if name == TRIAL and self.doubted:
                continue
            try:
                found = self._read(name)
            except ValueError as error:
                self.store.damaged(name, str(error))
                continue
            if found:
                self._issued = name
                self.certified = True
                self.thing = found[0]
                break
        self.on_trial = self._issued == TRIAL
        self._config.provide(b"ThingName", self.thing)
        self._config.provide(b"TopicRoot", self.thing)

    def _read(self, name):
        """An issued identity as (thing, certificate, key), None when there is none. Raises
        ValueError."""
        data = self.store.read(name)
        if data is None:
            return None
        thing = data[1 : 1 + data[0]] if data else b""
        parts = split(data[1 + len(thing) :])
        if not thing or len(parts) != 2:
            raise ValueError("no identity")
        return thing, parts[0], parts[1]

    def _part(self, index):
        try:
            found = self._read(self._issued)
        except ValueError as error:
            self.store.damaged(self._issued, str(error))
            found = None
        return found[index] if found else b""

    def note(self, name, why):
        """The factory file `name` is damaged; `why` is for the log."""
        log(ERROR, "identity: lost", name, why)
        if name not in self.faults:
            self.faults.append(name)

    def fault(self):
        """The file without which there can be no connection, if it is damaged, else None."""
        needed = ["roots.der"]
        if not self._issued:
            needed += ["module.json", "cert.der", "key.der"]
            if not self.certified:
                needed += ["claim_cert.der", "claim_key.der"]
        for name in needed:
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
        if self._issued:
            return [self._part(1)]
        return self._certificates("cert.der")

    def claim(self):
        """What the module may ask for a certificate with: the claim's certificate as a list of
        DER, empty when there is none, and its private key in DER."""
        return self._certificates("claim_cert.der"), self.sound("claim_key.der")

    def roots(self):
        """The server root certificates as a list of DER."""
        return self._certificates("roots.der")

    def ota_certificate(self):
        """The certificate that module images are checked with, as a list of DER."""
        return self._certificates("ota_cert.der")

    def private_key(self):
        """The device's private key in DER: for the TLS library only."""
        if self._issued:
            return self._part(2)
        return self.sound("key.der")
