"""The virtual board: power, reset, deep sleep, boot, and the VM that is its processor.

All of it happens in the thread that calls `Board.run`; others use `Board.call`.
"""

import json
import threading
import time

from tools.sim import app_record, bootloader, espimage, flash, manufacture, process, romfs, uart
from tools.sim.access_points import AccessPoints
from tools.sim.console_log import ConsoleLog
from tools.sim.filesystem import Filesystem
from tools.sim.loop import Loop
from tools.sim.pins import Pins
from tools.sim.radio import Radio
from tools.sim.registers import Registers
from tools.sim.session import NUDGES_S, Session
from tools.sim.watchdog import Watchdog

# machine.reset_cause() on ESP32, and machine.wake_reason() of the timer.
PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5
TIMER_WAKE = 4

# What the board does; each state with those that may follow it.
OFF = "off"
HELD = "held in reset"
BOOTING = "booting"
RUNNING = "running"
ASLEEP = "in deep sleep"
STUCK = "stuck"
_NEXT = {
    OFF: {BOOTING, HELD, STUCK},
    HELD: {OFF, BOOTING, STUCK},
    BOOTING: {OFF, HELD, RUNNING, BOOTING, ASLEEP, STUCK},
    RUNNING: {OFF, HELD, BOOTING, ASLEEP, STUCK},
    ASLEEP: {OFF, HELD, BOOTING, STUCK},
    STUCK: {OFF, HELD, BOOTING},
}

_BOOT_LIMIT_S = 30


class BoardError(RuntimeError):
    """What was asked cannot be done; the text says why."""


class Pending:
    """A boot that somebody waits for: `done` is set at STARTUP or when `error` is known."""

    def __init__(self):
        self.done = threading.Event()
        self.error = None

    def finish(self, error=None):
        if not self.done.is_set():
            self.error = error
            self.done.set()


