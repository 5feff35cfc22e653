"""The composition root: makes every part, and hands each what it needs.

Nothing else knows all the parts. It is needed once: `make` drops it from memory, so that no part
may be handed a function of this file.
"""

import random
import sys
import time

from micropython import const

import firmware
from firmware import buffers, module, version
from firmware.at.engine import Engine
from firmware.at.reply import Writer
from firmware.board import BAUD, BOARDS, TXBUF, Board
from firmware.cloud.backoff import Backoff
from firmware.cloud.session import Session
from firmware.commands.table import COMMANDS, OCCASIONAL
from firmware.config.dictionary import Dictionary
from firmware.config.identity import Identity
from firmware.config.store import Store
from firmware.events import Events
from firmware.messages import Messages
from firmware.net.clock import Clock
from firmware.net.wifi import Wifi
from firmware.profile import V05

# The driver's buffer holds a little more than the bytes: each write is an item with a head.
_TX_MARGIN = const(512)

# Bytes in buffers of fixed size (buffers.py and the reply's piece): the virtual module charges its
# limited heap with them once more (docs/virtual-vs-board.md).
FIXED_BUFFERS = 5122 + 5376 + 1024 + 512


def make():
    """The module, ready for its `main()`."""
    import machine

    identity = Identity(machine.unique_id())
    board = Board(identity.board)
    # The other boards are no longer of interest.
    BOARDS.clear()
    made = module.Module(V05, identity, board)
    _connect(made, machine.RTC())
    _provide(made)
    # Python finds a module by this entry and by its package's attribute.
    del sys.modules["firmware.app"]
    delattr(firmware, "app")
    return made


def _connect(made, rtc):
    """Make the parts, in the order in which they need each other."""
    profile = made.profile
    board = made.board
    made.events = Events(board.event, profile)
    made.store = Store("/config")
    made.messages = Messages(profile.max_topic, made.topic_root, made.events, module.heap_free)
    made.config = Dictionary(made.store, profile, made.messages.topics)
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


def _provide(made):
    """Say what the keys are that nobody has written."""
    provide = made.config.provide
    identity = made.identity
    wifi = made.wifi
    provide(b"About", identity.about or b"Open ExpressLink - " + made.board.name.encode())
    provide(b"Version", version.VERSION)
    provide(b"TechSpec", made.profile.tech_spec)
    provide(b"ThingName", identity.thing)
    provide(b"Certificate", identity.certificate)
    provide(b"RootCA", identity.roots)
    provide(b"OTAcertificate", identity.ota_certificate)
    provide(b"EndPoint", identity.endpoint)
    provide(b"TopicRoot", identity.thing)
    provide(b"Defender", b"0")
    provide(b"NTPServer", identity.ntp)
    provide(b"QoS", b"1")
    provide(b"IPv4Address", wifi.address)
    provide(b"GatewayAddress", wifi.gateway)
    provide(b"DNSAddress", wifi.name_server)
    provide(b"IPv6Address", wifi.address6)
