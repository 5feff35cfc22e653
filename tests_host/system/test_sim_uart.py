"""The virtual UART: bounded buffers, pacing, and a terminal that is always there."""

import os
import termios
import time

import pytest

from tests_host.system.sim_apps import Remote


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with Remote(tmp_path_factory.mktemp("uart")) as remote:
        yield remote


@pytest.fixture(scope="module")
def paced(tmp_path_factory):
    with Remote(tmp_path_factory.mktemp("paced"), "--baud", "19200") as remote:
        yield remote


def test_every_byte_passes_both_ways(board):
    every = bytes(b for b in range(256) if b != 10)
    board.write(b"len(uart.read(255)), uart.write(bytes(range(256)))\n")
    # The line is read by then; what follows is for uart.read.
    assert board.read_line().startswith(b"!TypeError")
    board.write(b"time.sleep_ms(100), uart.read(255), uart.write(bytes(range(256)))\n" + every)
    assert board.read_line() == bytes(range(10))
    rest = board.read_line()
    assert rest.startswith(bytes(range(11, 256)))
    assert repr(every).encode()[:20] in rest


def test_receive_overflow_drops_what_does_not_fit(board):
    before = board.get("counters")["uart_dropped"]
    board.write(b"x = time.sleep_ms(400) or uart.any(), uart.read()\n")
    time.sleep(0.1)
    board.write(b"0123456789" * 200)
    assert board.read_line() == b"None"
    assert board.value("x[0]") == 1024
    assert board.value("x[1]") == (b"0123456789" * 200)[:1024]
    assert board.get("counters")["uart_dropped"] - before == 2000 - 1024


def test_any_init_empties_the_receive_buffer(board):
    board.write(b"x = time.sleep_ms(200), uart.any(), uart.init(115200), uart.any()\n")
    time.sleep(0.1)
    board.write(b"forgotten")
    assert board.read_line() == b"None"
    assert board.value("x") == (None, 9, None, 0)


def test_a_host_that_does_not_read_blocks_the_writer(board):
    board.write(b"uart.write(b'z' * 300000 + b'\\n'), time.ticks_ms()\n")
    time.sleep(0.3)
    pid = int(board.get("counters")["boots"])
    assert pid == 1
    # Nothing is lost: the writer waits.
    assert board.read_line() == b"z" * 300000
    assert board.read_line().startswith(b"(300001,")


def test_reading_without_data_gives_none_and_times_out(board):
    assert board.value("uart.read(), uart.readline(), uart.readinto(bytearray(4))") == (None,) * 3
    board.run("uart.init(115200, timeout=150, timeout_char=150)")
    board.run("t = time.ticks_ms(); x = uart.read(4)")
    assert board.value("x is None and 100 < time.ticks_diff(time.ticks_ms(), t)")
    board.write(b"x = uart.read(6)\nab")
    time.sleep(0.03)
    board.write(b"cd")
    assert board.read_line() == b"None"
    assert board.value("x") == b"abcd"
    board.run("uart.init(115200, timeout=0, timeout_char=0)")


def test_the_terminal_stays_raw_and_open_over_hosts_and_boots(board):
    def settings():
        fd = os.open(board.link, os.O_RDWR | os.O_NOCTTY)
        try:
            return termios.tcgetattr(fd)
        finally:
            os.close(fd)

    before = settings()
    assert not before[3] & (termios.ECHO | termios.ICANON)
    board.reboot("machine.reset()")
    board.power_cut()
    board.power_on()
    assert settings() == before
    assert board.run("'still'") == "'still'"


def test_a_uart_on_other_pins_reaches_nobody(board):
    board.run("other = machine.UART(2, 9600, tx=4, rx=5)")
    assert board.value("other.write(b'hello'), other.any(), other.read()") == (5, 0, None)
    assert "the host is wired to UART(1, tx=17, rx=16)" in board.get("console")


def test_unknown_keywords_and_uarts_are_refused(board):
    assert board.run("machine.UART(1, 115200, buffers=4)").startswith("!TypeError")
    assert board.run("machine.UART(0)").startswith("!ValueError")
    assert board.run("machine.UART(1, rxbuf=70000)").startswith("!ValueError")
    board.reboot("machine.reset()")


def test_a_paced_line_takes_its_time_both_ways(paced):
    # 19,200 baud are 1,920 bytes a second.
    started = time.monotonic()
    assert paced.run("'" + "x" * 480 + "'") == "'" + "x" * 480 + "'"
    took = time.monotonic() - started
    ideal = (483 + 483) / 1920
    assert ideal * 0.95 < took < ideal * 1.3 + 0.05


def test_a_paced_write_returns_when_the_rest_fits_the_transmit_buffer(paced):
    line = "t = time.ticks_ms(); uart.write(b'y' * 2999 + b'\\n')"
    line += "; a = time.ticks_diff(time.ticks_ms(), t); uart.flush()"
    line += "; b = time.ticks_diff(time.ticks_ms(), t)"
    paced.write(line.encode() + b"\n")
    assert len(paced.read_line()) == 2999
    assert paced.read_line() == b"None"
    # 3,000 bytes take 1.56 s; the call keeps waiting until 1,024 + 128 are left, 0.96 s.
    first, flushed = paced.value("(a, b)")
    assert 850 < first < 1250
    assert 1450 < flushed < 1900
    assert paced.value("uart.txdone()") in (True, False)
