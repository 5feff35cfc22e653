"""The web server's routes: the page, what it asks for, and the way to it for everything else."""

import json
from binascii import hexlify, unhexlify

from micropython import const

from firmware.confmode import page

_REDIRECT = const(302)
_BAD_REQUEST = const(400)
_FORBIDDEN = const(403)
_METHOD = const(405)
_CONFLICT = const(409)
_TYPE = const(415)
_TOO_MANY = const(429)
_UNAVAILABLE = const(503)

_JSON = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"
_NO_STORE = b"Cache-Control: no-store\r\n"

# Hosts that are this module when it runs on a PC; on a board nobody's request can name them.
_HERE = (b"127.0.0.1", b"localhost")


class Refused(Exception):
    """An order is refused: (status, text that the page may show, further header lines)."""


def utf8(data):
    """`data` as text, or None when it is no UTF-8: what a browser would show is then another
    name, and MicroPython's own decoder takes surrogates and long forms for good."""
    more = least = value = 0
    for c in data:
        if more:
            if c & 0xC0 != 0x80:
                return None
            value = value << 6 | c & 0x3F
            more -= 1
            if not more and (value < least or value >> 11 == 27 or value > 0x10FFFF):
                return None
        elif c >= 0x80:
            if 0xC2 <= c < 0xE0:
                more, least, value = 1, 0x80, c & 0x1F
            elif 0xE0 <= c < 0xF0:
                more, least, value = 2, 0x800, c & 0x0F
            elif 0xF0 <= c < 0xF5:
                more, least, value = 3, 0x10000, c & 0x07
            else:
                return None
    return None if more else data.decode()


def _named(ssid):
    """{"ssid": text}, or {"hex": digits} for a name that is no text."""
    text = utf8(ssid)
    if text is None:
        return {"hex": hexlify(ssid).decode()}
    return {"ssid": text}


def _json(values):
    return 200, _JSON, json.dumps(values).encode()


