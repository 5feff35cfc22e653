"""`make sim`: the console with a pipe and with a terminal in front of it."""

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tools.fleet import image_make
from tools.sim import bootloader, flash, romfs

COMMAND = [sys.executable, "-m", "tools.sim.console"]


def processes_on(folder):
    """Command lines of the processes that work on `folder`."""
    found = subprocess.run(
        ["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
    )
    return [line for line in found.stdout.splitlines() if str(folder) in line]


def test_lines_from_a_pipe_are_answered_in_order(tmp_path):
    done = subprocess.run(
        [*COMMAND, "--state", tmp_path / "s", "--port", "0", "--http-port", "0"],
        input="AT\nAT+EVENT?\nAT+NOSUCH\nnoise\nAT\n",
        cwd=romfs.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout[done.stdout.index("> AT") :].splitlines()
    plain = [line for line in said if not line.startswith("[EVENT")]
    assert plain[:4] == ["> AT", "OK", "> AT+EVENT?", "OK 2 0 STARTUP"]
    assert plain[4] == "> AT+NOSUCH"
    assert plain[5].startswith("ERR3 ")
    assert plain[6:] == ["> noise", "> AT", "OK"]
    assert "[EVENT pin high]" in done.stdout[: done.stdout.index("> AT")]
    assert "[EVENT pin low]" in said
    assert "mosquitto_sub -h localhost -p " in done.stdout
    assert not processes_on(tmp_path)


def test_a_certificate_can_be_piped(tmp_path):
    pem = (romfs.ROOT / "tools" / "flash" / "amazon_roots.pem").read_text()
    first = pem[: pem.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    done = subprocess.run(
        [*COMMAND, "--state", tmp_path / "s", "--port", "0", "--http-port", "0"],
        input="AT+CONF Certificate=pem\nAT+CONF HOTAcertificate=pem\n"
        + first
        + "AT+CONF? HOTAcertificate pem\nAT+STAT?\n",
        cwd=romfs.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout[done.stdout.index("> AT+CONF") :]
    assert said.startswith("> AT+CONF Certificate=pem\nERR12 KEY READONLY\n> AT+CONF HOTA")
    assert "> -----END CERTIFICATE-----\nOK\n> AT+CONF? HOTAcertificate pem\nOK pem\n" in said
    assert said.count(first[first.index("-----BEGIN") :].splitlines()[5]) == 2


def test_it_tells_when_another_version_runs(tmp_path):
    with subprocess.Popen(
        [*COMMAND, "--state", tmp_path / "s", "--port", "0", "--http-port", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=romfs.ROOT,
        text=True,
    ) as console:
        limit = threading.Timer(60, console.kill)
        limit.start()
        try:
            said = until(console, "[EVENT pin high]")
            assert "virtual module: running source tree" in said
            console.stdin.write("AT+EVENT?\n")
            console.stdin.flush()
            until(console, "[EVENT pin low]")
            choose_new_version(tmp_path / "s" / "module" / "flash.bin")
            console.stdin.write("AT+RESET\n")
            console.stdin.flush()
            until(console, "[running ota_1, ", "[EVENT pin high]")
            console.stdin.write("AT+CONF? Version\n")
            console.stdin.flush()
            until(console, "OK 7.8.9")
        finally:
            limit.cancel()
            console.terminate()


def until(console, *texts):
    """What the console says until there was a line that begins with each of `texts`."""
    said = ""
    missing = set(texts)
    for line in console.stdout:
        said += line
        missing -= {text for text in missing if line.startswith(text)}
        if not missing:
            return said
    raise AssertionError(said)


def choose_new_version(path):
    """What an update leaves in the flash: version 7.8.9 in ota_1, to be tried once."""
    chip = flash.Flash(path)
    chip.write("ota_1", image_make.slot(image_make.Labels(version="7.8.9"), "esp32")[256:])
    record = bootloader.Record(2, b"\xff" * 20, bootloader.NEW, bootloader.seq_crc(2))
    chip.write("otadata", record.pack())
    chip.close()


def test_a_taken_port_is_an_error_of_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--state", tmp_path / "s", "--port", port, "--http-port", "0"],
            stdin=subprocess.DEVNULL,
            cwd=romfs.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr
    assert not processes_on(tmp_path)


class Typist:
    """Somebody at a terminal."""

    def __init__(self, folder):
        master, slave = pty.openpty()
        self._master = master
        self.process = subprocess.Popen(
            [*COMMAND, "--state", folder, "--port", "0", "--http-port", "0"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=romfs.ROOT,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(slave)
        self.screen = ""

    def type(self, text):
        os.write(self._master, text.encode())

    def see(self, text, timeout=30):
        end = time.monotonic() + timeout
        while text not in self.screen:
            left = end - time.monotonic()
            assert left > 0, self.screen
            if select.select([self._master], [], [], left)[0]:
                try:
                    self.screen += os.read(self._master, 4096).decode()
                except OSError:
                    pytest.fail("the console ended:\n" + self.screen)
        self.screen = self.screen.split(text, 1)[1]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def typist(tmp_path):
    made = Typist(tmp_path / "s")
    yield made
    made.close()


def test_a_terminal_shows_replies_and_has_a_history(typist, tmp_path):
    typist.see("[EVENT pin high]")
    typist.type("AT+EVENT?\r")
    typist.see("OK 2 0 STARTUP")
    typist.see("[EVENT pin low]")
    # Arrow up brings the line back.
    typist.type("\x1b[A\r")
    typist.see("OK")
    typist.type("\x04")
    assert typist.process.wait(20) == 0
    assert not processes_on(tmp_path)


def test_ctrl_c_ends_everything(typist, tmp_path):
    typist.see("[EVENT pin high]")
    typist.process.send_signal(signal.SIGINT)
    assert typist.process.wait(20) == 0
    assert not processes_on(tmp_path)
