"""What a central may say over Bluetooth LE, and what it is answered (docs/ble.md).

One object a connection. It knows messages, not the radio: frames are handed to it, and it answers
through a function.
"""

import gc
import json
import os
from binascii import a2b_base64, hexlify, unhexlify

from micropython import const

from firmware.config.bundle import split
from firmware.config.identity import record
from firmware.confmode import sealing
from firmware.confmode.frames import FrameError, Receiver
from lib.hmac_sha256 import digest

# The characteristics. (A name that only this file sees costs no memory, so ble.py has its own.)
_CONFIGURATION = const(1)
_HELLO = const(2)
_CERTIFICATE = const(3)

# Result codes, as they go over the air (frames.py has those of lost messages).
_OK = const(0)
_PROGRESS = const(1)
_DENIED = const(3)
_INCOMPLETE = const(5)
_INVALID = const(8)
_NO_JSON = const(99)

_NONCE = const(16)
_HELLO_MAX = const(256)
# What sealing adds at most.
_SEALED = const(52)
_LIMITS = (0, 1024, 0, 2560, 2048)
_PLACES = (b"", b"configuration", b"hello", b"certificate", b"key")
_NAMES = (b"ssid", b"hex", b"pwd", b"host", b"thing", b"port", b"apply")
_TEXTS = const(5)  # as many of them are texts
_THING_MAX = const(128)

# What has to be free to check a key: the libraries, their names, and the numbers.
_CHECK_HEAP = const(24576)


# Of the hello without its nonce: all of it has to fit an attribute of 512 bytes.
_SHOWN_MAX = const(460)


def hello(name, salt, rounds, last):
    """What a module tells of itself, JSON without its end (bytes). name, last (how CONFMODE ended
    the last time): bytes from the host; salt: b"" where no key is asked for."""
    text = b'{"protocol":1,"name":' + _json(name)
    if salt:
        text += b',"key":true,"rounds":%d,"salt":"%s"' % (rounds, hexlify(salt))
    else:
        text += b',"key":false,"open":"anybody near can listen"'
    more = b',"last":' + _json(last)
    if last and len(text) + len(more) < _SHOWN_MAX:
        text += more
    return text


def _json(text):
    """Bytes as a text in JSON; what is no UTF-8 shows as question marks."""
    try:
        text = text.decode()
    except UnicodeError:
        text = "".join(chr(c) if 32 <= c < 127 else "?" for c in text)
    return json.dumps(text).encode()


class Refused(Exception):
    """A message is not accepted; the arguments are the result code and the reason (text)."""


