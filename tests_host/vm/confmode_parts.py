"""What CONFMODE is tested with on the VM: a module and a radio that are fakes, and its portal
without sockets."""

import asyncio
import json
import sys

from lib.http_parser import Parser


class Module:
    """What the manager and the access point need of the module."""

    def __init__(self):
        self.calls = []
        self.confmode = None
        self.conf_result = b""
        self.events = self.wifi = self.config = self
        self.keeping = None
        self.joining = None

    def put(self, identifier):
        self.calls.append("event %d" % identifier)

    def leave(self):
        self.calls.append("leave")

    def on(self):
        return True

    def review(self):
        self.calls.append("review %d" % bool(self.confmode))

    def get(self, name):
        return b"host:8883"

    def check(self, name, value):
        if name == b"EndPoint":
            return b" " not in value
        return not value or 8 <= len(value) <= 63

    def keep(self, values):
        if self.keeping:
            raise self.keeping
        self.calls.append(values)

    async def join(self, ssid, passphrase, timeout_ms):
        self.calls.append((ssid, passphrase))
        await asyncio.sleep_ms(50)
        if self.joining:
            raise self.joining

    def address(self):
        return b"10.0.0.2"

    def scan(self, kinds):
        self.calls.append("scan")
        kinds.update({b"weak": 3, b"open": 0, b"\xff": 3, b"": 0, b"\0\0": 0, b"firm": 5})
        kinds.update({b"firm%d" % kind: kind for kind in (10, 14, 15, 16)})
        found = dict.fromkeys(kinds, -70)
        found.update({b"weak": -80, b"open": -40, b"\xff": -60, b"": -10, b"\0\0": -20})
        return found


class Wlan:
    IF_AP = 1
    SEC_OPEN = 0
    SEC_WPA2 = 3
    calls = []

    def __init__(self, interface):
        assert interface == 1

    def config(self, **options):
        Wlan.calls.append(options)

    def active(self, on):
        Wlan.calls.append(on)

    def ifconfig(self):
        return ("127.0.0.1", "255.255.255.0", "127.0.0.1", "0.0.0.0")


class Network:
    WLAN = Wlan


class Lab:
    """An access point with fakes for radio and module; its servers are not started."""

    def __init__(self, key=b"12345678"):
        from firmware.confmode import portal, softap

        Wlan.calls = []
        sys.modules["network"] = Network
        self.module = Module()
        self.outcome = None
        self.touches = 0
        self.faults = []  # what `finish` raises, one a call
        self.ap = softap.SoftAp(self, self.module, b"lab", key)
        self.portal = portal.Portal(self, self.module, self.ap, b"192.168.4.1")
        self.softap = softap

    def touched(self):
        self.touches += 1

    def finish(self, success, why):
        if self.faults:
            raise self.faults.pop(0)
        self.outcome = (success, why)

    async def ask(self, data):
        """(status, header lines, JSON or bytes)"""
        request = Parser(keep=(b"origin", b"content-type"))
        request.room()[: len(data)] = data
        assert request.filled(len(data)), data
        status, fields, body = await self.portal.answer(request)
        return status, fields, json.loads(body) if body[:1] == b"{" else body

    def get(self, path, host=b"192.168.4.1"):
        return self.ask(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, host))

    def post(self, path, values, more=b"", host=b"192.168.4.1", kind=b"application/json"):
        if isinstance(values, dict):
            values.setdefault("token", self.ap.token.decode())
            values = json.dumps(values).encode()
        head = b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n"
        return self.ask(head % (path, host, kind, more, len(values)) + values)

    async def settled(self):
        while self.ap.state == "trying":
            await asyncio.sleep_ms(10)
        return (await self.get(b"/api/state"))[2]
