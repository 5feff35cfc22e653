"""The virtual board: power, reset, sleep, watchdog and the VM that is its processor.

One thread, the caller of `Board.run`, does all of it; others hand it work with `Board.call`.
"""

import collections
import contextlib
import json
import os
import queue
import selectors
import threading
import time

from tools.sim import bootloader, espimage, flash, manufacture, process, romfs, uart
from tools.sim.access_points import AccessPoints
from tools.sim.device import sim_layout as layout
from tools.sim.registers import Registers
from tools.sim.watchdog import Watchdog

# machine.reset_cause() on ESP32.
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
_CONSOLE_LIMIT = 1 << 20
# A waiting poll() in the VM is woken this long after an interrupt was put into its pipe.
_NUDGES_S = (0.0, 0.002, 0.01)


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
    """options: an Options; announce: called with each line for the user; chip: the flash."""

    def __init__(self, options, announce):
        self.options = options
        self._announce = announce
        self._made = json.loads((options.state / "board.json").read_text())
        self.row = manufacture.board_row(self._made["board"])
        self.uid = self._made["uid"]
        self._chip = flash.Flash(options.state / "flash.bin")
        self.registers = Registers(options.state / "registers.bin")
        self.registers.reset()
        self.registers.release_pins()
        self.registers.put("uart_paced", options.baud)
        self.registers.put("slow", options.slow)
        self._power_gone()
        self.access_points = AccessPoints(
            str(options.state / "aps.json"), self.registers, options.access_points
        )
        self.wire = uart.Wire(self.registers, options.baud)
        self.state = OFF
        self.boots = 0
        self._been_ready = False
        self._vm = process.Vm(options, self._made, self.row, flash.TABLE)
        self._watchdog = Watchdog(self.registers, self.wire)
        self._process = None
        self._reset_low = False
        self._slot = None
        self._pending = Pending()
        self._pending.finish()
        self._deadlines = {}
        self._sources = []
        self._watching = False
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)
        self._selector.register(self._bell, selectors.EVENT_READ, self._obey)
        self._orders = queue.SimpleQueue()
        self._stopping = None
        self._lines = collections.deque(maxlen=200)
        self._console = open(options.state / "console.log", "ab")  # noqa: SIM115
        self.repl = None

    # The loop.

    def run(self):
        """Run until `stop`; returns None, or the sentence that says why it had to end."""
        try:
            self._measure()
            self._obey()
            while self._stopping is None:
                for key, _ in self._selector.select(self._until_next()):
                    # An earlier one of this round may have ended the VM and its descriptors.
                    if key.fileobj in self._selector.get_map():
                        key.data()
                self._tick()
        finally:
            self._end_vm()
            self._pending.finish("the virtual module ended")
            self._announce_nothing_more()
        return self._stopping or None

    def _announce_nothing_more(self):
        self.wire.close()
        self._console.close()
        self._chip.close()

    def watch(self, fd, events, work):
        """Have `work` called in the board's thread when `fd` is ready."""
        self._selector.register(fd, events, work)

    def first_power(self):
        """Have the board powered as soon as `run` is entered."""
        self._orders.put((self.power_on, (), queue.SimpleQueue()))

    def call(self, work, *arguments):
        """Run `work` in the board's thread; returns its value or raises its exception."""
        answer = queue.SimpleQueue()
        self._orders.put((work, arguments, answer))
        os.write(self._ring, b"!")
        value, error = answer.get()
        if error is not None:
            raise error
        return value

    def stop(self, reason=""):
        """End `run`; usable from a signal handler. reason: an error, or nothing."""
        self._stopping = self._stopping or reason
        os.write(self._ring, b"!")

    def _obey(self):
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell, 64)
        while not self._orders.empty():
            work, arguments, answer = self._orders.get()
            try:
                answer.put((work(*arguments), None))
            except Exception as error:  # noqa: BLE001 - it is raised again by `call`
                answer.put((None, error))

    def _until_next(self):
        wait = [when - time.monotonic() for when in self._deadlines.values()]
        wait += [self._watchdog.interval()] if self._process else []
        wait = [w for w in wait if w is not None]
        return max(0.0, min(wait)) if wait else None

    def _tick(self):
        now = time.monotonic()
        for name, when in list(self._deadlines.items()):
            if when <= now and self._deadlines.get(name) == when:
                del self._deadlines[name]
                self._due(name)
        if self._process and self._watchdog.expired():
            self._announce("watchdog: reset")
            self._boot(WDT_RESET)

    def _due(self, name):
        if name == "boot":
            self._boot_failed(f"no STARTUP within {_BOOT_LIMIT_S} s")
        elif name == "wake":
            self._wake(TIMER_WAKE)
        else:
            self._nudge()

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
            self._end_vm()
            self._move(OFF)
            self._power_gone()
            self._deadlines.clear()
            self._finish("the power was cut")

    def _power_gone(self):
        # The RTC is supplied by the same pin: it begins again in the year 2000.
        self.registers.put("flash_fail_after", 0)
        self.registers.put("clock_offset_us", -(time.time_ns() // 1000))
        (self.options.state / "rtc.bin").unlink(missing_ok=True)

    def _set_reset(self, level):
        self._reset_low = not level
        if self.state == OFF:
            return
        if not level and self.state != HELD:
            self._end_vm()
            self._deadlines.clear()
            self._finish("RESET is held low")
            self._move(HELD)
            # RESET is the chip's EN pin: held low, everything but the flash forgets.
            fail_after = self.registers.get("flash_fail_after")
            self._power_gone()
            self.registers.put("flash_fail_after", fail_after)
        elif level and self.state == HELD:
            self._boot(PWRON_RESET)

    # Boot.

    def _choose(self, cause):
        # The bootloader's part; a wake or a soft reset keeps the slot without another look.
        name = self.row["chip"]
        if cause in (DEEPSLEEP_RESET, SOFT_RESET) and self._slot:
            return self._slot, bootloader.load(self._chip, self._slot, name)
        return bootloader.select(self._chip, name)

    def _boot(self, cause, wake_reason=0, run_main=True):
        self._end_vm()
        if self._pending.done.is_set():
            # A board that resets again and again before STARTUP gets no new deadline.
            self._pending = Pending()
            self._deadlines["boot"] = time.monotonic() + _BOOT_LIMIT_S
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
        what = f"{self._slot}, {len(data)} bytes" if rom else "source tree"
        if not self.options.blank and not self.options.stock:
            self._announce(f"running {what}")
        self._start(process.Boot(cause, wake_reason, self._slot, rom, run_main))

    def _start(self, boot):
        self._channel = uart.Channel()
        self._bus, bus = os.pipe()
        irq, self._irq = os.pipe()
        os.set_blocking(self._irq, False)
        os.set_blocking(self._bus, False)
        stdin, stdout = self._open_console()
        self._process = self._vm.start(boot, self._channel, bus, irq, stdin, stdout)
        os.close(bus)
        os.close(irq)
        self._close_child_console(stdin, stdout)
        self._rest = b""
        self._selector.register(self._bus, selectors.EVENT_READ, self._read_bus)
        self._selector.register(self._output, selectors.EVENT_READ, self._read_console)
        self._watching = False
        self._watchdog.start()
        self.wire.attach(self._channel)

    def _open_console(self):
        if self.repl is not None:
            self._output, child = self.repl.open()
            return child, child
        self._output, child = os.pipe()
        os.set_blocking(self._output, False)
        return os.open(os.devnull, os.O_RDONLY), child

    def _close_child_console(self, stdin, stdout):
        for fd in {stdin, stdout}:
            os.close(fd)

    def _end_vm(self):
        if self._process is None:
            return
        process.end(self._process)
        self._process = None
        self.wire.attach(None)
        self._read_console()
        if self.repl is not None:
            self.repl.close()
        for fd in (self._bus, self._output):
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
            os.close(fd)
        os.close(self._irq)
        self._channel.close()
        self.registers.reset()
        for i in range(len(_NUDGES_S)):
            self._deadlines.pop(f"nudge{i}", None)

    def _finish(self, error=None):
        self._deadlines.pop("boot", None)
        self._pending.finish(error)

    def _measure(self):
        # How much of the heap the stand-ins take; with --heap that is added, as C takes none.
        if self.options.heap is None:
            return
        boot = process.Boot(PWRON_RESET, 0, "ota_0", None, measure=True)
        self._start(boot)
        code = self._process.wait(_BOOT_LIMIT_S)
        self._read_console()
        standins = self.registers.get("standin_heap")
        self._end_vm()
        if code or not standins:
            raise BoardError("the stand-ins do not start:\n" + self.console_tail())
        self._vm.set_heap(standins)

    def _boot_failed(self, text):
        error = f"{text}; the console's last lines:\n{self.console_tail()}"
        self._finish(error)
        if not self._been_ready:
            self.stop(error)
        else:
            self._announce("error: " + text)

    def _ready(self):
        if self.state == BOOTING:
            self._move(RUNNING)
            self._been_ready = True
            self._announce("ready")
            self._finish()

    # What the VM says.

    def _read_bus(self):
        try:
            data = os.read(self._bus, 65536)
        except BlockingIOError:
            return
        if not data:
            self._vm_ended()
            return
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        speaker = self._process
        for line in lines:
            self._message(json.loads(line))
            if self._process is not speaker:
                # The message ended this VM; what it said afterwards is of no use.
                return

    def _message(self, message):
        if "pin" in message:
            if message["pin"] == self.row["event"] and message["level"]:
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
        elif "watching" in message:
            self._watching = True
        elif "repl" in message:
            self._at_repl()

    def _at_repl(self):
        if self.options.blank or self.options.repl is not None:
            self._ready()
            if self.repl is not None:
                self.repl.at_prompt()
        elif self.state == BOOTING:
            self._boot_failed("main.py ended before STARTUP")
        else:
            self._announce("main.py ended; the board is at its REPL")

    def _vm_ended(self):
        code = self._process.wait()
        if self.repl is not None and code == 0:
            # Ctrl-D at the REPL is a soft reset.
            raw = self.repl.soft_reset()
            self._boot(SOFT_RESET, run_main=not raw)
            return
        self._end_vm()
        self._move(STUCK)
        self._finish(f"the VM ended with code {code}")
        self.stop(f"the VM ended with code {code}; its last lines:\n{self.console_tail()}")

    def _read_console(self):
        while True:
            try:
                data = os.read(self._output, 65536)
            except (BlockingIOError, OSError):
                return
            if not data:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(self._output)
                return
            self._keep_console(data)
            if self.repl is not None:
                self.repl.show(data)

    def _keep_console(self, data):
        if self._console.tell() > _CONSOLE_LIMIT:
            self._console.close()
            path = self.options.state / "console.log"
            os.replace(path, path.with_suffix(".log.1"))
            self._console = open(path, "ab")  # noqa: SIM115
        self._console.write(data)
        self._console.flush()
        if self.options.verbose:
            os.write(2, data)
        text = data.decode(errors="replace").replace("\r", "")
        if self._lines:
            text = self._lines.pop() + text
        self._lines.extend(text.split("\n"))

    def console_tail(self, count=15):
        """The last lines that the VM wrote on its console."""
        lines = [line for line in self._lines if line]
        return "\n".join(lines[-count:]) or "(nothing)"

    # Sleep and pins.

    def _sleep(self, ms, sources):
        # A pull of a pin that may wake the chip is the RTC's, and stays.
        pulls = {pin: self.registers.get_pin(layout.PIN_PULL, pin) for s in sources for pin in s[1]}
        self._end_vm()
        for pin, pull in pulls.items():
            self.registers.put_pin(layout.PIN_PULL, pin, pull)
        self._move(ASLEEP)
        self._sources = sources
        if ms is not None:
            self._deadlines["wake"] = time.monotonic() + ms / 1000
        self._finish("the board went to deep sleep before STARTUP")
        self._announce("deep sleep")
        self._look_at_wake_pins()

    def _look_at_wake_pins(self):
        for reason, pins, level, all_of_them in self._sources:
            hits = [self._input(pin) == level for pin in pins]
            if all(hits) if all_of_them else any(hits):
                self._wake(reason)
                return

    def _wake(self, reason):
        self._sources = []
        self._deadlines.pop("wake", None)
        self._boot(DEEPSLEEP_RESET, reason)

    def _input(self, pin):
        driven = self.registers.get_pin(layout.PIN_DRIVEN, pin)
        if driven != layout.FLOATING:
            return driven
        return 1 if self.registers.get_pin(layout.PIN_PULL, pin) == layout.PULL_UP else 0

    def pin_number(self, name):
        """The number of an input: `WAKE` or `GPIO<n>`. Raises BoardError."""
        if name == "WAKE":
            return self.row["wake"]
        if name == "EVENT":
            raise BoardError("EVENT is an output of the module")
        if name.startswith("GPIO") and name[4:].isdigit() and int(name[4:]) < layout.PINS:
            return int(name[4:])
        raise BoardError(f"no pin is called {name!r}; known: RESET, WAKE, GPIO<n>")

    def set_pin(self, name, level):
        """Drive RESET or an input; level 0, 1, or None to let go of it."""
        if name == "RESET":
            self._set_reset(1 if level is None else level)
            return
        pin = self.pin_number(name)
        before = self._input(pin)
        driven = layout.FLOATING if level is None else level
        self.registers.put_pin(layout.PIN_DRIVEN, pin, driven)
        after = self._input(pin)
        if self.state == ASLEEP:
            self._look_at_wake_pins()
        elif before != after and self._process is not None and self._watching:
            with contextlib.suppress(BlockingIOError):
                os.write(self._irq, bytes([pin | (after << 6)]))
            for i, delay in enumerate(_NUDGES_S):
                self._deadlines[f"nudge{i}"] = time.monotonic() + delay

    def _nudge(self):
        # Only the wheel's launcher handles the signal; another VM looks at its own pace.
        if self._process is not None and self._watching and not self.options.vm:
            self._process.send_signal(process.WAKE_SIGNAL)

    def event(self):
        """The level of the EVENT pin."""
        return self.registers.output(self.row["event"])

    def counters(self):
        """Flash operations since the last start of the supervisor, and bytes lost on the UART."""
        get = self.registers.get
        return {
            "flash_programs": get("flash_programs"),
            "flash_erases": get("flash_erases"),
            "uart_dropped": self.wire.dropped,
            "uart_lost": self.wire.lost,
            "boots": self.boots,
            "heap_standins": get("standin_heap"),
        }