class Intake:
    """The conversation with one central.

    secret: what `sealing.stretch` made of the passkey, b"" without one. hello: what the module
    tells of itself, JSON without its end (bytes). nonce: one that no central has answered, or b"".
    tell: coroutine function that takes the bytes of a message for the central. show: function
    that takes the bytes that the second characteristic is to show.
    """

    def __init__(self, module, secret, hello, nonce, tell, show):
        self._module = module
        self._secret = secret
        self._hello = hello
        self._send = tell
        self._show = show
        self._incoming = self._outgoing = None
        self._values = {}
        self._certificate = self._key = self._thing = b""
        # Whether the central may configure the module, how many proofs were wrong, and what is to
        # be applied once the configuration is complete.
        self.accepted = not secret
        self.wrong = 0
        self.record = None
        more = _SEALED if secret else 0
        self._receivers = [Receiver(limit + more if limit else _HELLO_MAX) for limit in _LIMITS]
        self._renew(nonce)

    def _renew(self, nonce=b""):
        self.nonce = nonce or os.urandom(_NONCE)
        self._show(self._hello + b',"nonce":"%s"}' % hexlify(self.nonce))

    def waiting(self):
        """Whether part of a message has come, and the rest has not."""
        return any(receiver.waiting() for receiver in self._receivers)

    def drop(self):
        """Forget the messages that are not whole."""
        for receiver in self._receivers:
            receiver.drop()

    async def tell(self, code, reason="", more=b""):
        """Send a result. more: further members of the JSON object, each with a comma before."""
        text = b'{"code":%d' % code + more
        if reason:
            text += b',"reason":' + json.dumps(reason).encode()
        text += b"}"
        if self._outgoing:
            text = self._outgoing.close(_HELLO, text)
        await self._send(text)

    async def take(self, place, frame):
        """Take a frame that was written to the characteristic `place`, and answer when it ends a
        message. `record` is set when the configuration is complete, checked and to be applied."""
        about = b',"about":"%s"' % _PLACES[place]
        try:
            if place != _HELLO and not self.accepted:
                raise Refused(_DENIED, "the key first")
            message = self._receivers[place].take(frame)
            if message is None:
                return
            if place == _HELLO:
                await self._prove(message)
                return
            if self._incoming:
                message = self._unseal(place, message)
            if place != _CONFIGURATION:
                message = _der(message)
                if place == _CERTIFICATE:
                    self._certificate = message
                else:
                    self._key = message
            elif self._configure(_object(message)):
                await self.tell(_PROGRESS, "checking")
                self.record = await self._complete()
                return
            await self.tell(_PROGRESS, "", about)
        except (FrameError, Refused) as error:
            code, reason = error.args
            await self.tell(code, reason, about)

    def _unseal(self, place, message):
        try:
            message = self._incoming.open(place, message)
        except ValueError as error:
            raise Refused(_DENIED, str(error))
        if not 0 < len(message) <= _LIMITS[place]:
            raise Refused(_INVALID, "length")
        return message

    async def _prove(self, message):
        """The central shows that it knows the key, and is shown that we do."""
        if not self._secret or self._incoming:
            raise Refused(_INVALID, "no key is asked for")
        said = _object(message)
        try:
            nonce = unhexlify(said[b"nonce"])
            proof = unhexlify(said[b"proof"])
        except (KeyError, ValueError, TypeError):
            raise Refused(_INCOMPLETE, "nonce, proof")
        if len(nonce) != _NONCE:
            raise Refused(_INVALID, "nonce, 16 bytes")
        nonces = self.nonce + nonce
        # What was tried once is not tried again.
        self._renew()
        secret = self._secret
        if not sealing.same(proof, digest(secret, b"central proves ", nonces)):
            self.wrong += 1
            raise Refused(_DENIED, "wrong key")
        ours = hexlify(digest(secret, b"module proves ", nonces))
        await self.tell(_OK, "", b',"proof":"%s"' % ours)
        self._incoming = sealing.Seal(secret, b"central", nonces)
        self._outgoing = sealing.Seal(secret, b"module", nonces)
        self.accepted = True

    # The configuration.

    def _configure(self, said):
        """Take over the values of a JSON object, all or none; whether they are to be applied."""
        for name, value in said.items():
            kind = _NAMES.index(name) if name in _NAMES else -1
            if name == b"port":
                good = type(value) is int and 0 < value < 65536
            elif name == b"apply":
                good = value is True
            else:
                good = 0 <= kind < _TEXTS and type(value) is bytes
            if not good:
                raise Refused(_INVALID, name.decode())
        values = _values(said)
        for name, value in values.items():
            if not self._module.config.check(name, value):
                raise Refused(_INVALID, name.decode())
        thing = said.get(b"thing", self._thing)
        if b"thing" in said and not _is_thing(thing):
            raise Refused(_INVALID, "thing")
        self._values.update(values)
        self._thing = thing
        return b"apply" in said

    async def _complete(self):
        """Check what belongs together; returns what `candidate.propose` takes."""
        module = self._module
        if not (self._values.get(b"SSID") or module.config.get(b"SSID")):
            raise Refused(_INCOMPLETE, "ssid")
        certificate, key = self._certificate, self._key
        if not (certificate or key or self._thing):
            return self._values, b""
        if not certificate:
            raise Refused(_INCOMPLETE, "certificate")
        if not key:
            raise Refused(_INCOMPLETE, "key")
        why = await self._check(certificate, key)
        if why:
            raise Refused(_INVALID, why)
        return self._values, record(self._thing or module.identity.thing, certificate, key)

    async def _check(self, certificate, key):
        """What is wrong with the pair, None when nothing is, or when there is no room to say:
        after the restart there is, and it is checked again in any case."""
        gc.collect()
        if gc.mem_free() > _CHECK_HEAP:
            try:
                from firmware.confmode.candidate import fault

                return await fault(certificate, key)
            except MemoryError:
                gc.collect()
        await self.tell(_PROGRESS, "to be checked after the restart")
        return None


