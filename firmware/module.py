"""The running module: what the commands get to see, and what turns once a second.

`app.make` makes the parts and puts them here.
"""
# The parts are None until app.py has put them in.
# pyright: reportAttributeAccessIssue=false

import asyncio
import gc
import sys
import time

from micropython import const

from firmware import messages as messaging
from firmware import mode as modes
from firmware.borrowed import drop
from firmware.events import STARTUP
from firmware.log import ERROR, INFO, WARNING, log

# The longest honest blocking call is a resolver without a network (19 s have been seen).
_WATCHDOG_MS = const(60000)

# What is left running when a person takes over with Ctrl-C: as good as no watchdog.
_WATCHDOG_LONGEST_MS = const(86400000)

_TURN_MS = const(1000)

# How long the access point may be gone before the connection is given up: the driver joins again
# by itself, and TCP survives a short absence.
_LINK_LOST_TURNS = const(10)

# What has to be free before the reports are loaded: themselves, and a connection.
_DEFENDER_HEAP = 4 * messaging.RESERVE


class Module:
    """All the parts, by name, and what they need of each other."""

    def __init__(self, profile, identity, board):
        self.profile = profile
        self.identity = identity
        self.board = board
        self.mode = modes.Mode()
        self.events = None
        self.store = None
        self.messages = None
        self.config = None
        self.wifi = None
        self.clock = None
        self.session = None
        self.writer = None
        self.engine = None
        self.defender = None
        self.updates = None
        self.watchdog = None
        self.nap = None  # the task that ends a sleep of mode 0
        self.confmode = None  # the `confmode.manager.Manager` while credentials are entered
        self.conf_result = b""  # how that ended the last time, for DIAG INFO
        self.failed = 0  # starts in a row that ended by the watchdog or a fatal error
        self.safe = False  # too many: nothing is done but what the host says
        self.uptime = 0  # seconds
        self._report_after = 0
        self._counted = time.ticks_ms()

    def topic_root(self):
        """The key TopicRoot."""
        return self.config.get(b"TopicRoot")

    def ntp_server(self):
        """The key NTPServer."""
        return self.config.get(b"NTPServer")

    def review(self):
        """Have the mode that the present state of things asks for."""
        if self.mode.state not in (modes.INIT, modes.CONFIGURATION, modes.NORMAL):
            return
        lost = self.identity.fault()
        if self.store.fault:
            self.mode.to(modes.IDLE, b"flash unusable, errno %d" % self.store.fault)
        elif lost:
            self.mode.to(modes.IDLE, b"identity damaged, " + lost.encode())
        else:
            who = self.identity.certified or self.identity.template
            ready = who and not self.confmode and self.config.get(b"SSID")
            state = modes.NORMAL if ready else modes.CONFIGURATION
            if self.mode.state != state:
                self.mode.to(state)

    def count(self):
        """Bring `uptime` up to date; to be called often enough, because the ticks wrap."""
        seconds = time.ticks_diff(time.ticks_ms(), self._counted) // 1000
        if seconds > 0:
            self.uptime += seconds
            self._counted = time.ticks_add(self._counted, seconds * 1000)

    def _report(self):
        """Give Device Defender its turn; its code is loaded when the key first asks (8.1)."""
        if (
            not self.defender
            and self.config.get(b"Defender") != b"0"
            and self.uptime >= self._report_after
            # Reports are made in the name of a thing.
            and self.identity.certified
            and not self.identity.on_trial
            and not self.identity.doubted
        ):
            self._start_reports()
        if self.defender:
            self.defender.turn()

    def _start_reports(self):
        """Load the reports where they leave room for a connection: a module without them is
        better than none. Tried again once a minute."""
        try:
            if heap_free() > _DEFENDER_HEAP:
                from firmware.cloud.defender import Defender

                self.defender = Defender(self)
                return
        except MemoryError:
            gc.collect()
        self._report_after = self.uptime + 60
        log(WARNING, "defender: no memory to start with")

    def wake(self):
        """End a sleep of mode 0, if there is one."""
        if self.nap:
            # The task may not have begun yet, so it is not the one to tidy up.
            self.nap.cancel()
            self.nap = None
            self.board.slow_down(False)

    def after_reply(self, action):
        """Run the coroutine function `action` once the running command's reply has been sent."""
        self.engine.after_reply = action

    async def restart(self):
        """End CONFMODE, leave the cloud properly, and restart the chip."""
        try:
            if self.confmode:
                await self.confmode.end(False, b"restart")
            await self.session.disconnect()
        finally:
            # A driver that refuses is one reason more.
            self.board.reset()

    def main(self):
        """Serve the host. Returns, True, only when a person presses Ctrl-C on the console."""
        try:
            asyncio.run(self._run())
        except KeyboardInterrupt:
            self.board.watchdog(_WATCHDOG_LONGEST_MS)
            log(WARNING, "stopped by Ctrl-C, the watchdog waits a day")
            return True

    def _resume(self):
        """Go on with what was begun before the restart: an update, or credentials that a person
        has entered over Bluetooth. Raises MemoryError: a version on trial fails with it."""
        self.updates.start()
        try:
            if self.store.read("candidate"):
                from firmware.confmode.candidate import Trial

                self.confmode = Trial(self)
        except MemoryError:
            # The next start tries again: not to start at all would be worse.
            self.conf_result = b"no memory to try it"

    async def _run(self):
        asyncio.get_event_loop().set_exception_handler(_task_failed)
        watchdog = self.watchdog = self.board.watchdog(_WATCHDOG_MS)
        if self.safe:
            self.mode.to(modes.IDLE, b"safe mode after %d failed starts" % self.failed)
        self.review()
        port = asyncio.create_task(self.engine.run())
        self.events.put(STARTUP)
        # `make flash` waits for this line.
        version = self.config.get(b"Version").decode()
        log(INFO, "module: ready,", self.config.get(b"About").decode(), version)
        if not self.safe:
            self._resume()
        unlinked = 0
        while not port.done():
            watchdog.feed()
            if not self.session.connected() or self.wifi.linked():
                unlinked = 0
            else:
                unlinked += 1
                if unlinked >= _LINK_LOST_TURNS:
                    self.session.drop("Wi-Fi lost")
            if not self.safe:
                self.updates.turn()
                self._report()
            self.count()
            if self.failed and self.writer.replies:
                # It starts, and it answers.
                self.failed = 0
                self.engine.borrow("firmware.starts", "clear")()
                drop(" firmware.starts ")
            await asyncio.sleep_ms(_TURN_MS)
        # The port never ends but by a defect: let main.py see it and reset.
        await port


def heap_free():
    """Bytes of heap that are free; what is no longer used is collected when they seem few."""
    free = gc.mem_free()
    if free > 2 * messaging.RESERVE:
        return free
    gc.collect()
    return gc.mem_free()


def station():
    """The interface to an access point; the radio's memory is taken when it is first made."""
    import network

    return network.WLAN(network.WLAN.IF_STA)


def tls_context():
    """A context that demands a certificate of the server."""
    import tls

    return tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)


def _task_failed(loop, context):
    """A task has ended in an exception that nobody waited for: a defect, told on the console."""
    log(ERROR, context["message"])
    sys.print_exception(context["exception"])
