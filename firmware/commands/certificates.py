"""Writing certificates (guide 7.5, 7.10, 7.11; decision D13). Imported for one command.

    CONF OTAcertificate=<PEM with LF as \\A>
    CONF OTAcertificate=pem LF <the lines of a PEM file>

What is verified, `config.renewal` says. Whatever cannot be is ERR23, and the old value stays.
"""

import time

from micropython import const

from firmware.at import framing
from firmware.at.errors import SIGNATURE, AtError
from firmware.config import renewal
from lib import pem

# A paste may pause this long, and take this long in all: every command ends within 120 s.
_SILENCE_MS = const(30000)
_LONGEST_MS = const(110000)
# A bundle has ended, and a last line without its LF is taken as complete, after this long.
_LINGER_MS = const(2000)


def _refuse(why):
    raise AtError(SIGNATURE, why)


async def renew(module, name, value):
    """Read what the host sends as certificate `name`, verify it, keep it."""
    if value.strip().lower() == b"pem":
        found = await _paste(module.engine, name == b"RootCA")
    else:
        try:
            found = pem.decode(value)
        except ValueError as error:
            _refuse(str(error).encode())
    await renewal.renew(module, name, found)


async def _paste(engine, many):
    """The certificates in the lines that follow (7.10.2)."""
    framer = engine.framer
    decoder = pem.Decoder()
    found = []
    fault = b""  # after one the rest of the block is passed over, lest it be taken for commands
    started = silent_since = time.ticks_ms()
    unfinished = 0
    while True:
        kind = await engine.line(_LINGER_MS)
        now = time.ticks_ms()
        late = time.ticks_diff(now, started) > _LONGEST_MS
        if kind is None:
            if found and not decoder.inside and not fault:
                return found
            line = framer.unfinished()
            if late:
                _refuse(fault or b"took too long")
            if len(line) != unfinished:
                # Slow, but not silent.
                unfinished = len(line)
                silent_since = now
            if fault or time.ticks_diff(now, silent_since) > _SILENCE_MS:
                _refuse(fault or b"no end of the certificate came")
            if not decoder.ends(line):
                continue
        else:
            silent_since = now
            unfinished = 0
            line = framer.line()
            if _is_command(engine, kind, line):
                # The next command after a bundle; or the host has given up: it gets its answers.
                engine.keep(kind)
                if found and not decoder.inside and not fault:
                    return found
                _refuse(fault or b"no end of the certificate came")
            if late:
                _refuse(fault or b"took too long")
            if kind == framing.OVERFLOW:
                fault = fault or b"line too long"
        if fault:
            # Of a bundle there may be more to come.
            if not many and bytes(line).strip() == pem.END:
                _refuse(fault)
            continue
        try:
            der = decoder.line(line)
        except ValueError as error:
            fault = str(error).encode()
            continue
        if der is not None:
            found.append(der)
            if not many:
                return found
            if len(found) > renewal.MAX_ROOTS:
                found.clear()
                fault = b"too many certificates"


def _is_command(engine, kind, line):
    """True for a line that is `AT`, or begins with `AT+` and is no base64 or a command's word.

    These letters may begin a line of a certificate, or stand in it; but it is then a multiple of
    four long, and has no space, no `?`, and no `=` in it but at its end. That it is all of a word
    besides, will not happen."""
    text = bytes(line).upper()
    if kind == framing.ATTENTION:
        return text == b"AT"
    if kind != framing.COMMAND or not text.startswith(b"AT+"):
        return False
    if len(text) % 4 or engine.serves(text[3:].rstrip(b"0123456789")):
        return True
    return b" " in text or b"?" in text or b"=" in text.rstrip(b"=")