class Board:
    """options: an Options; announce: called with each line for the user.

    repl: None, or the Repl that takes the console's place; set before `run`.
    """

    def __init__(self, options, announce):
        self.options = options
        self.repl = None
        self.state = OFF
        self.boots = 0
        self._announce = announce
        made = json.loads((options.state / "board.json").read_text())
        self.row = manufacture.board_row(made["board"])
        self.uid = made["uid"]
        self._chip = flash.Flash(options.state / "flash.bin")
        self._vm = process.Vm(options, made, self.row, self._chip.table)
        self.registers = Registers(options.state / "registers.bin")
        self.pins = Pins(self.registers, self.row)
        self._prepare_registers()
        self.access_points = AccessPoints(
            str(options.state / "aps.json"), self.registers, options.access_points
        )
        self.wire = uart.Wire(self.registers, options.baud)
        self._watchdog = Watchdog(self.registers, self.wire)
        self._log = ConsoleLog(options.state / "console.log", options.verbose)
        self.loop = Loop()
        self.call = self.loop.call
        self.radio = Radio(options.state, self.loop.selector, self._air)
        self._session = None
        self._slot = None
        self._folder = None
        self._reset_low = False
        self._been_ready = False
        self._watching = False
        self._sources = []
        self._pending = Pending()
        self._pending.finish()

    def _prepare_registers(self):
        self.registers.reset()
        self.registers.release_pins()
        for name in ("flash_programs", "flash_erases", "standin_heap"):
            self.registers.put(name, 0)
        self.registers.put("uart_paced", self.options.baud)
        self.registers.put("slow", self.options.slow)
        self._power_gone()

    def run(self):
        """Power on and run until `stop`; returns "" or the sentence that says why it ended."""
        try:
            self.loop.post(self.power_on)
            return self.loop.run(self._watchdog.interval, self._tick)
        finally:
            self._end_session()
            self.radio.close()
            self._pending.finish("the virtual module ended")
            self.wire.close()
            self._log.close()
            self._chip.close()

    def stop(self, reason=""):
        """End `run`; usable from a signal handler. reason: an error, or nothing."""
        self.loop.stop(reason)

    def _tick(self):
        if self._session is not None and self._watchdog.expired():
            self._announce("watchdog: reset")
            self._boot(WDT_RESET)

    def _move(self, state):
        if state not in _NEXT[self.state]:
            raise BoardError(f"cannot go from {self.state} to {state}")
        self.state = state

    # Power and reset.

    def power_on(self):
        """Returns the Pending of the boot. Nothing happens when the power is on already."""
        if self.state == OFF:
            self._power_gone()
            if self._reset_low:
                self._move(HELD)
                raise BoardError("RESET is held low")
            self._boot(PWRON_RESET)
        return self._pending

    def power_cut(self):
        """The power is gone, in the middle of whatever was done."""
        if self.state != OFF:
            self._end_session()
            self.loop.cancel()
            self._finish("the power was cut")
            self._move(OFF)
            self._power_gone()

    def _power_gone(self):
        # The flash fault ends with any power event.
        self.registers.put("flash_fail_after", 0)
        self._forget_rtc()

    def _forget_rtc(self):
        # The RTC begins again in the year 2000.
        self.registers.put("clock_offset_us", -(time.time_ns() // 1000))
        (self.options.state / "rtc.bin").unlink(missing_ok=True)

    def _set_reset(self, level):
        self._reset_low = not level
        if not level and self.state not in (OFF, HELD):
            self._end_session()
            self.loop.cancel()
            self._finish("RESET is held low")
            self._move(HELD)
            # RESET is the chip's EN pin: held low, everything but the flash forgets.
            self._forget_rtc()
        elif level and self.state == HELD:
            self._boot(PWRON_RESET)

    # Boot.

    def _choose(self, cause):
        # The bootloader's part; a wake or a soft reset keeps the slot without another look.
        chip = self.row["chip"]
        if cause in (DEEPSLEEP_RESET, SOFT_RESET) and self._slot:
            return self._slot, bootloader.load(self._chip, self._slot, chip)
        return bootloader.select(self._chip, chip)

    def _boot(self, cause, wake_reason=0, run_main=True):
        self._end_session()
        if self._pending.done.is_set():
            # A board that resets again and again before STARTUP gets no new deadline.
            self._pending = Pending()
            late = f"no STARTUP within {_BOOT_LIMIT_S} s"
            self.loop.after(_BOOT_LIMIT_S, "boot", lambda: self._boot_failed(late))
        try:
            self._slot, image = self._choose(cause)
        except (bootloader.NothingBootable, espimage.ImageError) as error:
            self._move(STUCK)
            self._boot_failed(str(error))
            return
        self._move(BOOTING)
        self.boots += 1
        data = image.segments[0][1]
        rom = data if data.startswith(romfs.MAGIC) else None
        if rom:
            self._announce(f"running {self._slot}, {len(data)} bytes")
        elif not (self.options.blank or self.options.stock):
            self._announce("running source tree")
        # A stock board says itself which folder boot.py has chosen.
        self._folder = None
        self._start(process.Boot(cause, wake_reason, self._slot, rom, run_main))

    def _start(self, boot):
        self._watching = False
        self._watchdog.start()
        self._session = Session(
            self._vm,
            boot,
            self.loop.selector,
            self.repl,
            self._message,
            self._output,
            self._vm_ended,
        )
        self.wire.attach(self._session.channel)

    def _end_session(self):
        session, self._session = self._session, None
        if session is not None:
            self.wire.attach(None)
            session.end()
            self.radio.silence()
            self.registers.reset()

    def _finish(self, error=None):
        self.loop.cancel("boot")
        self._pending.finish(error)

    def _boot_failed(self, text):
        error = f"{text}; the console's last lines:\n{self.console_tail()}"
        self._finish(error)
        if self._been_ready:
            self._announce("error: " + text)
        else:
            self.stop(error)

    def _ready(self):
        if self.state == BOOTING:
            self._move(RUNNING)
            self._been_ready = True
            self._announce("ready")
            self._finish()

    # What the VM says.

    def _message(self, message):
        # Returns whether the VM that said it still runs.
        speaker = self._session
        if "pin" in message:
            if self.pins.is_event(message["pin"]) and message["level"]:
                self._ready()
        elif "reset" in message:
            self._boot(SOFT_RESET if message["reset"] == "soft" else HARD_RESET)
        elif "deepsleep" in message:
            self._sleep(message["deepsleep"], message["wake"])
        elif "power" in message:
            self.power_cut()
            self._announce("power lost in a flash operation")
        elif "portal" in message:
            self._announce(f"portal http://127.0.0.1:{message['portal']}")
        elif "port53" in message:
            self._announce(f"portal-dns 127.0.0.1:{message['port53']}")
        elif "radio" in message:
            self.radio.heard(message["radio"])
        elif "app" in message:
            self._folder = message["app"]
            self._announce("running " + self._folder)
        elif "watching" in message:
            self._watching = True
        elif "repl" in message:
            self._at_repl()
        return self._session is speaker

    def _output(self, data):
        self._log.add(data)
        if self.repl is not None:
            self.repl.show(data)

    def _at_repl(self):
        if self.options.blank or self.repl is not None:
            self._ready()
            if self.repl is not None:
                self.repl.at_prompt()
            return
        self._session.read_output()
        if self.state == BOOTING:
            self._boot_failed("main.py ended before STARTUP")
        else:
            self._announce("main.py ended; the board is at its REPL")

    def _vm_ended(self, code):
        if self.repl is not None and code == 0:
            # Ctrl-D at the REPL is a soft reset.
            raw = self.repl.soft_reset()
            self._boot(SOFT_RESET, run_main=not raw)
            return
        self._end_session()
        self._move(STUCK)
        self._finish(f"the VM ended with code {code}")
        self.stop(f"the VM ended with code {code}; its last lines:\n{self.console_tail()}")

    def _air(self, message):
        return self._session is not None and self._session.air(message)

    def console_tail(self, count=15):
        """The last lines that the VM wrote on its console."""
        return self._log.tail(count)

    # Deep sleep and pins.

    def _sleep(self, ms, sources):
        pulls = self.pins.pulls(sources)
        self._end_session()
        self.pins.set_pulls(pulls)
        self._move(ASLEEP)
        self._sources = sources
        self._finish("the board went to deep sleep before STARTUP")
        self._announce("deep sleep")
        if ms is not None:
            self.loop.after(ms / 1000, "wake", lambda: self._wake(TIMER_WAKE))
        self._look_at_wake_pins()

    def _look_at_wake_pins(self):
        reason = self.pins.woken(self._sources)
        if reason is not None:
            self._wake(reason)

    def _wake(self, reason):
        self._sources = []
        self.loop.cancel("wake")
        self._boot(DEEPSLEEP_RESET, reason)

    def set_pin(self, name, level):
        """Drive RESET, WAKE or GPIO<n>; level 0, 1, or None to let go. Raises ValueError."""
        if name == "RESET":
            self._set_reset(1 if level is None else level)
            return
        pin = self.pins.number(name)
        edge = self.pins.drive(pin, level)
        if self.state == ASLEEP:
            self._look_at_wake_pins()
        elif edge and self._session is not None and self._watching:
            self._session.interrupt(pin, self.pins.level(pin))
            for i, delay in enumerate(NUDGES_S):
                self.loop.after(delay, f"nudge{i}", self._nudge)

    def _nudge(self):
        # Only the wheel's launcher handles the signal; another VM looks at its own pace.
        if self._session is not None and self._watching and not self.options.vm:
            self._session.nudge()

    def slot(self):
        """What runs: its partition or folder, and whether it is confirmed: `{"label", "state"}`.

        The state is a text of `bootloader.STATES`, empty when nothing is written about it."""
        if self._folder:
            state = app_record.state(Filesystem(self._chip), self._folder)
            return {"label": self._folder, "state": state}
        if self._slot is None:
            return {"label": None, "state": ""}
        return {"label": self._slot, "state": bootloader.state(self._chip, self._slot)}

    def counters(self):
        """Flash operations and bytes lost on the UART since the supervisor's start, boots, and
        the heap that the stand-ins hold (bytes)."""
        get = self.registers.get
        return {
            "flash_programs": get("flash_programs"),
            "flash_erases": get("flash_erases"),
            "uart_dropped": self.wire.dropped,
            "uart_lost": self.wire.lost,
            "boots": self.boots,
            "heap_standins": get("standin_heap"),
        }