class Portal:
    """manager, module: see `manager.Manager`. ap: the `softap.SoftAp` that is asked and ordered.
    address: its own, as text in bytes."""

    def __init__(self, manager, module, ap, address):
        self._manager = manager
        self._module = module
        self._ap = ap
        self._address = address

    async def answer(self, request):
        """(status, header lines, body) for a complete `lib.http.Parser`."""
        self._manager.touched()
        method = request.method
        host = request.headers.get(b"host", self._address).lower()
        # A page of somebody else's could have its own name lead here (DNS rebinding).
        ours = host.partition(b":")[0]
        ours = ours == self._address or ours in _HERE
        try:
            if method == b"POST":
                return self._order(request, host if ours else None)
            if method != b"GET" and method != b"HEAD":
                return _METHOD, b"Allow: GET, HEAD, POST\r\n", b""
            if ours:
                if request.path == b"/":
                    return self._page()
                if request.path == b"/api/state":
                    return _json(self._state())
                if request.path == b"/api/networks":
                    return self._networks()
        except Refused as refusal:
            status, text, fields = refusal.args
            return status, _JSON + fields, json.dumps({"error": text}).encode()
        # Also what phones ask for to find out whether there is an Internet: the wrong answer makes
        # them show the page.
        host = host if ours else self._address
        return _REDIRECT, _NO_STORE + b"Location: http://%s/\r\n" % host, b""

    def _page(self):
        fields = b"Content-Encoding: gzip\r\nContent-Type: text/html; charset=utf-8\r\n"
        fields += b"Content-Security-Policy: %s\r\n" % page.POLICY
        return 200, fields + _NO_STORE, page.PAGE

    def _state(self):
        ap = self._ap
        state = ap.state
        shown = {
            "token": ap.token.decode(),
            "name": utf8(ap.name),
            "state": state,
            "open": ap.open(),
            "endpoint": self._module.config.get(b"EndPoint").decode(),
        }
        if state != "idle":
            shown.update(_named(ap.ssid))
        if state == "joined":
            shown["address"] = self._module.wifi.address().decode()
            shown["left"] = ap.left_s()
        elif state == "failed":
            shown["reason"] = ap.reason.decode()
        return shown

    def _networks(self):
        if self._ap.state == "trying":
            raise Refused(_UNAVAILABLE, "joining", b"Retry-After: 3\r\n")
        try:
            found = self._ap.networks()
        except (OSError, RuntimeError):
            raise Refused(_UNAVAILABLE, "no scan possible now", b"Retry-After: 3\r\n")
        shown = []
        for ssid, rssi, secure in found:
            entry = _named(ssid)
            entry["rssi"] = rssi
            entry["secure"] = secure
            shown.append(entry)
        return _json({"networks": shown})

    def _order(self, request, host):
        """POST: from our own page only, with the token that it was given."""
        path = request.path
        if path != b"/api/join" and path != b"/api/done":
            return _METHOD, b"Allow: GET, HEAD\r\n", b""
        origin = request.headers.get(b"origin")
        if host is None or (origin is not None and origin.lower() != b"http://" + host):
            raise Refused(_FORBIDDEN, "another site", b"")
        kind = request.headers.get(b"content-type", b"").partition(b";")[0]
        if kind.strip().lower() != b"application/json":
            # A form of another site cannot send this type.
            raise Refused(_TYPE, "not JSON", b"")
        given = _object(request.body)
        token = _text(given, "token")
        if token is None or token.encode() != self._ap.token:
            raise Refused(_FORBIDDEN, "reload the page", b"")
        if path == b"/api/done":
            if self._ap.state != "joined":
                raise Refused(_CONFLICT, "not joined", b"")
            self._ap.seen()
            return 200, _JSON, b"{}"
        return self._join(self._values(given))

    def _values(self, given):
        """The keys of the dictionary that the order gives; raises Refused."""
        check = self._module.config.check
        values = {b"SSID": _ssid(given)}
        passphrase = (_text(given, "passphrase") or "").encode()
        if not check(b"Passphrase", passphrase):
            raise Refused(_BAD_REQUEST, "passphrase: 8 to 63 plain characters", b"")
        values[b"Passphrase"] = passphrase
        endpoint = (_text(given, "endpoint") or "").encode()
        if endpoint:
            if not check(b"EndPoint", endpoint):
                raise Refused(_BAD_REQUEST, "endpoint: host, or host:port", b"")
            values[b"EndPoint"] = endpoint
        return values

    def _join(self, values):
        ap = self._ap
        if ap.state == "trying" or ap.state == "joined":
            raise Refused(_CONFLICT, "busy", b"")
        wait = ap.wait_s()
        if wait:
            raise Refused(_TOO_MANY, "too many tries", b"Retry-After: %d\r\n" % wait)
        ap.attempt(values)
        return 202, _JSON, b'{"state":"trying"}'


def _object(body):
    """The JSON object in `body`; raises Refused."""
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Refused(_BAD_REQUEST, "not a JSON object", b"")
    return given


def _text(given, name):
    """The text under `name`, None when there is none; raises Refused for another type."""
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(_BAD_REQUEST, name + ": not a text", b"")
    return value


def _ssid(given):
    """The SSID in bytes, 1 to 32 of any value; raises Refused."""
    text = _text(given, "ssid")
    digits = _text(given, "hex")
    if text is not None:
        ssid = text.encode()
        if utf8(ssid) is None:
            # Half a character, for instance, which the decoder of \\u lets through.
            raise Refused(_BAD_REQUEST, "name of the network: send it as UTF-8", b"")
    else:
        try:
            ssid = unhexlify(digits or "")
        except ValueError:
            ssid = b""
    if not 0 < len(ssid) <= 32:
        raise Refused(_BAD_REQUEST, "name of the network: 1 to 32 bytes", b"")
    return ssid
