"""The wire format of CONFMODE over Bluetooth LE, the central's side (docs/ble.md).

Pure: bytes in, bytes out. It shares no code with the firmware, so that each can be a test of the
other.
"""

import hashlib
import hmac
import os
import struct
import zlib

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SERVICE = "5704246a-5d4c-4f19-9b53-157d8824063d"
CONFIGURATION = "15ba8b82-df9a-46dc-865a-177a17ad9035"
HELLO = "20a62cd0-93ba-41e2-96b0-31b1aa131909"
CERTIFICATE = "3a21768b-174a-41bc-8b25-b9c1ebfb7510"
KEY = "43c5e37d-b664-4b4a-aa33-032bbaf7133f"
# A characteristic's number is its place here, from 1.
PLACES = (CONFIGURATION, HELLO, CERTIFICATE, KEY)

# Result codes.
OK = 0
PROGRESS = 1
DONE = 2
MEANINGS = {
    0: "accepted",
    1: "in progress",
    2: "configured",
    3: "access denied",
    4: "timeout",
    5: "something is missing",
    6: "wrong Wi-Fi passphrase",
    7: "Wi-Fi network not found",
    8: "not valid",
    9: "frames were lost",
    10: "damaged on the way",
    11: "busy with another central",
    12: "failed",
    99: "no JSON object",
}

# What the module may ask for: fewer rounds would help whoever pretends to be a module, and more
# would only waste time.
_ROUNDS = range(1000, 1000001)
_LONGEST_VALUE = 512
_ATT_HEAD = 3


class WireError(ValueError):
    """What came is not what the format says."""


def room(mtu):
    """The longest frame for a connection with this MTU."""
    return min(mtu - _ATT_HEAD, _LONGEST_VALUE)


def frames(message, number, size):
    """The frames of a message, none longer than `size` bytes. number: 0 to 127."""
    checksum = zlib.crc32(message)
    made = [struct.pack("<BBHI", 0x80 | number, 0, len(message), checksum) + message[: size - 8]]
    rest = message[size - 8 :]
    while rest:
        made.append(bytes([number, len(made)]) + rest[: size - 2])
        rest = rest[size - 2 :]
    return made


class Assembler:
    """Puts together what the module notifies."""

    def __init__(self):
        self._message = None

    def take(self, frame):
        """The message (bytes) that this frame completes, or None. Raises WireError."""
        if len(frame) < 3:
            raise WireError("frame too short")
        number, index = frame[0], frame[1]
        if number & 0x80:
            self._number = number & 0x7F
            self._size, self._checksum = struct.unpack_from("<HI", frame, 2)
            self._message = frame[8:]
            self._index = 0
        else:
            expected = self._message is not None and (self._number, self._index + 1)
            if (number, index) != expected:
                self._message = None
                raise WireError("a frame was lost")
            self._index = index
            self._message += frame[2:]
        if len(self._message) < self._size:
            return None
        message, self._message = self._message, None
        if len(message) != self._size or zlib.crc32(message) != self._checksum:
            raise WireError("damaged on the way")
        return message


class _Seal:
    """One direction of a session."""

    def __init__(self, secret, way, nonces):
        self._key = _mac(secret, way + b" encrypts " + nonces)
        self._tag_key = _mac(secret, way + b" signs " + nonces)
        self._next = 0

    def _tag(self, place, sealed):
        return _mac(self._tag_key, bytes([place]) + sealed)[:16]

    def close(self, place, text):
        iv = os.urandom(16)
        padder = padding.PKCS7(128).padder()
        encryptor = Cipher(algorithms.AES(self._key), modes.CBC(iv)).encryptor()
        text = encryptor.update(padder.update(text) + padder.finalize()) + encryptor.finalize()
        sealed = struct.pack("<I", self._next) + iv + text
        self._next += 1
        return sealed + self._tag(place, sealed)

    def open(self, place, sealed):
        body, tag = sealed[:-16], sealed[-16:]
        if len(body) < 36 or not hmac.compare_digest(tag, self._tag(place, body)):
            raise WireError("a message was forged")
        (counter,) = struct.unpack_from("<I", body)
        if counter < self._next:
            raise WireError("a message was sent again")
        self._next = counter + 1
        decryptor = Cipher(algorithms.AES(self._key), modes.CBC(body[4:20])).decryptor()
        unpadder = padding.PKCS7(128).unpadder()
        text = decryptor.update(body[20:]) + decryptor.finalize()
        return unpadder.update(text) + unpadder.finalize()


def _mac(key, text):
    return hmac.new(key, text, "sha256").digest()


class Session:
    """Proofs and keys from the passkey (bytes) and the module's hello (dict).

    nonce: 16 bytes, given by tests only.
    """

    def __init__(self, passkey, hello, nonce=None):
        try:
            salt, theirs = bytes.fromhex(hello["salt"]), bytes.fromhex(hello["nonce"])
            rounds = hello["rounds"]
        except (KeyError, TypeError, ValueError):
            raise WireError("the module's hello lacks what a session needs") from None
        if type(rounds) is not int or rounds not in _ROUNDS or len(theirs) != 16:
            raise WireError("the module asks for something unreasonable")
        self.nonce = nonce or os.urandom(16)
        self._nonces = theirs + self.nonce
        self._secret = hashlib.pbkdf2_hmac("sha256", passkey, salt, rounds)
        self._outgoing = _Seal(self._secret, b"central", self._nonces)
        self._incoming = _Seal(self._secret, b"module", self._nonces)

    def proof(self):
        """What shows the module that we know the passkey."""
        return _mac(self._secret, b"central proves " + self._nonces)

    def check(self, proof):
        """Whether the module knows it too."""
        return hmac.compare_digest(proof, _mac(self._secret, b"module proves " + self._nonces))

    def seal(self, uuid, text):
        """`text` sealed for a characteristic."""
        return self._outgoing.close(PLACES.index(uuid) + 1, text)

    def unseal(self, uuid, sealed):
        """What the module sealed. Raises WireError."""
        return self._incoming.open(PLACES.index(uuid) + 1, sealed)
