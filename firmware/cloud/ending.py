"""Who has ended a connection. Imported by those parts that have to know."""

from errno import ECONNRESET

from lib.mqtt_codec import BY_SERVER, MQTTException


def by_peer(reason):
    """True when a connection that ended for `reason` (`Session.lost`) was ended by the endpoint,
    which is also its one answer to what a policy forbids."""
    if isinstance(reason, MQTTException):
        return reason.code == BY_SERVER
    return isinstance(reason, OSError) and reason.errno == ECONNRESET
