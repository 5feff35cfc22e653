"""TLS towards clients: the contexts, and a channel that flushes its alerts.

asyncio's own TLS drops the alert of a failed handshake and cannot be stopped half-way; the channel
here drives an `ssl.SSLObject` itself, so that a client learns why it was refused and a fault can
stop anywhere.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct

from tools.cloud import pki

log = logging.getLogger("cloud")

# AWS's TLS 1.2 suites (rule `tls-version`), its first choice first.
SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:"
    "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:"
    "ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"
    "AES128-GCM-SHA256:AES128-SHA256:AES128-SHA:"
    "AES256-GCM-SHA384:AES256-SHA256:AES256-SHA"
)
_READ = 65536
LINGER = 1.0  # seconds that a closing channel still takes input, so that its last words arrive


class Contexts:
    """Server contexts for one key kind; they follow the registry."""

    def __init__(self, store: pki.Store, registry, kind: str):
        """`kind`: rsa or ec, the shape of the server's chain."""
        self._store, self._registry, self._kind = store, registry, kind
        self._made: dict[tuple, ssl.SSLContext] = {}

    def forget(self) -> None:
        """Build anew at the next handshake: the registered certificates have changed."""
        self._made.clear()

    def get(self, which: str = "valid", optional: bool = False) -> ssl.SSLContext:
        """The context with the server certificate `which`; `optional` client certificate."""
        key = (which, optional)
        if key not in self._made:
            self._made[key] = self._make(which, optional)
        return self._made[key]

    def _make(self, which: str, optional: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(SUITES)
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 0
        context.load_cert_chain(*self._store.server_files(which, self._kind))
        context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
        # Each registered certificate is its own trust anchor; a CA alone opens nothing.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        pems = self._registry.certificate_pems()
        if pems:
            context.load_verify_locations(cadata="".join(pems))
        context.sni_callback = check_sni
        return context


def check_sni(_ssl_object, name: str | None, _context) -> int | None:
    """Refuse a handshake whose SNI is not the endpoint (host names know no case)."""
    if name is not None and name.lower() == pki.ENDPOINT:
        return None
    log.info("refused: rule sni (server name %r)", name)
    return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


class Channel(asyncio.Protocol):
    """One TLS connection on the server's side.

    Its user is asked `channel_open(self)` when TCP is there (it may set `deaf`, or abort), then
    told `channel_ready(self)` after the handshake, `channel_data(bytes)` for plain text, and once,
    at the end, `channel_lost(rule, detail)`. A write is one TLS record as long as it fits.
    """

    def __init__(self, choose_context, user, deadline: float = 30.0):
        """`choose_context()` gives the context for this handshake; `deadline` in seconds."""
        self._choose_context = choose_context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._user = user
        self._deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        self._ready = False
        self._closing = False
        self._lost = False
        self.deaf = False  # takes input and never answers, not even to a handshake
        self.transport: asyncio.Transport | None = None
        self.address = "?"

    # -- asyncio's side --
    def connection_made(self, transport) -> None:
        """Start the deadline of the handshake."""
        self.transport = transport
        self.address = transport.get_extra_info("peername")[0]
        self._user.channel_open(self)
        if self.deaf or self._closing:
            return
        context = self._choose_context()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._deadline, self._too_slow)

    def _too_slow(self) -> None:
        self._fail("handshake-deadline", "no TLS handshake in time")

    def data_received(self, data: bytes) -> None:
        """Cipher text: go on with the handshake, or decrypt."""
        if self._closing or self.deaf:
            return
        self._incoming.write(data)
        if self._ready or self._handshake():
            self._decrypt()

    def _handshake(self) -> bool:
        """One step of the handshake; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._fail(*_explain(error))
            return False
        self._ready = True
        self._timer.cancel()
        self._flush()
        self._user.channel_ready(self)
        return not self._closing

    def _decrypt(self) -> None:
        """Hand over everything that has come as one piece, so that what was sent together is
        seen together, whatever its records are."""
        pieces, end = [], None
        try:
            while piece := self._tls.read(_READ):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLZeroReturnError:
            end = ("connection-lost", "closed by the client")
        except ssl.SSLError as error:
            end = _explain(error)
        if pieces:
            self._user.channel_data(b"".join(pieces))
        if end is not None:
            self.close(*end)

    def eof_received(self) -> bool:
        """The client closed its direction; nothing more will come."""
        self._finish("connection-lost", "closed by the client")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The TCP connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._finish("connection-lost", str(error or "closed by the client"))

    # -- the user's side --
    def peer_certificate(self) -> bytes | None:
        """The client's certificate in DER; None when it showed none."""
        return self._tls.getpeercert(binary_form=True)

    def version(self) -> str:
        """The TLS version agreed on."""
        return self._tls.version() or "?"

    def backlog(self) -> int:
        """Bytes that the client has not taken yet."""
        return self.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send plain text; nothing happens after the end."""
        if not self._closing and not self._lost:
            self._tls.write(data)
            self._flush()

    def close(self, rule: str, detail: str = "") -> None:
        """Say goodbye (close_notify, FIN), and take input for a moment so that it arrives."""
        if self._closing or self._lost:
            return
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._ready:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                # The peer's answer is not waited for; what matters was put into `_outgoing`.
                log.debug("close_notify to %s stays unanswered", self.address)
        self._flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(LINGER, self.transport.abort)
        self._finish(rule, detail)

    def abort(self, rule: str, detail: str = "") -> None:
        """End at once: a TCP reset and no goodbye."""
        self._closing = True
        reset = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, reset
        )
        self.transport.abort()
        self._finish(rule, detail)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def _fail(self, rule: str, detail: str) -> None:
        """The handshake went wrong: the alert is in `_outgoing`, send it and close."""
        self.close(rule, detail)

    def _finish(self, rule: str, detail: str) -> None:
        if not self._lost:
            self._lost = True
            self._user.channel_lost(rule, detail)


def _explain(error: ssl.SSLError) -> tuple[str, str]:
    """The rule that a TLS error stands for, and what OpenSSL calls it."""
    text = getattr(error, "verify_message", "") or error.reason or str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate-registered", text
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "certificate-required", "no client certificate"
    if error.reason == "CALLBACK_FAILED":
        return "sni", "server name is not the endpoint"
    return "connection-lost", f"TLS: {text}"
