"""The web server's routes: the page, what it asks for, and the way to it for everything else."""

import json
from binascii import hexlify, unhexlify

from micropython import const

from firmware.config import checks
from firmware.confmode import page
from firmware.log import WARNING, log

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

# Hosts that are this module when it runs on a PC. To a board a client may name them too, and gains
# nothing: a browser takes them for its own machine, so that no page of another site comes here.
_HERE = (b"127.0.0.1", b"localhost")


class Refused(Exception):
    """An order is refused: (status, text that the page may show, further header lines), and after
    them the field that is to blame, if one is."""


def _named(ssid):
    """{"ssid": text}, or {"hex": digits} for a name that is no text."""
    if checks.text(ssid):
        return {"ssid": ssid.decode()}
    return {"hex": hexlify(ssid).decode()}


def _wrong(field, text):
    """What to raise when `field` of an order cannot be taken."""
    return Refused(_BAD_REQUEST, text, b"", field)


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
        """(status, header lines, body) for a complete `lib.http_parser.Parser`."""
        method = request.method
        path = request.path
        host = request.headers.get(b"host", self._address).lower()
        # A page of somebody else's could have its own name lead here (DNS rebinding).
        name, colon, port = host.partition(b":")
        ours = name == self._address or name in _HERE
        if colon and not port.isdigit():
            ours = False
        if ours and (path == b"/" or path.startswith(b"/api/")):
            # Phones look for the Internet all the time: that would keep it up for ever.
            self._manager.touched()
        try:
            if method == b"POST":
                return self._order(request, host if ours else None)
            if method != b"GET" and method != b"HEAD":
                return _METHOD, b"Allow: GET, HEAD, POST\r\n", b""
            if ours:
                if path == b"/":
                    return self._page()
                if path == b"/api/state":
                    return _json(self._state())
                if path == b"/api/networks":
                    return self._networks()
        except Refused as refusal:
            status, text, fields = refusal.args[:3]
            shown = {"error": text}
            if len(refusal.args) > 3:
                shown["field"] = refusal.args[3]
            return status, _JSON + fields, json.dumps(shown).encode()
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
            "name": ap.name.decode(),
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
        except (OSError, RuntimeError) as error:
            log(WARNING, "confmode: no scan:", error)
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
        token = given.get("token")
        if not isinstance(token, str) or token.encode() != self._ap.token:
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
            text = "The password must have 8 to 63 letters, digits or signs (no accents)."
            raise _wrong("passphrase", text)
        values[b"Passphrase"] = passphrase
        endpoint = (_text(given, "endpoint") or "").encode()
        if endpoint:
            if not check(b"EndPoint", endpoint):
                text = "The cloud endpoint must be a host name, or host:port."
                raise _wrong("endpoint", text)
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
        raise _wrong("ssid" if name == "hex" else name, name + ": not a text")
    return value


def _ssid(given):
    """The SSID in bytes, 1 to 32 of any value; raises Refused."""
    text = _text(given, "ssid")
    digits = _text(given, "hex")
    if text is not None:
        ssid = text.encode()
        if not checks.text(ssid):
            # Half a character, for instance, which the decoder of \\u lets through.
            raise _wrong("ssid", "The network name has a character that is not valid.")
    else:
        try:
            ssid = unhexlify(digits or "")
        except ValueError:
            ssid = b""
    if not 0 < len(ssid) <= 32:
        text = "The network name must have 1 to 32 characters, fewer with accents or emoji."
        raise _wrong("ssid", text)
    return ssid
