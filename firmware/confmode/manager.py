"""CONFMODE's beginning and end, whatever the transport (guide 3.6.5).

A transport is made with (manager, module, name, key) and has `async begin()`, which raises
ManagerError or OSError, `async end()`, which may be called in any state, and `status()`. It
reports each thing that a client does (`touched`), and how it went (`finish`).
"""

import asyncio
import gc
import sys
import time

from micropython import const

from firmware import borrowed
from firmware.events import CONFMODE
from firmware.log import ERROR, INFO, log
from firmware.settle import settle

# CONFMODE ends by itself when no client has done anything for so long.
_IDLE_S = const(600)

_TURN_MS = const(200)

# The longest that an end may take.
_END_MS = const(3000)

# What is dropped from memory at the end. One text, since names that stand alone are kept for ever.
_BORROWED = """
 firmware.confmode.manager firmware.confmode.softap firmware.confmode.portal
 firmware.confmode.page firmware.confmode.ble firmware.confmode.frames
 firmware.confmode.candidate firmware.confmode.intake firmware.confmode.sealing
 firmware.confmode.reasons firmware.settle firmware.net.seldom firmware.config.change
 lib.http_server lib.http_parser lib.dns lib.hmac_sha256
""".replace("\n", " ")


class ManagerError(Exception):
    """CONFMODE cannot begin; the argument (bytes) says why, fit for an error's detail."""


class Manager:
    """One CONFMODE, from its beginning to its end.

    transport: `softap` or `ble`. name: of the access point or the device. key: empty, or 8 to 63
    printable characters. All are bytes. idle_s: seconds without a client until it ends.
    """

    def __init__(self, module, transport, name, key, idle_s=_IDLE_S):
        self._module = module
        self._kind = transport
        self._name = name
        self._key = key
        self._idle_ms = idle_s * 1000
        self._touched = time.ticks_ms()
        self._transport = None
        self._outcome = None  # (success, why) once it is known
        self._over = False

    async def begin(self):
        """Have the transport up, and `module.confmode` set. Raises ManagerError."""
        gc.collect()
        why = watch = None
        try:
            self._transport = self._make()
            watch = asyncio.create_task(self._watch())
            await self._transport.begin()
        except ManagerError as error:
            why = error.args[0]
        except ImportError:
            why = b"this build has no " + self._kind
        except MemoryError:
            why = b"no memory"
        except (OSError, RuntimeError) as error:
            # The driver's errors carry a text where others have a number.
            why = str(error).encode()
        if why is not None:
            if watch:
                watch.cancel()
            await self._close(False, why)
            raise ManagerError(why)
        log(INFO, "confmode: up,", self._kind.decode())
        self.touched()
        self._module.confmode = self
        self._module.review()

    def _make(self):
        """The transport. Imported here, so that the other one costs nothing."""
        if self._kind == b"ble":
            from firmware.confmode.ble import Ble as Transport
        else:
            from firmware.confmode.softap import SoftAp as Transport
        return Transport(self, self._module, self._name, self._key)

    def touched(self):
        """A client has done something."""
        self._touched = time.ticks_ms()

    def finish(self, success, why):
        """Let CONFMODE end in a moment, with `why` (bytes) as what is told of it. For the
        transport's own tasks, which the end cancels; the first call counts."""
        if self._outcome is None:
            self._outcome = (success, why)

    async def end(self, success, why):
        """End CONFMODE, and return when it has ended, or should have: a restart waits for nobody.
        May be called more than once."""
        self.finish(success, why)
        started = time.ticks_ms()
        while not self._over and time.ticks_diff(time.ticks_ms(), started) < _END_MS:
            await asyncio.sleep_ms(_TURN_MS // 10)

    def status(self):
        """One line (bytes) for DIAG INFO."""
        return self._transport.status()

    async def _watch(self):
        """Wait for the outcome, and bring it about: the one task that ends CONFMODE."""
        while self._outcome is None:
            try:
                if time.ticks_diff(time.ticks_ms(), self._touched) > self._idle_ms:
                    self.finish(False, b"no client for %d s" % (self._idle_ms // 1000))
            except MemoryError:
                gc.collect()
            await asyncio.sleep_ms(_TURN_MS)
        await self._close(*self._outcome)

    async def _close(self, success, why):
        module = self._module
        while True:
            try:
                await self._bring_down()
                module.conf_result = why
                if success:
                    module.events.put(CONFMODE)
                    success = False
                module.confmode = None
                module.review()
                log(INFO, "confmode: over,", why)
                break
            except MemoryError:
                # All of it can be done again, and what it has let go of makes room.
                gc.collect()
                await asyncio.sleep_ms(_TURN_MS)
        self._over = True
        self._forget()

    async def _bring_down(self):
        """Radio off. One that does not obey is no reason to keep the host from going on."""
        try:
            if self._transport:
                await self._transport.end()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001
            sys.print_exception(error)
        try:
            self._module.wifi.leave()
        except (OSError, RuntimeError) as error:
            log(ERROR, "confmode:", error)

    def _forget(self):
        """Drop the code from memory. Memory may be what is lacking."""
        self._transport = None
        for _ in range(3):
            try:
                borrowed.drop(_BORROWED)
                asyncio.create_task(settle())  # noqa: RUF006
                break
            except MemoryError:
                gc.collect()
        gc.collect()
