"""Makes the connection: access point, clock, TLS, MQTT (guide 3.6.2; D13, D20).

Imported for one CONNECT.
"""

import asyncio
import gc
import sys
import time

from micropython import const

from firmware.cloud.session import DATING, JOINING, OPENING, ConnectError, describe
from firmware.config.checks import split_host
from firmware.log import INFO, WARNING, log
from firmware.net.clock import ClockError
from firmware.net.wifi import WifiError
from lib import mqtt_link
from lib.mqtt_codec import MQTTException

_PORT = const(8883)

# What each step of a CONNECT may take. With the longest back-off (60 s) and SNTP (6 s) the sum
# stays under the guide's 120 s.
_JOIN_MS = const(22000)
_OPEN_MS = const(25000)

# Opening begins no later than this after the CONNECT: the resolver alone may take 19 s.
_LATEST_MS = const(92000)


class _Untrusted(ConnectError):
    """With these roots the server's certificate is not accepted."""


def _late(started):
    """True when a CONNECT that began at the tick `started` has no time left for opening."""
    return time.ticks_diff(time.ticks_ms(), started) > _LATEST_MS


async def connect(session, started):
    """Take `session` from DOWN to the end of OPENING. Raises ConnectError, MemoryError.

    Waits the back-off out first. Never takes 120 s from the tick `started`."""
    await asyncio.sleep_ms(session.backoff.remaining())
    session.to(JOINING)
    try:
        if _late(started):
            # Only what ran out of memory comes here a second time.
            raise ConnectError(b"no memory")
        get = session.config.get
        await session.wifi.join(get(b"SSID"), get(b"Passphrase"), _JOIN_MS)
        session.to(DATING)
        await session.clock.ensure()
        if _late(started):
            # A resolver that nobody answers holds everything up, and would do so again.
            raise ConnectError(b"network too slow")
        session.to(OPENING)
        await _open(session, started)
    except (WifiError, ClockError) as error:
        raise ConnectError(error.args[0])
    except (ConnectError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001
        # A driver that refuses, a defect: the cause is told, and a later CONNECT
        # finds the state that it needs.
        sys.print_exception(error)
        raise ConnectError(b"internal error, " + type(error).__name__.encode())


async def _open(session, started):
    """A connection that the roots on trial vouch for, else the proven ones (D13)."""
    trial = session.config.trial_roots()
    if trial:
        try:
            context = _context(session, trial)
            await _open_with(session, context)
            session.context = context
            session.config.trial_worked()
            return
        except _Untrusted as error:
            log(WARNING, "session: RootCA on trial:", error.args[0])
            if _late(started):
                raise
        # Not to be held while the next one is made.
        context = trial = None
        gc.collect()
    if session.context is None:
        session.context = _context(session, session.config.get(b"RootCA"))
    await _open_with(session, session.context)


async def _open_with(session, context):
    """TCP, TLS, CONNECT, CONNACK."""
    host, port = split_host(session.config.get(b"EndPoint"), _PORT)
    client = session.client
    client.server = client.server_hostname = host.decode()
    client.port = port
    # TLS needs large blocks beside our heap: leave it as much as can be.
    gc.collect()
    log(INFO, "session:", gc.mem_alloc(), "bytes of heap in use")
    client.ssl = context
    try:
        await client.connect(_OPEN_MS)
    except MemoryError:
        client.ssl = None
        raise
    except (OSError, ValueError, MQTTException) as error:
        client.ssl = None
        why = describe(error, client.failed_stage)
        if isinstance(error, ValueError):
            # What TLS says of certificates: a root on trial that has expired is as bad as a
            # foreign one.
            raise _Untrusted(why)
        raise ConnectError(why)
    if client.stage != mqtt_link.UP:
        # Accepted, and ended before this task had its turn.
        client.ssl = None
        raise ConnectError(describe(client.closed, None))


def _context(session, roots):
    """A TLS context that trusts `roots` (list of DER) and shows our certificate."""
    context = session.make_context()
    try:
        for root in roots:
            context.load_verify_locations(root)
    except (OSError, ValueError) as error:
        log(WARNING, "session: TLS context:", error)
        raise _Untrusted(b"root certificate unusable")
    try:
        own = session.config.get(b"Certificate")[0]
        context.load_cert_chain(own, session.identity.private_key())
    except (OSError, ValueError) as error:
        log(WARNING, "session: TLS context:", error)
        raise ConnectError(b"certificate or key unusable")
    return context
