"""What went wrong with a connection, in words that a host's developer can act on.

The text follows `ERR14 UNABLE TO CONNECT` or `ERR6 NO CONNECTION`.
"""

from micropython import const

from lib import mqtt_codec as codec
from lib import mqtt_link as link

# Parts of what mbedTLS says of a certificate (ValueError).
_CERTIFICATE = (
    ("not correctly signed", b"server certificate not trusted"),
    ("does not match", b"server certificate is for another name"),
    ("has expired", b"server certificate expired"),
    ("in the future", b"server certificate not valid yet"),
    ("is revo", b"server certificate withdrawn"),
)

# Where a silence was met.
_SILENT = {
    link.RESOLVE: b"Invalid Endpoint, no answer to the name",
    link.TCP: b"endpoint does not answer",
    link.TLS: b"no answer to the TLS handshake",
    link.CONNACK: b"no answer to CONNECT",
}

# Where the other side hung up, or the network gave up.
_ENDED = {
    link.RESOLVE: b"Invalid Endpoint, name not found",
    link.TCP: b"endpoint not reachable",
    link.TLS: b"TLS handshake refused",
    link.CONNACK: b"closed by the endpoint before CONNACK, is the certificate registered",
}

# mbedTLS: the other side has sent a fatal alert.
_ALERT = const(-0x7780)

# Return codes of CONNACK (MQTT 3.1.1, 3.2.2.3); AWS answers 7 where the standard has 5.
_CONNACK = {
    1: b"protocol version",
    2: b"client identifier",
    3: b"server unavailable",
    4: b"user name or password",
    5: b"not authorized",
    7: b"not authorized",
}


def describe(error, stage):
    """Words (bytes) for an exception of the MQTT client.

    stage: where connecting had got to (`Client.failed_stage`), or None when it was up."""
    if isinstance(error, ValueError):
        text = str(error)
        for part, words in _CERTIFICATE:
            if part in text:
                return words
        return b"server certificate refused"
    if isinstance(error, codec.MQTTException):
        code = error.code
        if code == codec.TIMEOUT:
            return _SILENT.get(stage, b"no answer from the endpoint")
        if code == codec.BY_SERVER:
            return _ENDED.get(stage, b"closed by the endpoint")
        if code == codec.KEEPALIVE:
            return b"no answer to keep-alive"
        if code > 0:
            return b"refused by the endpoint, code %d %s" % (
                code,
                _CONNACK.get(code, b"no reason"),
            )
        return str(error.args[1]).encode()
    words = _ENDED.get(stage, b"connection lost")
    if not isinstance(error, OSError):
        return words + b", " + type(error).__name__.encode()
    if stage == link.TLS and error.errno == _ALERT:
        return words + b", is the certificate registered"
    # Resolvers have numbers of their own, which say no more than the words.
    if stage == link.RESOLVE or not error.errno:
        return words
    return words + b", errno %d" % error.errno
