"""Configuration (guide, chapter 5; 7.5, 7.10, 7.11; decisions D10, D11, D13)."""

from micropython import const

from firmware.at.errors import KEY_LENGTH, PARAMETER, AtError

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
    # The dictionary looks at the value with what is imported for it.
    module.engine.borrowed = True
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
    reply = module.engine.borrow("firmware.commands.certificate_reply", "Pem")
    return reply(value, bool(space))
