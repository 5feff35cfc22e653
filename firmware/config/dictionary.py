"""The keys of Tables 2 and 3 as data, and the dictionary that they make.

The table says all there is to know of a key; what the value of a read-only key is, its owner says
(`provide`). Values are bytes, as the host wrote them; those of certificates are lists of DER.
"""

from micropython import const

from firmware.at.errors import (
    KEY_LENGTH,
    KEY_NAME,
    KEY_READONLY,
    KEY_UNKNOWN,
    KEY_WRITEONLY,
    PARAMETER,
    AtError,
)
from firmware.config.bundle import split
from firmware.log import ERROR, log

_READ = const(1)
_WRITE = const(2)
_KEPT = const(4)  # persistent: lives in the store
_RESET = const(8)  # back to its initial value at a factory reset
_CERTIFICATE = const(16)  # the value is a list of DER certificates; shown as PEM

# (name, what may be done with it, the function of checks.py for a new value)
_TABLE = (
    # Table 2, and of our own: RootCA (D13), NTPServer (D25), how a certificate is asked for, and
    # what CONFMODE uses.
    (b"About", _READ, None),
    (b"Version", _READ, None),
    (b"TechSpec", _READ, None),
    (b"ThingName", _READ, None),
    (b"Certificate", _READ | _CERTIFICATE, None),
    (b"RootCA", _READ | _WRITE | _KEPT | _CERTIFICATE, None),
    (b"OTAcertificate", _READ | _WRITE | _KEPT | _CERTIFICATE, None),
    (b"HOTAcertificate", _READ | _WRITE | _KEPT | _RESET | _CERTIFICATE, None),
    (b"EndPoint", _READ | _WRITE | _KEPT | _RESET, "endpoint"),
    (b"TopicRoot", _READ | _WRITE | _KEPT | _RESET, "topic_root"),
    (b"Defender", _READ | _WRITE | _KEPT | _RESET, "seconds"),
    (b"SSID", _READ | _WRITE | _KEPT | _RESET, "ssid"),
    (b"Passphrase", _WRITE | _KEPT | _RESET, "passphrase"),
    (b"NTPServer", _READ | _WRITE | _KEPT | _RESET, "endpoint"),
    (b"ProvisionMode", _READ | _WRITE | _KEPT | _RESET, "provision_mode"),
    (b"ConfTransport", _READ | _WRITE | _KEPT | _RESET, "transport"),
    # Table 3, and QoS of our own (D15).
    (b"IPv4Address", _READ, None),
    (b"IPv6Address", _READ, None),
    (b"DNSAddress", _READ, None),
    (b"GatewayAddress", _READ, None),
    (b"QoS", _READ | _WRITE, "qos"),
)

# Where new roots are kept until a connection with them has worked (D13).
_TRIAL = "RootCA.trial"


def _letters(key):
    """True for 0-9, A-Z, a-z only (5.1.1.3)."""
    for c in key:
        if not (48 <= c <= 57 or 97 <= c | 32 <= 122):
            return False
    return True


def _allowed(check, value):
    """What the function `check` of checks.py says, which is needed for new values only."""
    from firmware.config import checks

    return getattr(checks, check)(value)


