"""A CONNECT as somebody that the cloud has not accepted yet: with an identity on trial, or with
the claim, which gets one. Imported for one CONNECT.
"""

import asyncio

from micropython import const

from firmware.cloud import opening
from firmware.cloud.session import ConnectError
from firmware.config import trial
from firmware.log import WARNING, log

# A refusal gets a second try: a cloud may need a moment to know whom it has registered.
_SECOND_MS = const(3000)


async def connect(session, late):
    """Open a connection as the thing that we are about to become. Raises ConnectError.

    late: function of milliseconds that says True when no time will be left then."""
    identity = session.identity
    doubted = identity.doubted
    try:
        if not identity.certified:
            from firmware.cloud import provisioning

            await provisioning.claim(session, late)
            session.context = None
            if late():
                raise ConnectError(b"provisioned, no time left to connect")
        try:
            await opening.open_as_thing(session, late)
        except opening.Refused:
            if not identity.on_trial or late(_SECOND_MS):
                raise
            await asyncio.sleep_ms(_SECOND_MS)
            await opening.open_as_thing(session, late)
    except ConnectError as error:
        if isinstance(error, opening.Refused) and identity.on_trial:
            surely = isinstance(error, opening.Denied)
            if trial.refused(identity, surely):
                session.context = None
                why = b", new identity " + (b"dropped" if surely else b"in doubt")
                log(WARNING, "session: identity on trial refused", why)
                raise ConnectError(error.args[0] + why)
        if doubted:
            # It was not the identity, then.
            trial.believe(identity)
            session.context = None
        raise
    trial.worked(identity)
