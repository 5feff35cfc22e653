"""The station: joining an access point, with the cause named when that fails."""

import asyncio
import time

from micropython import const

from firmware.log import INFO, log

# How often the driver is asked.
_POLL_MS = const(50)

# How often the driver tries again by itself: only a driver that gives up says why it failed, and
# only one that does not comes back after a short absence of the access point.
_TRIES = const(2)
_FOREVER = const(-1)

# The driver reports a disconnect() a moment later, and would take that for a failure of a
# connect() that follows too soon.
_PAUSE_MS = const(1000)

# Values of WLAN.status(): idle, connecting, with an address, or the reason of the last failure,
# which is IEEE 802.11's or the driver's own. A wrong passphrase shows in several ways (15, the
# four-way handshake timing out, most of all).
#
# connect() does not clear the last reason: it shows until the first try has ended, and after a
# disconnect() of ours it shows as idle. So neither idle nor a reason counts at once.
_IDLE = const(1000)
_CONNECTING = const(1001)
_GOT_IP = const(1010)

# How long a reason has to stand before it counts: the driver may be trying again. Longer when it
# is the one that was there before connect().
_SETTLE_MS = const(2500)
_STALE_MS = const(8000)
_PASSPHRASE = (15, 202, 204, 205)
_REASONS = {
    200: b"Wi-Fi beacon lost",
    201: b"Wi-Fi access point not found",
    203: b"Wi-Fi association refused",
    210: b"Wi-Fi access point has another security",
    211: b"Wi-Fi access point has another authentication",
    212: b"Wi-Fi signal too weak",
}


class WifiError(Exception):
    """Joining failed; the argument (bytes) says why, fit for an error's detail."""


def reason(status):
    """The cause that a value of WLAN.status() stands for, as bytes."""
    if status in _PASSPHRASE:
        return b"Wi-Fi passphrase refused"
    return _REASONS.get(status) or b"Wi-Fi failed, status %d" % status


class Wifi:
    """The station interface.

    make: function that returns the `network.WLAN` object, called at the first use, so that the
    radio's memory is not taken before.
    """

    def __init__(self, make):
        self._make = make
        self._wlan = None
        self._joined = None
        self._stopped_at = None

    def linked(self):
        """True while associated and with an address."""
        return self._wlan is not None and self._wlan.isconnected()

    async def join(self, ssid, passphrase, timeout_ms):
        """Join the access point `ssid` (bytes) with `passphrase` (bytes, empty: open).

        Returns at once when already joined with the same. Raises WifiError after `timeout_ms` at
        the latest."""
        if not ssid:
            raise WifiError(b"no SSID")
        wanted = (ssid, passphrase)
        if self._joined == wanted and self.linked():
            return
        await self._start()
        wlan = self._wlan
        log(INFO, "wifi: joining")
        self._joined = None
        wlan.config(reconnects=_TRIES)
        before = wlan.status()
        if passphrase:
            wlan.connect(ssid, passphrase)
        else:
            wlan.connect(ssid)
        started = time.ticks_ms()
        while not wlan.isconnected():
            status = wlan.status()
            waited = time.ticks_diff(time.ticks_ms(), started)
            if status not in (_IDLE, _CONNECTING, _GOT_IP):
                if waited > (_STALE_MS if status == before else _SETTLE_MS):
                    self._stop()
                    raise WifiError(reason(status))
            if waited > timeout_ms:
                self._stop()
                raise WifiError(b"Wi-Fi timeout")
            await asyncio.sleep_ms(_POLL_MS)
        wlan.config(reconnects=_FOREVER)
        self._joined = wanted
        log(INFO, "wifi: joined,", wlan.ifconfig()[0])

    def on(self):
        """Switch the radio on, which stays on until `leave`; True when it was on already."""
        if self._wlan is None:
            self._wlan = self._make()
        if self._wlan.active():
            return True
        self._wlan.active(True)
        return False

    async def _start(self):
        """Have the interface up and at rest."""
        if self.on() and self._joined:
            self._stop()
        if self._stopped_at is not None:
            pause = _PAUSE_MS - time.ticks_diff(time.ticks_ms(), self._stopped_at)
            if 0 < pause <= _PAUSE_MS:
                await asyncio.sleep_ms(pause)
            self._stopped_at = None

    def _stop(self):
        """Stop the driver, which otherwise goes on trying for ever."""
        self._joined = None
        self._stopped_at = time.ticks_ms()
        self._wlan.disconnect()

    def leave(self):
        """Leave the access point and switch the radio off."""
        self._joined = None
        if self._wlan is not None and self._wlan.active():
            self._wlan.disconnect()
            self._wlan.active(False)
            self._stopped_at = None

    def rssi(self):
        """Signal strength in dBm; only while linked."""
        return self._wlan.status("rssi")

    def scan(self, kinds=None):
        """Access points as {SSID: dBm}, the strongest of each name. Blocks the loop for two to
        three seconds, and leaves the radio as it was. Raises OSError.

        kinds: a dict that gets the security of each as the driver numbers it, 0 for none."""
        from firmware.net import seldom

        was_on = self.on()
        return seldom.scan(self._wlan, was_on, kinds)

    def _field(self, field):
        if not self.linked():
            return b"0.0.0.0"
        return self._wlan.ifconfig()[field].encode()

    def address(self):
        """The IPv4 address as bytes, 0.0.0.0 without a link."""
        return self._field(0)

    def gateway(self):
        """The router's address as bytes, 0.0.0.0 without a link."""
        return self._field(2)

    def name_server(self):
        """The DNS server's address as bytes, 0.0.0.0 without a link."""
        return self._field(3)

    def address6(self):
        """The IPv6 address as bytes, `::` when there is none."""
        if not self.linked():
            return b"::"
        from firmware.net import seldom

        return seldom.address6(self._wlan)
