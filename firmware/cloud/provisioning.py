"""Provisioning by claim: a module from the reel gets a certificate and a name (AWS IoT fleet
provisioning; guide 2.2, 3.6.2).

    key and request -> connected with the claim -> certificate issued -> thing registered -> kept

With ProvisionMode `csr` the private key is made here and never leaves; with `create` the cloud
makes it. Until the last step nothing is kept, so that whatever goes wrong before leaves the claim
as it was, and the next CONNECT begins again.

Imported for one CONNECT. What it needs itself is borrowed step by step.
"""

import asyncio
import gc
import json
import time
from binascii import a2b_base64

from micropython import const

from firmware.borrowed import drop
from firmware.cloud import opening
from firmware.cloud.session import ConnectError, describe
from firmware.config import trial
from firmware.log import INFO, WARNING, log
from lib.mqtt_codec import REFUSED, MQTTException
from lib.mqtt_link import UP

# How long the cloud may take to acknowledge a subscription or to take a request, and to answer.
_TAKEN_MS = const(10000)
_ANSWER_MS = const(30000)
_POLL_MS = const(10)

# Answers that may wait to be looked at. There is one of ours; others come from a broker that
# sends them to everybody.
_QUEUE = const(4)

# Characters of what the cloud says: the code of a rejection that is told, a certificate or key,
# the token that proves who a certificate was issued to.
_CODE = const(64)
_PEM = const(4096)
_TOKEN = const(2048)
_THING = const(128)

_ISSUE = b"$aws/certificates/create"
_FROM_CSR = b"-from-csr"
_REGISTER = b"$aws/provisioning-templates/%s/provision"
_FORM = b"/json"
_ACCEPTED = b"/json/accepted"
_REJECTED = b"/json/rejected"

# What makes the request and reads the answer, dropped after each.
_LIBRARIES = """
 lib.csr lib.p256_key lib.hmac_sha256 lib.der_writer lib.keypair lib.x509 lib.p256 lib.rsa lib.der
 lib.pem
""".replace("\n", " ")


async def claim(session, late):
    """Get an identity with the claim, and have it on trial. Wi-Fi has been joined, the clock is
    set; claim and template are there.

    late: function that says True when no time is left. Raises ConnectError with the step that
    failed and why, MemoryError; the claim's session has ended then as it has in the end."""
    identity = session.identity
    certificates, own = identity.claim()
    try:
        # What the cloud issues must not be lost for want of room.
        trial.reserve(identity)
    except OSError as error:
        raise ConnectError(b"provisioning: no room in flash, errno %d" % error.errno)
    started = time.ticks_ms()
    issue = _ISSUE
    register = _REGISTER % identity.template
    request = b"{}"
    key = point = None
    if session.config.get(b"ProvisionMode") != b"create":
        key, point, request = await _request(identity.uid)
        drop(_LIBRARIES)
        issue += _FROM_CSR
        log(INFO, "provisioning: key made in", _since(started), "ms")
    step = issue.split(b"/")[2]
    try:
        await _connect(session, late, certificates[0], own)
        certificates = own = None
        answer = await _ask(session, late, step, issue, request, lambda a: _issued(a, key, point))
        certificate, key, token = answer
        answer = request = None
        drop(_LIBRARIES)
        gc.collect()
        log(INFO, "provisioning: certificate issued after", _since(started), "ms")
        request = _registration(identity, token)
        token = None
        thing = await _ask(session, late, b"provision", register, request, _registered)
    finally:
        # Taking leave needs memory, and must not fail for the lack of it.
        answer = request = None
        gc.collect()
        await session.client.disconnect()
        session.client.ssl = None
        for topic in (issue, register):
            session.route(topic + _ACCEPTED, None)
            session.route(topic + _REJECTED, None)
    try:
        trial.propose(identity, thing, certificate, key)
    except OSError as error:
        raise ConnectError(b"provisioning: not stored, errno %d" % error.errno)
    log(INFO, "provisioning: thing", thing, "after", _since(started), "ms")


def _since(started):
    return time.ticks_diff(time.ticks_ms(), started)


async def _request(name):
    """(private key in DER, its public point, the payload that asks for a certificate for it)."""
    from lib import csr, p256_key

    try:
        key = await p256_key.generate()
        request = await csr.make(key, name)
    except OSError as error:
        raise ConnectError(b"provisioning: no key, errno %d" % error.errno)
    # Not before: making the key is what needs most memory.
    from lib import pem

    text = b"".join(pem.lines(request, b"CERTIFICATE REQUEST"))
    text = text.replace(b"\n", b"\\n")
    return key.der(), key.point, b'{"certificateSigningRequest":"' + text + b'"}'


def _registration(identity, token):
    """The payload that asks for a thing for the certificate that `token` stands for."""
    uid = identity.uid.decode()
    return json.dumps(
        {
            "certificateOwnershipToken": token,
            "parameters": {"SerialNumber": uid, "MAC": uid, "Model": identity.board},
        }
    ).encode()


async def _connect(session, late, certificate, key):
    """Connect with the claim. Roots on trial are tried first, as everywhere (D13)."""
    new = session.config.trial_roots()
    proven = session.config.get(b"RootCA")
    try:
        if new:
            try:
                await _open(session, new, certificate, key)
                return
            except opening.Untrusted as error:
                log(WARNING, "provisioning: RootCA on trial:", error.args[0])
                if not proven:
                    raise
            # Not to be held while the next one is made.
            new = None
            gc.collect()
            if late():
                raise ConnectError(b"no time left")
        await _open(session, proven, certificate, key)
    except ConnectError as error:
        raise ConnectError(b"provisioning: " + error.args[0])