def _object(message):
    """The JSON object in `message` as {bytes: value}, its texts as bytes, else Refused."""
    try:
        found = json.loads(bytes(message).decode())
    except ValueError:
        found = None
    if type(found) is not dict:
        raise Refused(_NO_JSON, "no JSON object")
    said = {}
    for name, value in found.items():
        if type(name) is not str:
            # MicroPython takes other names too.
            raise Refused(_NO_JSON, "no JSON object")
        said[_bytes(name)] = _bytes(value) if type(value) is str else value
    return said


def _bytes(text):
    value = text.encode()
    # A character beyond U+FFFF that was written as two escapes.
    for i in range(len(value) - 1):
        if value[i] == 0xED and value[i + 1] >= 0xA0:
            raise Refused(_NO_JSON, "escaped surrogates")
    return value


def _values(said):
    """The keys of the dictionary that a configuration sets."""
    values = {}
    passphrase = said.get(b"pwd")
    ssid = said.get(b"ssid")
    if b"hex" in said:
        try:
            ssid = unhexlify(said[b"hex"])
        except ValueError:
            raise Refused(_INVALID, "hex")
    if ssid is not None:
        if not ssid:
            raise Refused(_INVALID, "SSID")
        values[b"SSID"] = ssid
        # A name without a passphrase is that of an open network.
        passphrase = passphrase or b""
    if passphrase is not None:
        values[b"Passphrase"] = passphrase
    host = said.get(b"host")
    if b"port" in said:
        if not host:
            raise Refused(_INCOMPLETE, "host")
        if b":" in host:
            raise Refused(_INVALID, "host")
        host += b":%d" % said[b"port"]
    if host is not None:
        values[b"EndPoint"] = host
    return values


def _is_thing(name):
    """Whether AWS IoT allows this name of a thing."""
    for c in name:
        # Letters, digits, and : _ -
        if not (48 <= c <= 58 or 97 <= c | 32 <= 122 or c == 95 or c == 45):
            return False
    return 0 < len(name) <= _THING_MAX


def _der(message):
    """The one DER value in a message that is DER, or PEM; what is in it is checked when all is
    there."""
    found = bytes(message)
    if found[0] != 0x30:
        found = _pem(found)
    try:
        if len(split(found)) == 1:
            return found
    except ValueError as error:
        raise Refused(_INVALID, str(error))
    raise Refused(_INVALID, "more than one")


def _pem(text):
    """The DER of the certificate or key in a PEM text; blocks of another kind are passed over."""
    blocks = []
    block = None
    for line in text.split(b"\n"):
        line = line.strip()
        if line.startswith(b"-----BEGIN "):
            wanted = line.endswith(b" CERTIFICATE-----") or line.endswith(b" KEY-----")
            block = b"" if wanted else None
        elif line.startswith(b"-----END "):
            if block:
                blocks.append(block)
            block = None
        elif block is not None:
            if b":" in line:
                raise Refused(_INVALID, "encrypted")
            block += line
    if len(blocks) != 1:
        raise Refused(_INVALID, "neither DER nor one PEM block")
    try:
        return a2b_base64(blocks[0])
    except ValueError:
        raise Refused(_INVALID, "PEM damaged")
