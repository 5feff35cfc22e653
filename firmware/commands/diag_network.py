"""DIAG SCAN and DIAG PING (guide 6.2.1). Imported for one command."""

import asyncio
import errno
import random
import socket
import time

from micropython import const

from firmware.at.errors import NO_CONNECTION, PARAMETER, AtError
from firmware.net.wifi import WifiError
from lib import icmp

_MAX_SCAN_S = const(30)
_MAX_PINGS = const(10)
_PINGS = const(4)

# How long a reply may take, and how far apart the requests are.
_REPLY_MS = const(2000)
_APART_MS = const(500)
_LOOK_MS = const(2)

_JOIN_MS = const(22000)
_ICMP = const(1)
_PACKET = const(256)


def _number(text, most):
    """A decimal number from 1 to `most`."""
    if not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= most:
        raise AtError(PARAMETER, b"a number, 1 to %d" % most)
    return int(text)


async def scan(module, parameter):
    """DIAG SCAN [seconds]: the access points around, the strongest first.

    One scan, or as many as begin within `seconds`."""
    seconds = _number(parameter, _MAX_SCAN_S) if parameter else 0
    started = time.ticks_ms()
    best = {}
    if not (module.confmode or module.wifi.linked() or module.session.connected()):
        # A driver that looks for a network it has lost does not scan.
        module.wifi.leave()
    while True:
        try:
            found = module.wifi.scan()
        except (OSError, RuntimeError) as error:
            # The driver's errors carry a text where others have a number.
            raise AtError(PARAMETER, b"scan failed, " + str(error).encode())
        for ssid, rssi in found.items():
            if rssi > best.get(ssid, -1000):
                best[ssid] = rssi
        await asyncio.sleep_ms(0)
        if time.ticks_diff(time.ticks_ms(), started) >= seconds * 1000:
            break
        module.watchdog.feed()
    points = sorted(best.items(), key=lambda point: -point[1])
    lines = [b"%ddb %s" % (rssi, ssid) for ssid, rssi in points]
    return (b"{SCANRES} " + b"\n".join(lines)).rstrip(b" ")


async def ping(module, parameter):
    """DIAG PING host [count]: echo requests, half a second apart. Joins the access point for it
    when there is no link."""
    host, _, count = parameter.partition(b" ")
    if not host:
        raise AtError(PARAMETER, b"which host")
    count = _number(count.strip(), _MAX_PINGS) if count else _PINGS
    if module.confmode:
        raise AtError(NO_CONNECTION, b"in CONFMODE")
    was_linked = module.wifi.linked()
    if not was_linked and module.session.connected():
        # The connection may survive this, if nobody touches the interface.
        raise AtError(NO_CONNECTION, b"Wi-Fi lost")
    if not was_linked:
        module.wake()
        try:
            get = module.config.get
            await module.wifi.join(get(b"SSID"), get(b"Passphrase"), _JOIN_MS)
        except WifiError as error:
            raise AtError(NO_CONNECTION, error.args[0])
    try:
        return await _ping(host, count)
    finally:
        if not was_linked:
            # Only a CONNECT could have taken it over, and that comes after this command.
            module.wifi.leave()


async def _ping(host, count):
    try:
        address = socket.getaddrinfo(host.decode(), 0, socket.AF_INET)[0][-1]
    except (OSError, UnicodeError):
        raise AtError(PARAMETER, b"name not found")
    times = []
    identifier = random.randrange(65536)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, _ICMP)
    try:
        raw.setblocking(False)
        for sequence in range(count):
            if sequence:
                await asyncio.sleep_ms(_APART_MS)
            took = await _echo(raw, address, identifier, sequence)
            if took is not None:
                times.append(took)
    except OSError as error:
        raise AtError(NO_CONNECTION, b"errno %d" % (error.errno or 0))
    finally:
        raw.close()
    shown = b"%s sent %d received %d" % (address[0].encode(), count, len(times))
    if times:
        mean = sum(times) // len(times)
        shown += b" min %d avg %d max %d ms" % (min(times), mean, max(times))
    return shown


async def _echo(raw, address, identifier, sequence):
    """Milliseconds until the reply, or None."""
    raw.sendto(icmp.request(identifier, sequence), address)
    started = time.ticks_ms()
    while True:
        took = time.ticks_diff(time.ticks_ms(), started)
        try:
            packet, _ = raw.recvfrom(_PACKET)
            if icmp.is_reply(packet, identifier, sequence):
                return took
            continue
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
        if took > _REPLY_MS:
            return None
        await asyncio.sleep_ms(_LOOK_MS)
