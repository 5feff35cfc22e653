"""The air: access points as the developer set them, and the station's driver.

The driver is a table of when what happens; it is brought up to date whenever somebody looks,
so nothing runs in the background. Times in milliseconds of the VM's ticks.
"""

import json

from sim_host import builtin_time, config, disk, registers

IDLE = 1000
CONNECTING = 1001
GOT_IP = 1010
BEACON_TIMEOUT = 200
NO_AP_FOUND = 201
AUTH_FAIL = 202
HANDSHAKE_TIMEOUT = 204
NO_AP_IN_SECURITY = 210
NO_AP_IN_AUTHMODE = 211
NO_AP_IN_RSSI = 212
CONNECTION_FAIL = 205
FOUR_WAY_TIMEOUT = 15
ASSOC_LEAVE = 8  # a disconnect() of ours

_now = builtin_time.ticks_ms
_since = builtin_time.ticks_diff

# How long one attempt takes to end well, with a wrong passphrase, and without access point.
if registers.get("slow"):
    _JOIN, _WRONG, _ABSENT, SCAN = 1800, 3600, 2400, 2200
else:
    _JOIN, _WRONG, _ABSENT, SCAN = 30, 60, 50, 20


class _Air:
    def __init__(self):
        self._generation = -1
        self._points = []

    def points(self):
        generation = registers.get("wifi_generation")
        if generation != self._generation:
            file = disk.open("/aps.json", "r")
            self._points = json.load(file)
            file.close()
            self._generation = generation
        return self._points

    def find(self, ssid):
        # The strongest one of that name that is on the air.
        best = None
        for point in self.points():
            if point["up"] and point["ssid"] == ssid:
                if best is None or point["rssi"] > best["rssi"]:
                    best = point
        return best


air = _Air()


class Station:
    """What the station's driver does after connect(); `reason` is the last failure, 0 none."""

    def __init__(self):
        self.active = False
        self.ssid = ""
        self.key = ""
        self.reconnects = -1
        self.reason = 0
        self.requested = False
        self._joined = None
        self._tries = 0
        self._start = None
        self._seen = -1

    def connect(self, ssid, key):
        # The last reason stays until this has led somewhere: the driver does not clear it.
        self.ssid = ssid
        self.key = key
        self.requested = True
        self._joined = None
        self._tries = 0
        self._start = _now()

    def disconnect(self):
        if self._joined is not None or self._start is not None:
            self.reason = ASSOC_LEAVE
        self.requested = False
        self._joined = None
        self._start = None

    def _attempt(self):
        # (how long it takes, reason it fails for or 0)
        point = air.find(self.ssid)
        if point is None:
            return _ABSENT, NO_AP_FOUND
        if point["passphrase"] != self.key:
            # An open network refuses nothing; a missing passphrase never gets to a handshake.
            if not self.key:
                return _ABSENT, NO_AP_IN_AUTHMODE
            return _WRONG, FOUR_WAY_TIMEOUT
        return _JOIN, 0

    def _failed(self, reason, when):
        self.reason = reason
        self._tries += 1
        again = self.requested and (self.reconnects < 0 or self._tries <= self.reconnects)
        self._start = when if again else None

    def step(self):
        """Bring the state up to now; True when the station has a link and an address."""
        if self._joined is not None:
            generation = registers.get("wifi_generation")
            if generation != self._seen:
                self._seen = generation
                point = air.find(self.ssid)
                if point is None or point["bssid"] != self._joined["bssid"]:
                    self._joined = None
                    self._tries = 0
                    self._failed(BEACON_TIMEOUT, _now())
                else:
                    self._joined = point
            if self._joined is not None:
                return True
        while self._start is not None:
            took, reason = self._attempt()
            if _since(_now(), self._start) < took:
                return False
            if not reason:
                self._joined = air.find(self.ssid)
                self._seen = registers.get("wifi_generation")
                self.reason = 0
                self._tries = 0
                self._start = None
                return True
            self._failed(reason, builtin_time.ticks_add(self._start, took))
        return False

    def status(self):
        if self.step():
            return GOT_IP
        if self.reason == NO_AP_FOUND:
            return NO_AP_FOUND
        if self.reason in (AUTH_FAIL, CONNECTION_FAIL):
            return AUTH_FAIL
        if self.reason in (NO_AP_IN_SECURITY, NO_AP_IN_AUTHMODE, NO_AP_IN_RSSI):
            return self.reason
        if self.reason == ASSOC_LEAVE:
            return IDLE
        if self._start is not None:
            return CONNECTING
        return self.reason or IDLE

    def trying(self):
        # Looking for its network, which leaves no time for a scan.
        return not self.step() and self._start is not None

    def point(self):
        return self._joined if self.step() else None


class Access:
    """The access point that the module itself can be."""

    def __init__(self):
        self.active = False
        self.ssid = "ESP_" + config["uid"][-6:].upper()
        self.key = ""
        self.security = 0
        self.channel = 1
        self.hidden = False
        self.max_clients = 4
        # Sockets that belong to it, and whether anybody has come: on this PC all are one station.
        self.sockets = []
        self.visited = False

    def up(self, on):
        """Switch it on or off. Whoever was connected loses the connection."""
        self.active = on
        self.visited = False
        sockets, self.sockets = self.sockets, []
        for each in sockets:
            if on:
                self.sockets.append(each)
                each._offer()
            else:
                each.close()


station = Station()
access = Access()


def reachable(own=False):
    """Whether packets pass now: through the station, or through the `own` access point."""
    return access.active if own else station.active and station.step()
