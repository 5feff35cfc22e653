"""Judges an identity on trial: one that the cloud has just issued, or that a person has brought.

    on trial -> accepted: stays
             -> denied by the cloud: dropped
             -> refused by anybody, in two CONNECTs: in doubt; the one before it, or the claim, has
                the next turn. That works: the doubted one goes. It fails too: it was not the
                identity, which is on trial again

Imported when there is such a one.
"""

from micropython import const

from firmware.config.identity import ISSUED, TRIAL, record
from firmware.log import ERROR, log

# CONNECTs in which it is refused before it is in doubt.
_DOUBT = const(2)

_ROOM = "Identity.room"
# An RSA certificate of AWS and its key.
_LARGEST = const(3072)


def reserve(identity):
    """See that the flash has room for an identity. Raises OSError."""
    identity.store.write(_ROOM, bytes(_LARGEST))
    identity.store.remove(_ROOM)


def propose(identity, thing, certificate, key):
    """Be somebody else, on trial. thing: name; certificate, key: DER. Raises OSError."""
    identity.store.write(TRIAL, record(thing, certificate, key))
    believe(identity)


def believe(identity):
    """End the doubt."""
    identity.doubted = False
    identity.refusals = 0
    identity.choose()


def worked(identity):
    """The cloud has accepted a connection: an identity on trial stays, and one in doubt goes,
    since the one before it is as good as ever."""
    try:
        if identity.on_trial:
            identity.store.rename(TRIAL, ISSUED)
        elif identity.doubted:
            identity.store.remove(TRIAL)
        else:
            return
    except OSError as error:
        # It stays on trial, and is judged again.
        log(ERROR, "trial: not ended, errno", error.errno)
        return
    believe(identity)


def refused(identity, surely):
    """The identity on trial has been refused. surely: by the cloud, in a connection that the
    server's certificate vouches for. Returns False when nothing of this has come of it."""
    if not (identity.born[0] or identity.claim()[0] or identity.store.read(ISSUED)):
        # There is nobody else to be.
        return False
    identity.refusals += 1
    if not surely and identity.refusals < _DOUBT:
        return False
    if surely:
        try:
            identity.store.remove(TRIAL)
        except OSError as error:
            log(ERROR, "trial: not removed, errno", error.errno)
    identity.doubted = True
    identity.choose()
    return True
