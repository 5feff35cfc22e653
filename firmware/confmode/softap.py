"""CONFMODE over an access point of our own, with a web page and a name server that leads to it.

Credentials are tried before they are kept: the station joins while the access point stays up. The
two share one radio, so that phones may lose us for a moment when the channel changes; the result
can be asked for long enough for them to come back.

    idle -> trying -> joined -> (the end)
              ^  \\-> failed
              \\------/
"""

import asyncio
import gc
import socket
import sys
import time
from binascii import hexlify
from os import urandom

from micropython import const

from firmware.confmode.portal import Portal
from firmware.confmode.reasons import shown
from firmware.log import INFO, log
from firmware.messages import RESERVE
from firmware.net.wifi import WifiError
from lib import dns
from lib.http_server import Server

# What the person's device may be one of.
_CLIENTS = const(4)

# How long one try may take, how long its success can be read, and how long it takes a reply to
# reach the client before the access point goes.
_JOIN_MS = const(22000)
_RESULT_MS = const(60000)
_REPLY_MS = const(1000)
_TURN_MS = const(100)

# As many tries in so long.
_TRIES = const(5)
_TRIES_MS = const(60000)

# WLAN's numbers of the kinds of security that ask for a user name too, which we have not got.
_ENTERPRISE = (5, 10, 14, 15, 16)

# A scan stops everything for two to three seconds, so that it is not made for every client.
_SCAN_MS = const(10000)
_NETWORKS = const(20)


