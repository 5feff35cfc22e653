"""Run the local cloud as a process of its own, for tests and tools."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tools.cloud.control import Control, info

_ROOT = Path(__file__).resolve().parents[2]


class CloudProcess:
    """`with CloudProcess(state) as cloud:` gives a cloud that is ready, on free ports.

    Its log goes to `cloud.log` in the folder. A `restart()` keeps the ports.
    """

    def __init__(self, state: Path, *arguments: str):
        """`arguments`: further options of `python -m tools.cloud`."""
        self.state = Path(state)
        self._arguments = arguments
        self._ports: tuple[int, int] = (0, 0)
        self._process: subprocess.Popen | None = None
        self._control: Control | None = None

    def __enter__(self) -> CloudProcess:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self, timeout: float = 30.0) -> None:
        """Start and wait for `ready`; RuntimeError with the log's end when it does not come."""
        self.state.mkdir(parents=True, exist_ok=True)
        ports = ["--port", str(self._ports[0]), "--http-port", str(self._ports[1])]
        command = [sys.executable, "-m", "tools.cloud", "--state", str(self.state.absolute())]
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [*command, *ports, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=_ROOT,
            )
        if self._first_line(timeout) != b"ready\n":
            self.kill()
            raise RuntimeError(f"the cloud did not start:\n{self.log()[-2000:]}")
        self.info = info(self.state)
        self._ports = (self.info["mqtt"], self.info["http"])

    def _first_line(self, timeout: float) -> bytes:
        lines: queue.Queue[bytes] = queue.Queue()
        reader = self._process.stdout.readline
        threading.Thread(target=lambda: lines.put(reader()), daemon=True).start()
        try:
            return lines.get(timeout=timeout)
        except queue.Empty:
            return b""

    @property
    def log_path(self) -> Path:
        """The file that takes the cloud's stderr."""
        return self.state / "cloud.log"

    def log(self) -> str:
        """The log so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def mqtt(self) -> int:
        """The MQTT port."""
        return self.info["mqtt"]

    @property
    def http(self) -> int:
        """The HTTPS port."""
        return self.info["http"]

    @property
    def sntp(self) -> int:
        """The SNTP port (UDP)."""
        return self.info["sntp"]

    @property
    def control(self) -> Control:
        """A control connection, opened at first use."""
        if self._control is None:
            self._control = Control(self.state)
        return self._control

    def _drop_control(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def stop(self, timeout: float = 10.0) -> int | None:
        """End it (SIGTERM); returns the exit code, None when it did not run."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> int | None:
        """End it at once (SIGKILL): every connection breaks, nothing is said."""
        return self._end(signal.SIGKILL, 10.0)

    def restart(self) -> None:
        """Stop and start on the same folder and ports."""
        self.stop()
        self.start()

    def _end(self, number: int, timeout: float) -> int | None:
        self._drop_control()
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(number)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
        return code
