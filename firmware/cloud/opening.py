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
from lib.mqtt_codec import BY_SERVER, MQTTException

_PORT = const(8883)

# What each step of a CONNECT may take. With the longest back-off (60 s) and SNTP (6 s) the sum
# stays under the guide's 120 s.
_JOIN_MS = const(22000)
_OPEN_MS = const(25000)

# mbedTLS: the other side has sent a fatal alert.
_ALERT = const(-0x7780)

# Opening begins no later than this after the CONNECT: the resolver alone may take 19 s.
_LATEST_MS = const(92000)


class Untrusted(ConnectError):
    """With these roots the server's certificate is not accepted."""


class Refused(ConnectError):
    """Somebody has said no to who we are."""


class Denied(Refused):
    """The cloud has: in a connection that its certificate vouches for."""


async def connect(session, started):
    """Take `session` from DOWN to the end of OPENING. Raises ConnectError, MemoryError.

    Waits the back-off out first. Never takes 120 s from the tick `started`. Without a device
    certificate one is asked for first."""

    def late(before_ms=0):
        # True when there is no time left for opening, or will not be then.
        return time.ticks_diff(time.ticks_ms(), started) + before_ms > _LATEST_MS

    _prepare(session)
    await asyncio.sleep_ms(session.backoff.remaining())
    session.to(JOINING)
    try:
        if late():
            # Only what ran out of memory comes here a second time.
            raise ConnectError(b"no memory")
        get = session.config.get
        await session.wifi.join(get(b"SSID"), get(b"Passphrase"), _JOIN_MS)
        session.to(DATING)
        await session.clock.ensure()
        if late():
            # A resolver that nobody answers holds everything up, and would do so again.
            raise ConnectError(b"network too slow")
        session.to(OPENING)
        identity = session.identity
        if identity.certified and not identity.on_trial and not identity.doubted:
            await open_as_thing(session, late)
        else:
            from firmware.cloud import newcomer

            await newcomer.connect(session, late)
    except (WifiError, ClockError) as error:
        raise ConnectError(error.args[0])
    except (ConnectError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001
        # A driver that refuses, a defect: the cause is told, and a later CONNECT
        # finds the state that it needs.
        sys.print_exception(error)
        raise ConnectError(b"internal error, " + type(error).__name__.encode())


def _prepare(session):
    """Raise ConnectError when a CONNECT cannot work, before the network is troubled."""
    config = session.config
    identity = session.identity
    if not config.get(b"EndPoint"):
        why = b"Invalid Endpoint, none is set"
    elif not config.get(b"SSID"):
        why = b"no SSID is set"
    elif not identity.certified and not identity.claim()[0]:
        why = b"no device certificate"
    elif not identity.certified and not identity.template:
        why = b"no provisioning template"
    elif not config.get(b"RootCA") and not config.trial_roots():
        why = b"no root certificate"
    else:
        return
    raise ConnectError(why)


async def open_as_thing(session, late):
    """A connection that the roots on trial vouch for, else the proven ones (D13)."""
    thing = session.identity.thing
    trial = session.config.trial_roots()
    if trial:
        try:
            own = context(session, trial)
            await open_with(session, own, thing)
            session.context = own
            session.config.trial_worked()
            return
        except Untrusted as error:
            log(WARNING, "session: RootCA on trial:", error.args[0])
            if late():
                raise
        # Not to be held while the next one is made.
        own = trial = None
        gc.collect()
    if session.context is None:
        session.context = context(session, session.config.get(b"RootCA"))
    await open_with(session, session.context, thing)


async def open_with(session, tls, client_id):
    """TCP, TLS with the context `tls`, CONNECT as `client_id` (bytes), CONNACK."""
    host, port = split_host(session.config.get(b"EndPoint"), _PORT)
    client = session.client
    client.client_id = client_id
    client.server = client.server_hostname = host.decode()
    client.port = port
    # TLS needs large blocks beside our heap: leave it as much as can be.
    gc.collect()
    log(INFO, "session:", gc.mem_alloc(), "bytes of heap in use")
    client.ssl = tls
    try:
        await client.connect(_OPEN_MS)
    except MemoryError:
        client.ssl = None
        raise
    except (OSError, ValueError, MQTTException) as error:
        client.ssl = None
        stage = client.failed_stage
        why = describe(error, stage)
        if isinstance(error, ValueError):
            # What TLS says of certificates: a root on trial that has expired is as bad as a
            # foreign one.
            raise Untrusted(why)
        raise _refusal(error, stage)(why)
    if client.stage != mqtt_link.UP:
        # Accepted, and ended before this task had its turn.
        client.ssl = None
        raise ConnectError(describe(client.closed, None))


def _refusal(error, stage):
    """The class of what the cloud, or somebody on the way, says with this `error`: an alert in
    the handshake, a close in CONNACK's place (AWS does that), a code in CONNACK."""
    if stage == mqtt_link.TLS and isinstance(error, OSError) and error.errno == _ALERT:
        return Refused
    if stage == mqtt_link.CONNACK and isinstance(error, MQTTException):
        if error.code == BY_SERVER:
            return Refused
        # 3 says that the server is unavailable.
        if error.code > 0 and error.code != 3:
            return Denied
    return ConnectError


def context(session, roots, certificate=None, key=None):
    """A TLS context that trusts `roots` (list of DER) and shows `certificate` with `key` (DER),
    or our own. Raises ConnectError."""
    made = session.make_context()
    try:
        for root in roots:
            made.load_verify_locations(root)
    except (OSError, ValueError) as error:
        log(WARNING, "session: TLS context:", error)
        raise Untrusted(b"root certificate unusable")
    try:
        if not certificate:
            certificate = session.identity.certificate()[0]
            key = session.identity.private_key()
        made.load_cert_chain(certificate, key)
    except (IndexError, OSError, ValueError) as error:
        log(WARNING, "session: TLS context:", error)
        raise Refused(b"certificate or key unusable")
    return made