async def _open(session, roots, certificate, key):
    context = opening.context(session, roots, certificate, key)
    await opening.open_with(session, context, session.identity.uid)


async def _ask(session, late, step, topic, request, judge):
    """Publish `request` on `topic`; what `judge` makes of the answer.

    step: its name (bytes), for who asks why. judge: coroutine function that is given the members
    of an answer that says yes, and returns None for one that is not ours. Raises ConnectError."""
    client = session.client
    came = []
    lack = False

    def arrived(good, payload):
        # Where messages are received: nothing may be raised here.
        nonlocal lack
        try:
            if len(came) < _QUEUE:
                came.append((good, bytes(payload or b"")))
        except MemoryError:
            lack = True

    topics = (topic + _ACCEPTED, topic + _REJECTED)
    session.route(topics[0], lambda payload: arrived(True, payload))
    session.route(topics[1], lambda payload: arrived(False, payload))
    try:
        for pattern in topics:
            if late():
                raise ConnectError(b"provisioning: no time left for " + step)
            await client.subscribe(pattern, 1, _TAKEN_MS)
        # What has come so far cannot be for us.
        came.clear()
        started = time.ticks_ms()
        # The answer tells more than a PUBACK.
        await client.publish(topic + _FORM, request, False, 1, False, _TAKEN_MS)
        why = b"no answer to "
        while True:
            if lack:
                raise MemoryError
            if came:
                good, payload = came.pop(0)
                try:
                    answer = json.loads(payload)
                    if not isinstance(answer, dict):
                        raise ValueError("no object")
                    payload = None
                    if not good:
                        raise ConnectError(_rejection(step, answer))
                    result = await judge(answer)
                    if result:
                        return result
                    log(WARNING, "provisioning: somebody else's answer to", step)
                except ValueError as error:
                    # Nothing of the answer is in the text: it holds secrets.
                    log(WARNING, "provisioning: answer to", step, "unusable:", error)
                    why = b"unusable answer to "
            elif client.stage != UP:
                # What to call its end is found out below.
                raise OSError
            elif late() or _since(started) > _ANSWER_MS:
                raise ConnectError(b"provisioning: " + why + step)
            else:
                await asyncio.sleep_ms(_POLL_MS)
    except (OSError, ValueError, MQTTException) as error:
        if isinstance(error, MQTTException) and error.code == REFUSED:
            raise ConnectError(b"provisioning: subscription refused, " + step)
        # Why the connection has ended says more than that it was found closed.
        why = error if client.stage == UP else client.closed
        if isinstance(why, MemoryError):
            raise why
        raise ConnectError(b"provisioning: " + step + b", " + describe(why, None))
    finally:
        # Those that still come hold secrets, and are not for the host.
        for pattern in topics:
            session.route(pattern, _pass_over)


def _pass_over(payload):
    """An answer that nobody waits for any more."""


def _rejection(step, answer):
    """Why the cloud says no, in its own word."""
    code = answer.get("errorCode")
    code = code.encode() if isinstance(code, str) else b""
    log(WARNING, "provisioning:", step, "rejected")
    return b"provisioning: " + (
        bytes(c for c in code[:_CODE] if 32 <= c <= 126) or step + b" rejected"
    )


def _text(answer, name, limit):
    """Take out the member `name`, a text of at most `limit` characters. Raises ValueError."""
    value = answer.pop(name, None)
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise ValueError(name)
    return value


async def _issued(answer, key, point):
    """(certificate, private key, ownership token); None when the certificate is not for our key.

    key, point: our private key in DER and its public point; None when the answer brings a key.
    Raises ValueError."""
    from lib import pem

    token = _text(answer, "certificateOwnershipToken", _TOKEN)
    # Texts go as soon as they are decoded: this is what needs most memory.
    found = pem.decode(_text(answer, "certificatePem", _PEM).encode())
    if not found:
        raise ValueError("no certificate")
    if point is None:
        key = _private_key(_text(answer, "privateKey", _PEM))
    from lib import x509

    certificate = x509.parse(found[0])
    if certificate.unknown_critical:
        raise ValueError("unknown critical extension")
    if point is None:
        from lib import keypair

        if not await keypair.belongs(key, certificate):
            return None
    elif certificate.point != point:
        return None
    return found[0], key, token


def _private_key(text):
    """The DER of a private key in PEM. Raises ValueError."""
    parts = text.split("-----")
    if len(parts) != 5 or not parts[1].endswith("PRIVATE KEY"):
        raise ValueError("no private key")
    return a2b_base64(parts[2])


async def _registered(answer):
    """The name of the thing that we are now. Raises ValueError, ConnectError."""
    thing = answer.get("thingName")
    if not isinstance(thing, str):
        raise ValueError("thingName")
    thing = thing.encode()
    # Letters, digits, colon, underscore, hyphen.
    for c in thing:
        if not (97 <= c | 32 <= 122 or 48 <= c <= 58 or c == 95 or c == 45):
            raise ConnectError(b"provisioning: thing name not usable")
    if not 0 < len(thing) <= _THING:
        raise ConnectError(b"provisioning: thing name not usable")
    configuration = answer.get("deviceConfiguration")
    if isinstance(configuration, dict) and configuration:
        # What they say may not be for everybody.
        log(INFO, "provisioning: device configuration with", list(configuration))
    return thing
