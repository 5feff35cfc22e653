"""Configures a module over Bluetooth LE, whatever the radio (docs/ble.md).

A link is an object with `mtu` (int), `connected` (bool), and the coroutines `connect()`,
`read(uuid)`, `write(uuid, value)`, `notification(seconds)` -> (uuid, value) or None, `close()`.
"""

import json
import os

from tools.fleet import ble_wire as wire

# How long the module may take to answer: it may have to check an RSA key.
_ANSWER_S = 30


class ClientError(RuntimeError):
    """The module was not configured; `code` is the result code, None without one."""

    def __init__(self, text, code=None):
        super().__init__(text)
        self.code = code


class Client:
    """One conversation. progress: called with a line of text at each step."""

    def __init__(self, link, progress=lambda text: None):
        self._link = link
        self._progress = progress
        self._number = int.from_bytes(os.urandom(1), "big") & 0x7F
        self._assembler = wire.Assembler()
        self._session = None
        self.hello = {}

    async def open(self, passkey=None):
        """Connect, read the module's hello, and show that we know the passkey (bytes)."""
        await self._link.connect()
        text = await self._link.read(wire.HELLO)
        try:
            self.hello = json.loads(text)
            protocol = self.hello["protocol"]
        except (ValueError, TypeError, KeyError):
            raise ClientError("this device does not speak the module's language") from None
        if protocol != 1:
            raise ClientError(f"the module speaks protocol {protocol}, this program 1")
        self._progress(f"connected to {self.hello.get('name')}")
        if self.hello.get("last"):
            self._progress(f"the last configuration: {self.hello['last']}")
        if self.hello.get("key"):
            if not passkey:
                raise ClientError("the module asks for the key that was given to AT+CONFMODE")
            await self._prove(passkey)
        elif passkey:
            # Somebody may pretend to be the module, to be told the passphrase.
            raise ClientError("this module asks for no key: it may be another one")
        return self.hello

    async def _prove(self, passkey):
        try:
            session = wire.Session(passkey, self.hello)
        except wire.WireError as error:
            raise ClientError(str(error)) from None
        said = {"nonce": session.nonce.hex(), "proof": session.proof().hex()}
        await self.send(wire.HELLO, json.dumps(said).encode())
        answer = await self.answer()
        try:
            proof = bytes.fromhex(answer.get("proof", ""))
        except ValueError:
            proof = b""
        if not session.check(proof):
            raise ClientError("the module does not know the key: it is another one")
        self._session = session
        self._progress("key accepted")

    async def send(self, uuid, message):
        """Send a message (bytes) to a characteristic."""
        if self._session:
            message = self._session.seal(uuid, message)
        self._number = (self._number + 1) & 0x7F
        for frame in wire.frames(message, self._number, wire.room(self._link.mtu)):
            await self._link.write(uuid, frame)

    async def result(self, seconds=_ANSWER_S):
        """The next result (dict) that the module notifies. Raises ClientError."""
        while True:
            notified = await self._link.notification(seconds)
            if notified is None:
                gone = "" if self._link.connected else ", the connection is lost"
                raise ClientError("the module does not answer" + gone)
            uuid, value = notified
            try:
                text = self._assembler.take(value)
                if text is None:
                    continue
                result = json.loads(self._session.unseal(uuid, text) if self._session else text)
                if type(result) is not dict:
                    raise ValueError("no object")
                return result
            except wire.WireError as error:
                raise ClientError(str(error)) from None
            except ValueError:
                raise ClientError("the module's answer makes no sense") from None

    async def answer(self):
        """The result that ends a message's treatment; raises ClientError for a refusal."""
        result = await self.result()
        code = result.get("code")
        if code in (wire.OK, wire.PROGRESS, wire.DONE):
            return result
        text = wire.MEANINGS.get(code, f"code {code}")
        if result.get("about"):
            text = f"{result['about']}: {text}"
        if result.get("reason"):
            text += f" ({result['reason']})"
        raise ClientError(text, code)

    async def configure(self, values, certificate=None, key=None):
        """Send everything and have it applied. values: the configuration's JSON object (dict);
        certificate, key: PEM or DER (bytes)."""
        if certificate:
            await self.send(wire.CERTIFICATE, certificate)
            await self.answer()
            self._progress("certificate accepted")
        if key:
            await self.send(wire.KEY, key)
            await self.answer()
            self._progress("private key accepted")
        text = json.dumps({**values, "apply": True}, ensure_ascii=False)
        await self.send(wire.CONFIGURATION, text.encode())
        while True:
            result = await self.answer()
            if result["code"] == wire.DONE:
                break
            self._progress(result.get("reason", "in progress"))
        self._progress("accepted: the module restarts and tries it")

    async def close(self):
        """Disconnect."""
        await self._link.close()