class Dictionary:
    """The configuration dictionary.

    store: a `store.Store`. profile: limits of the guide. topics: the topic list, a list whose
    item n is the value of key Topic<n>.
    """

    def __init__(self, store, profile, topics):
        self._store = store
        self._profile = profile
        self._topics = topics
        self._initial = {}
        self._cache = {}

    def provide(self, name, value):
        """Say what key `name` is when nobody has written it: bytes, or a function that returns
        bytes (for a certificate: a list of DER)."""
        self._initial[name] = value
        self._cache.pop(name, None)

    def _row(self, key):
        """The table's row for a key as the host wrote it, or the number of a topic.

        Raises AtError in the order of decision D11."""
        if not 0 < len(key) <= self._profile.max_key:
            raise AtError(KEY_LENGTH)
        if not _letters(key):
            raise AtError(KEY_NAME)
        key = key.lower()
        for row in _TABLE:
            if len(row[0]) == len(key) and row[0].lower() == key:
                return row
        if key.startswith(b"topic"):
            digits = key[5:]
            if digits.isdigit() and not digits.startswith(b"0"):
                index = int(digits)
                if index <= self._profile.max_topic:
                    return index
        raise AtError(KEY_UNKNOWN)

    def assign(self, key, value):
        """`CONF key=value` (5.2.1). Raises AtError."""
        row = self._row(key)
        if isinstance(row, int):
            if not _allowed("topic", value):
                raise AtError(PARAMETER)
            self._topics[row] = value
            return
        name, flags, check = row
        if not flags & _WRITE:
            raise AtError(KEY_READONLY)
        if not _allowed(check, value):
            raise AtError(PARAMETER)
        # The initial value counts as another one: a later version may have another.
        if flags & _KEPT and self._store.read(name.decode()) != value:
            self._keep(name.decode(), value)
        self._cache[name] = value

    def _keep(self, name, value):
        try:
            self._store.write(name, value)
        except OSError as error:
            log(ERROR, "config:", name, "not stored, errno", error.errno)
            raise AtError(PARAMETER, b"not stored, errno %d" % error.errno)

    def certificate_key(self, key):
        """The name, spelt as in the table, of a certificate that may be written; None for a key
        that is no certificate. Raises AtError."""
        row = self._row(key)
        if isinstance(row, int) or not row[1] & _CERTIFICATE:
            return None
        if not row[1] & _WRITE:
            raise AtError(KEY_READONLY)
        return row[0]

    def keep_certificates(self, name, certificates):
        """Keep a list of DER, which somebody has verified, as the value of `name`; new roots are
        on trial first. Raises AtError."""
        trial = name == b"RootCA"
        self._keep(_TRIAL if trial else name.decode(), b"".join(certificates))

    def trial_roots(self):
        """The roots that are on trial as a list of DER, empty when there are none (D13)."""
        return self._kept_certificates(_TRIAL) or []

    def trial_worked(self):
        """The roots on trial have made a connection alone: they replace the old ones."""
        try:
            self._store.rename(_TRIAL, "RootCA")
        except OSError as error:
            # They stay on trial, and will prove themselves again.
            log(ERROR, "config: RootCA not renamed, errno", error.errno)

    def _kept_certificates(self, name):
        """A list of DER from the store, or None."""
        value = self._store.read(name)
        if value is None:
            return None
        try:
            return split(value)
        except ValueError as error:
            self._store.damaged(name, str(error))
            return None

    def clear(self):
        """Forget what a factory reset forgets (Table 2). Raises OSError."""
        # Neither does what is to be tried after the restart survive.
        self.keep({row[0]: None for row in _TABLE if row[1] & _RESET}, {"candidate": None})

    def check(self, name, value):
        """True when the key `name`, spelt as in the table, may have this value."""
        _, _, check = self._row(name)
        return _allowed(check, value)

    def keep(self, values, others=None):
        """Keep several checked values, {name: bytes or None for the initial one}, in one
        transaction; `others`: what else goes into the store with them. Raises OSError."""
        for name in values:
            self._cache.pop(name, None)
        changes = dict(others or {})
        for name, value in values.items():
            changes[name.decode()] = value
        self._store.change(changes)

    def query(self, key):
        """`CONF? key` (5.2.2): the value, and whether it is a list of certificates.

        Raises AtError."""
        row = self._row(key)
        if isinstance(row, int):
            return self._topics[row], False
        name, flags, _ = row
        if not flags & _READ:
            raise AtError(KEY_WRITEONLY)
        if name == b"RootCA":
            return self.trial_roots() or self.get(name), True
        return self.get(name), bool(flags & _CERTIFICATE)

    def get(self, name):
        """The value of the key `name`, spelt as in the table: for the firmware's own use."""
        value = self._cache.get(name)
        if value is not None:
            return value
        _, flags, check = self._row(name)
        if flags & _KEPT:
            if flags & _CERTIFICATE:
                # Large, and seldom asked for: not remembered.
                value = self._kept_certificates(name.decode())
                return self._initial_value(name) if value is None else value
            value = self._store.read(name.decode())
            if value is not None and not _allowed(check, value):
                # Written by a version that thought otherwise, or not by us at all.
                self._store.damaged(name.decode(), "value out of range")
                value = None
            if value is not None:
                self._cache[name] = value
                return value
        initial = self._initial_value(name)
        if not callable(self._initial.get(name)):
            # Remembered, so that a key that nobody has written does not cost a look into the
            # flash with every message.
            self._cache[name] = initial
        return initial

    def _initial_value(self, name):
        initial = self._initial.get(name, b"")
        return initial() if callable(initial) else initial
