"""Updates over the air, as the host sees them (guide 7.2). Imported for one command.

OTA?                code of what goes on, and detail
OTA ACCEPT          let it be downloaded
OTA READ count      the next bytes of the host's image
OTA SEEK [address]  move to an address in it, or to its beginning
OTA APPLY           restart with the new version
OTA CLOSE           the host's image has been used
OTA FLUSH           away with it, whatever it is
"""

import binascii

from micropython import const

from firmware.at.errors import ADDRESS, NO_IMAGE, PARAMETER, AtError
from firmware.ota import desk

# Bytes that become one piece of a reply.
_PIECE = const(128)


def ota_query(module, command):
    """OTA? (7.2.1)."""
    code, detail = desk.state(module)
    return b"%d %s" % (code, detail) if detail else b"%d" % code


def ota(module, command):
    """OTA command [parameter] (7.2.3 to 7.2.8)."""
    word, _, parameter = command.brief().strip().partition(b" ")
    word = word.upper()
    parameter = parameter.strip()
    if word in (b"READ", b"SEEK"):
        try:
            return (_read if word == b"READ" else _seek)(module, parameter)
        except OSError as error:
            raise AtError(NO_IMAGE, b"flash, errno %d" % (error.errno or 0)) from None
    if word not in (b"ACCEPT", b"APPLY", b"CLOSE", b"FLUSH"):
        raise AtError(PARAMETER, b"known: ACCEPT READ SEEK APPLY CLOSE FLUSH")
    if parameter:
        raise AtError(PARAMETER)
    return getattr(desk, word.decode().lower())(module)


def _seek(module, parameter):
    """OTA SEEK [address] (7.2.5)."""
    address = parameter or b"0"
    below = address.startswith(b"-")
    if not address[below:].isdigit():
        raise AtError(PARAMETER)
    mailbox = desk.mailbox(module)
    if below:
        raise AtError(ADDRESS)
    mailbox.seek(int(address))
    return b"%X" % mailbox.position


def _read(module, parameter):
    """OTA READ count (7.2.4). A count of zero is an error: its reply would say that the image is
    at its end."""
    if not parameter.isdigit() or not int(parameter):
        raise AtError(PARAMETER)
    data = desk.mailbox(module).read(int(parameter))
    return _Data(data, module.profile.eol) if data else b"00"


class _Data:
    """Bytes on their way to the host. They are all there: what lies in flash may be replaced
    while the reply waits for the UART."""

    def __init__(self, data, eol):
        self._data = data
        self._eol = eol

    async def write_to(self, writer):
        """Put out count, bytes, checksum and the reply's end; in pieces, for memory's sake."""
        data = self._data
        view = memoryview(data)
        await writer.raw(b"%02X " % len(data))
        for start in range(0, len(data), _PIECE):
            await writer.raw(binascii.hexlify(view[start : start + _PIECE]).upper())
        await writer.raw(b" %04X" % (sum(data) & 0xFFFF))
        await writer.raw(self._eol)
