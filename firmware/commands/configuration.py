"""Configuration (guide, chapter 5; 7.5, 7.10, 7.11; decisions D10, D11, D13)."""

from micropython import const

from firmware.at.errors import KEY_LENGTH, PARAMETER, AtError
from lib import pem

# Enough of a key, and of a value that is no certificate, to see that it is too long.
_KEY = const(32)
_VALUE = const(512)


def conf(module, command):
    """CONF key=value (5.2.1, 5.3.1), and CONF certificate=pem (7.10.2)."""
    mark = command.buf.find(b"=", command.start, command.end)
    if mark < 0:
        raise AtError(PARAMETER)
    view = memoryview(command.buf)
    key = bytes(view[command.start : min(mark, command.start + _KEY)])
    certificate = module.config.certificate_key(key)
    if certificate:
        renew = module.engine.borrow("firmware.commands.certificates", "renew")
        return renew(module, certificate, bytes(view[mark + 1 : command.end]))
    module.config.assign(key, bytes(view[mark + 1 : min(command.end, mark + 1 + _VALUE)]))
    module.review()
    return None


def conf_query(module, command):
    """CONF? key (5.2.2, 5.3.2), and CONF? certificate pem (7.10.1)."""
    key, space, qualifier = command.brief(KEY_LENGTH).partition(b" ")
    value, certificates = module.config.query(key)
    if not certificates:
        if space:
            raise AtError(PARAMETER)
        return value or None
    if space and qualifier.lower() != b"pem":
        raise AtError(PARAMETER)
    if not value:
        return None
    return Pem(value, bool(space))


class Pem:
    """Certificates on their way to the host: as PEM that can be cut and pasted, or escaped as any
    other value, on the reply's one line."""

    def __init__(self, certificates, plain):
        self._certificates = certificates
        self._plain = plain

    async def write_to(self, writer):
        """Put out the certificates, line by line, and the reply's end."""
        put = writer.raw if self._plain else writer.escaped
        if self._plain:
            await writer.raw(b"pem\n")
        for der in self._certificates:
            for line in pem.lines(der):
                await put(line)
        if not self._plain:
            await writer.raw(b"\n")
