"""The composition root: makes every part, hands each what it needs, runs and supervises.

Nothing else knows all the parts. Hardware comes in here, and only here.
"""

import asyncio
import gc
import random
import sys
import time

from micropython import const

from firmware import buffers, version
from firmware import messages as messaging
from firmware import mode as modes
from firmware.at.engine import Engine
from firmware.at.reply import Writer
from firmware.board import BAUD, TXBUF, Board
from firmware.cloud.backoff import Backoff
from firmware.cloud.session import Session
from firmware.commands.table import COMMANDS, OCCASIONAL
from firmware.config.dictionary import Dictionary
from firmware.config.identity import Identity
from firmware.config.store import Store
from firmware.events import STARTUP, Events
from firmware.log import ERROR, INFO, WARNING, log
from firmware.net.clock import Clock
from firmware.net.wifi import Wifi
from firmware.profile import V05

# The longest honest blocking call is a resolver without a network (19 s have been seen).
_WATCHDOG_MS = const(60000)

# What is left running when a person takes over with Ctrl-C: as good as no watchdog.
_WATCHDOG_LONGEST_MS = const(86400000)

_TURN_MS = const(1000)

# The driver's buffer holds a little more than the bytes: each write is an item with a head.
_TX_MARGIN = const(512)

# How long the access point may be gone before the connection is given up: the driver joins again
# by itself, and TCP survives a short absence.
_LINK_LOST_TURNS = const(10)

# Bytes in buffers of fixed size (buffers.py and the reply's piece): the virtual module charges its
# limited heap with them once more (docs/virtual-vs-board.md).
FIXED_BUFFERS = 5122 + 5376 + 1024 + 512


class Module:
    """All the parts of a running module; what the commands get to see."""

    def __init__(self, profile, identity, board):
        import machine
        import network

        self.profile = profile
        self.identity = identity
        self.board = board
        self.mode = modes.Mode()
        self.nap = None  # the task that ends a sleep of mode 0
        self.watchdog = None
        self.uptime = 0  # seconds
        self.events = Events(board.event, profile)
        self.store = Store("/config")
        self.messages = messaging.Messages(
            profile.max_topic, self._topic_root, self.events, _heap_free
        )
        self.config = Dictionary(self.store, profile, self.messages.topics)
        self.wifi = Wifi(lambda: network.WLAN(network.WLAN.IF_STA))
        self.clock = Clock(machine.RTC(), self.store, lambda: self.config.get(b"NTPServer"))
        self.session = Session(
            identity,
            self.config,
            self.wifi,
            self.clock,
            self.events,
            self.messages,
            Backoff(time.ticks_ms, time.ticks_diff, random.randrange),
            _tls_context,
            (buffers.RECEIVED, buffers.SENT),
        )
        self.defender = None
        self._provide()
        writer = Writer(board.uart, TXBUF - _TX_MARGIN, 10000000 // BAUD, profile)
        self.writer = writer
        self.engine = Engine(
            board.uart,
            buffers.LINE,
            writer,
            profile,
            COMMANDS,
            "firmware.commands",
            OCCASIONAL,
            self,
        )

    def _topic_root(self):
        return self.config.get(b"TopicRoot")

    def _provide(self):
        """Say what the keys are that nobody has written."""
        provide = self.config.provide
        identity = self.identity
        provide(b"About", identity.about)
        provide(b"Version", version.VERSION)
        provide(b"TechSpec", self.profile.tech_spec)
        provide(b"ThingName", identity.thing)
        provide(b"Certificate", identity.certificate)
        provide(b"RootCA", identity.roots)
        provide(b"OTAcertificate", identity.ota_certificate)
        provide(b"EndPoint", identity.endpoint)
        provide(b"TopicRoot", identity.thing)
        provide(b"Defender", b"0")
        provide(b"NTPServer", identity.ntp)
        provide(b"QoS", b"1")
        provide(b"IPv4Address", lambda: self.wifi.address(0))
        provide(b"GatewayAddress", lambda: self.wifi.address(2))
        provide(b"DNSAddress", lambda: self.wifi.address(3))
        provide(b"IPv6Address", self.wifi.address6)

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
            ready = self.identity.certified and self.config.get(b"SSID")
            state = modes.NORMAL if ready else modes.CONFIGURATION
            if self.mode.state != state:
                self.mode.to(state)

    def _report(self):
        """Give Device Defender its turn; its code is loaded when the key first asks (8.1)."""
        if not self.defender and self.config.get(b"Defender") != b"0":
            try:
                from firmware.cloud.defender import Defender

                self.defender = Defender(self)
            except MemoryError:
                # Tried again at the next turn; a module without reports is better than none.
                log(WARNING, "defender: no memory to start with")
        if self.defender:
            self.defender.turn()

    def wake(self):
        """End a sleep of mode 0, if there is one."""
        if self.nap:
            self.nap.cancel()
            self.nap = None

    def after_reply(self, action):
        """Run the coroutine function `action` once the running command's reply has been sent."""
        self.engine.after_reply = action

    async def restart(self):
        """Leave the cloud properly, and restart the chip."""
        await self.session.disconnect()
        self.board.reset()

    async def run(self):
        """Serve the host for ever."""
        asyncio.get_event_loop().set_exception_handler(_task_failed)
        watchdog = self.watchdog = self.board.watchdog(_WATCHDOG_MS)
        self.review()
        port = asyncio.create_task(self.engine.run())
        self.events.put(STARTUP)
        # `make flash` waits for this line.
        log(INFO, "module: ready,", self.identity.about.decode(), version.VERSION.decode())
        unlinked = 0
        since = time.ticks_ms()
        while not port.done():
            watchdog.feed()
            if self.session.connected():
                unlinked = 0 if self.wifi.linked() else unlinked + 1
                if unlinked >= _LINK_LOST_TURNS:
                    self.session.drop("Wi-Fi lost")
            self._report()
            # Counted, because the ticks wrap.
            seconds = time.ticks_diff(time.ticks_ms(), since) // 1000
            if seconds > 0:
                self.uptime += seconds
                since = time.ticks_add(since, seconds * 1000)
            await asyncio.sleep_ms(_TURN_MS)
        # The port never ends but by a defect: let main.py see it and reset.
        await port


def _heap_free():
    """Bytes of heap that are free; what is no longer used is collected when they seem few."""
    free = gc.mem_free()
    if free > 2 * messaging.RESERVE:
        return free
    gc.collect()
    return gc.mem_free()


def _tls_context():
    import tls

    return tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)


def _task_failed(loop, context):
    """A task has ended in an exception that nobody waited for: a defect, told on the console."""
    log(ERROR, context["message"])
    sys.print_exception(context["exception"])


def main():
    """Make the module and run it. Returns only when a person presses Ctrl-C on the console."""
    import machine

    identity = Identity(machine.unique_id())
    board = Board(identity.board)
    module = Module(V05, identity, board)
    try:
        asyncio.run(module.run())
    except KeyboardInterrupt:
        board.watchdog(_WATCHDOG_LONGEST_MS)
        log(WARNING, "stopped by Ctrl-C, the watchdog waits a day")
