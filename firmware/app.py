"""The composition root: makes every part, and hands each what it needs.

Nothing else knows all the parts. It is needed once: `make` drops it from memory, so that no part
may be handed a function of this file.
"""

import os
import random
import sys
import time

from micropython import const

import firmware
from firmware import buffers, config, module, starts, version
from firmware.at.engine import Engine
from firmware.at.reply import Writer
from firmware.board import BAUD, BOARDS, TXBUF, Board
from firmware.cloud.backoff import Backoff
from firmware.cloud.session import Session
from firmware.commands.table import COMMANDS, OCCASIONAL
from firmware.config import factory
from firmware.config.dictionary import Dictionary
from firmware.config.store import Store
from firmware.events import Events
from firmware.log import WARNING, log
from firmware.messages import RESERVE, Messages
from firmware.net.clock import Clock
from firmware.net.wifi import Wifi
from firmware.ota.watch import Watch
from firmware.profile import V05

# The driver's buffer holds a little more than the bytes: each write is an item with a head.
_TX_MARGIN = const(512)

# Bytes in buffers of fixed size (buffers.py and the reply's piece): the virtual module charges its
# limited heap with them once more (docs/virtual-vs-board.md).
FIXED_BUFFERS = 5122 + 5376 + 1024 + 512


def make():
    """The module, ready for its `main()`."""
    import machine

    identity = factory.load(machine.unique_id())
    board = Board(_board_name(identity.board))
    # The other boards are no longer of interest.
    BOARDS.clear()
    identity.board = board.name
    made = module.Module(V05, identity, board)
    made.failed = starts.failed()
    made.safe = made.failed >= starts.SAFE
    _connect(made, machine.RTC())
    _provide(made)
    # Python finds a module by this entry and by its package's attribute.
    for package, name in ((firmware, "app"), (firmware, "starts"), (config, "factory")):
        del sys.modules[package.__name__ + "." + name]
        delattr(package, name)
    return made


def _board_name(name):
    """`name` if there is such a board, else the one that suits the chip: a host that reaches the
    wrong pins reaches nobody."""
    if name in BOARDS:
        return name
    suited = _suited(os.uname().machine)
    log(WARNING, "board: not told which, taken for", suited)
    return suited


def _suited(machine_name):
    """The first board of `BOARDS` with the chip that MicroPython says it runs on."""
    chip = "esp32"
    for longer in ("esp32s3", "esp32c3"):
        if longer in machine_name.lower().replace("-", ""):
            chip = longer
    for name in sorted(BOARDS):
        if BOARDS[name]["chip"] == chip:
            return name
    raise ValueError("no board for " + machine_name)


def _connect(made, rtc):
    """Make the parts, in the order in which they need each other."""
    profile = made.profile
    board = made.board
    made.events = Events(board.event, profile)
    made.store = Store("/config")
    made.messages = Messages(profile.max_topic, made.topic_root, made.events, module.heap_free)
    made.config = Dictionary(made.store, profile, made.messages.topics)
    made.identity.attach(made.store, made.config)
    made.wifi = Wifi(module.station)
    made.clock = Clock(rtc, made.store, made.ntp_server)
    made.session = Session(
        made.identity,
        made.config,
        made.wifi,
        made.clock,
        made.events,
        made.messages,
        Backoff(time.ticks_ms, time.ticks_diff, random.randrange),
        module.tls_context,
        (buffers.RECEIVED, buffers.SENT),
    )
    made.updates = Watch(made, module.heap_free, *_updates_heap())
    made.writer = Writer(board.uart, TXBUF - _TX_MARGIN, 10000000 // BAUD, profile)
    made.engine = Engine(
        board.uart,
        buffers.LINE,
        made.writer,
        profile,
        COMMANDS,
        "firmware.commands",
        OCCASIONAL,
        made,
    )


def _updates_heap():
    """Bytes of heap that have to be free before the code of updates is loaded, and how many more
    before it is for the first time: each name in a file costs a place in MicroPython's table, for
    ever. Frozen code costs much less."""
    if getattr(firmware, "__file__", "").startswith("/app/"):
        return 5 * RESERVE, 2 * RESERVE
    return 4 * RESERVE, 0


def _provide(made):
    """Say what the keys are that nobody has written."""
    provide = made.config.provide
    identity = made.identity
    wifi = made.wifi
    provide(b"About", identity.about or b"Open ExpressLink - " + made.board.name.encode())
    provide(b"Version", version.VERSION)
    provide(b"TechSpec", made.profile.tech_spec)
    provide(b"Certificate", identity.certificate)
    provide(b"RootCA", identity.roots)
    provide(b"OTAcertificate", identity.ota_certificate)
    provide(b"EndPoint", identity.endpoint)
    provide(b"Defender", b"0")
    provide(b"NTPServer", identity.ntp)
    provide(b"ProvisionMode", b"csr")
    provide(b"ConfTransport", b"softap")
    provide(b"QoS", b"1")
    provide(b"IPv4Address", wifi.address)
    provide(b"GatewayAddress", wifi.gateway)
    provide(b"DNSAddress", wifi.name_server)
    provide(b"IPv6Address", wifi.address6)