class SoftAp:
    """The access point, its two servers, and the try that runs.

    manager: see `manager.Manager`. name, key: of the access point (bytes); an empty key leaves it
    open. `state` is one of the words above; `ssid` and `reason` (bytes) belong to the last try;
    `token` (32 hexadecimal digits) has to come with every order.
    """

    def __init__(self, manager, module, name, key):
        self._manager = manager
        self._module = module
        self.name = name
        self._key = key
        self._ap = None
        self._udp = None
        self._server = None
        self._tasks = []
        self._tried = []  # ticks of the last tries
        self._found = None
        self._scanned = 0
        self._until = 0
        self.token = hexlify(urandom(16))
        self.state = "idle"
        self.ssid = b""
        self.reason = b""
        self._kept = b""  # what is told of the end, once it can be nothing but success

    def open(self):
        """True when the access point asks for no passphrase."""
        return not self._key

    def status(self):
        """One line (bytes) for DIAG INFO."""
        kind = b"wpa2" if self._key else b"open: anybody near can listen"
        return b"softap %s %s" % (self.name, kind)

    async def begin(self):
        """Have the access point up and its servers listening. Raises OSError, RuntimeError,
        ImportError, MemoryError."""
        address = self._up()
        self._udp = sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        # At this address only: who is on the network that is being tried should get no page.
        # (lwIP takes in at one interface what is for the address of another, so that a neighbour
        # who sends to it on purpose may.)
        sock.bind(socket.getaddrinfo(address, 53)[0][-1])
        packed = bytes(int(part) for part in address.split("."))
        portal = Portal(self._manager, self._module, self, address.encode())
        self._server = Server(portal.answer, keep=(b"origin", b"content-type"))
        self._server.open(address)
        self._start(dns.serve(sock, packed))
        self._start(self._server.serve())
        gc.collect()
        if gc.mem_free() < 2 * RESERVE:
            # It could begin, and then neither clients nor the host could be answered.
            raise MemoryError

    def _up(self):
        """Bring the access point up; its address."""
        from network import WLAN

        # A station that has lost its network looks for it on all channels, for ever: phones would
        # lose the access point, and the driver would not scan.
        self._module.wifi.leave()
        # Both interfaces on from here to the end: switching the station on later would stop the
        # access point for a moment.
        self._module.wifi.on()
        self._ap = ap = WLAN(WLAN.IF_AP)
        # All of it before the access point is up, or it would be open until then. A key alone
        # leaves it open for good.
        if self._key:
            ap.config(ssid=self.name, key=self._key, security=WLAN.SEC_WPA2, max_clients=_CLIENTS)
        else:
            ap.config(ssid=self.name, security=WLAN.SEC_OPEN, max_clients=_CLIENTS)
        ap.active(True)
        return ap.ifconfig()[0]

    async def end(self):
        """Have everything down."""
        while self._tasks:
            self._tasks.pop().cancel()
        if self._server:
            self._server.close()
        if self._udp:
            self._udp.close()
        if self._ap:
            self._ap.active(False)

    def _start(self, work):
        self._tasks.append(asyncio.create_task(self._guard(work)))

    async def _guard(self, work):
        """Run `work`; what stops it ends CONFMODE, with a cause or, when the network has been kept
        already, with success."""
        why = b""
        try:
            try:
                await work
            except (OSError, RuntimeError) as error:
                why = str(error).encode() or b"failed"
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001
                # A defect of ours: CONFMODE ends, and says so.
                sys.print_exception(error)
                why = b"internal error, " + type(error).__name__.encode()
        except MemoryError:
            why = b"no memory"
        while why or self._kept:
            try:
                self._manager.finish(bool(self._kept), self._kept or why)
                return
            except MemoryError:
                gc.collect()
                await asyncio.sleep_ms(_TURN_MS)

    def networks(self):
        """Access points that need no user name as a list of (SSID, dBm, whether it asks for a
        passphrase), the strongest first; from the last scan, when that was a moment ago. Blocks
        the loop for two to three seconds otherwise. Raises OSError."""
        now = time.ticks_ms()
        if self._found is None or time.ticks_diff(now, self._scanned) > _SCAN_MS:
            kinds = {}
            best = self._module.wifi.scan(kinds)
            # A hidden one has no name to choose it by.
            found = [
                (ssid, best[ssid], bool(kinds[ssid]))
                for ssid in best
                if ssid.strip(b"\0") and kinds[ssid] not in _ENTERPRISE
            ]
            found.sort(key=lambda point: -point[1])
            self._found = found[:_NETWORKS]
            self._scanned = time.ticks_ms()
        return self._found

    def wait_s(self):
        """Seconds until the next try is allowed, 0 for now."""
        if len(self._tried) < _TRIES:
            return 0
        passed = time.ticks_diff(time.ticks_ms(), self._tried[0])
        return max(0, (_TRIES_MS - passed + 999) // 1000)

    def left_s(self):
        """Seconds until the access point goes, once joined."""
        return max(0, time.ticks_diff(self._until, time.ticks_ms()) // 1000)

    def attempt(self, values):
        """Try `values`, {key: bytes} with SSID, Passphrase and perhaps EndPoint, and keep them
        when they lead into a network."""
        self._tried.append(time.ticks_ms())
        if len(self._tried) > _TRIES:
            self._tried.pop(0)
        # What has ended is of no use.
        self._tasks = [task for task in self._tasks if not task.done()]
        # It begins when this has returned.
        self._start(self._attempt(values))
        self.ssid = values[b"SSID"]
        self.state = "trying"

    async def _attempt(self, values):
        why = await self._join(values)
        if why is None:
            try:
                told = b"joined " + self.ssid
                self._module.config.keep(values)
                # From here on nothing makes a failure of it, `_guard` sees to that.
                self._kept = told
            except OSError as error:
                why = b"not stored, errno %d" % (error.errno or 0)
            except MemoryError:
                why = b"not stored, no memory"
        # The passphrase is not to lie around.
        values = None
        gc.collect()
        if why is not None:
            self.reason = why
            self.state = "failed"
            log(INFO, "confmode: not joined,", why.decode())
            return
        self._until = time.ticks_add(time.ticks_ms(), _RESULT_MS)
        self.state = "joined"
        try:
            log(INFO, "confmode: joined, kept")
        except MemoryError:
            # The person is to see the result all the same.
            gc.collect()
        while time.ticks_diff(self._until, time.ticks_ms()) > 0:
            await asyncio.sleep_ms(_TURN_MS)

    async def _join(self, values):
        """None when the station has joined, else the reason as the page shows it."""
        try:
            await self._module.wifi.join(self.ssid, values[b"Passphrase"], _JOIN_MS)
        except WifiError as error:
            return shown(error)
        except MemoryError:
            return b"no memory"
        except (OSError, RuntimeError) as error:
            return str(error).encode()
        return None

    def seen(self):
        """The person has seen the result: the end comes when the reply has gone out."""
        self._until = time.ticks_add(time.ticks_ms(), _REPLY_MS)
