"""A configuration that came by Bluetooth LE: kept, tried after a restart, then believed or not.

It is one value of the store, so that there is all of it or nothing:

    tries (1 byte) | name length (1), name, value length (2, little endian), value | …

The names are keys of the dictionary, and `identity` for the record of a thing's certificate and
key. A power cut in the middle of a try costs one of three.
"""

import asyncio
import struct
import sys

from micropython import const

from firmware import borrowed
from firmware.config.bundle import split
from firmware.config.identity import TRIAL
from firmware.confmode.reasons import shown
from firmware.events import CONFMODE
from firmware.log import INFO, WARNING, log
from firmware.net.wifi import WifiError

_NAME = "candidate"

_IDENTITY = b"identity"
_BORROWED = " firmware.confmode.candidate firmware.confmode.reasons firmware.config.change "
# Large, and of use for `fault` only.
_LIBRARIES = " lib.keypair lib.x509 lib.p256_key lib.p256 lib.rsa lib.der "
_TRIES = const(3)
_JOIN_MS = const(22000)


def propose(module, values, record):
    """Keep a configuration for the next start. values: {key: bytes}; record: an identity's
    (`config.identity.record`), b"" for none. Raises OSError."""
    fields = [b"\0"]
    for name, value in list(values.items()) + [(_IDENTITY, record)]:
        if value or name != _IDENTITY:
            fields.append(bytes((len(name),)) + name + struct.pack("<H", len(value)) + value)
    module.store.write(_NAME, b"".join(fields))


def _unpack(data):
    """(values, record) of what `propose` has kept. ValueError when it is something else."""
    if not data:
        raise ValueError("empty")
    values = {}
    at = 1
    while at < len(data):
        start = at + 1 + data[at]
        name = data[at + 1 : start]
        if start + 2 > len(data):
            raise ValueError("cut short")
        at = start + 2 + struct.unpack_from("<H", data, start)[0]
        if at > len(data):
            raise ValueError("cut short")
        values[name] = data[start + 2 : at]
    return values, values.pop(_IDENTITY, b"")


async def fault(certificate, key):
    """What is wrong with a certificate and a private key (both DER) as an identity, as text; None
    when they belong together. Raises MemoryError; the libraries are dropped in any case."""
    try:
        from lib import keypair, x509

        parsed = x509.parse(certificate)
        if parsed.unknown_critical:
            return "unknown critical extension"
        if await keypair.belongs(key, parsed):
            return None
        return "the key does not belong to the certificate"
    except (ValueError, OSError) as error:
        return str(error)
    finally:
        borrowed.drop(_LIBRARIES)


class Trial:
    """Stands in CONFMODE's place while what was kept is tried; made once STARTUP is queued."""

    def __init__(self, module):
        self._module = module
        self._ssid = b""
        self._over = False
        self._kept = False
        self._task = asyncio.create_task(self._run())

    def status(self):
        """A line for DIAG INFO."""
        return b"ble, trying " + self._ssid

    async def _run(self):
        module = self._module
        module.review()
        try:
            why = await self._try(module.store.read(_NAME) or b"")
        except MemoryError:
            why = b"no memory"
        except Exception as error:  # noqa: BLE001
            # A defect of ours: the old values stay, and CONFMODE ends.
            sys.print_exception(error)
            why = b"internal error, " + type(error).__name__.encode()
        if self._kept:
            # Whatever came after that.
            why = b""
        await self.end(not why, why or b"joined " + self._ssid)

    async def end(self, success, why):
        """Leave CONFMODE; without success the candidate goes, and the old values stay."""
        if self._over:
            return
        self._over = True
        module = self._module
        try:
            if not success:
                module.store.remove(_NAME)
            module.wifi.leave()
        except (OSError, RuntimeError) as error:
            # Its tries are counted: it cannot come back for ever.
            log(WARNING, "candidate: not removed, or radio:", error)
        finally:
            module.confmode = None
            module.conf_result = why
            if success:
                module.events.put(CONFMODE)
            module.review()
        log(INFO, "candidate:", "kept" if success else why.decode())
        borrowed.drop(_BORROWED)

    async def _try(self, data):
        """Try it; returns why it has failed, b"" when it is kept."""
        module = self._module
        try:
            values, record = _unpack(data)
        except ValueError:
            return b"candidate damaged"
        if data[0] >= _TRIES:
            return b"power lost in each of %d tries" % _TRIES
        get = module.config.get
        self._ssid = values.get(b"SSID") or get(b"SSID")
        passphrase = values.get(b"Passphrase")
        if passphrase is None:
            passphrase = get(b"Passphrase")
        try:
            module.store.write(_NAME, bytes((data[0] + 1,)) + data[1:])
            data = None
            if record:
                why = await fault(*split(record[1 + record[0] :]))
                if why:
                    return why.encode()
            log(INFO, "candidate: trying")
            await module.wifi.join(self._ssid, passphrase, _JOIN_MS)
            if self._over:
                return b"restart"
            others = {_NAME: None}
            if record:
                others[TRIAL] = record
            module.config.keep(values, others)
            self._kept = True
            if record:
                module.identity.choose()
        except WifiError as error:
            return shown(error)
        except (OSError, RuntimeError) as error:
            # The driver's errors carry a text where others have a number.
            return b"flash or radio, " + str(error).encode()
        return b""
