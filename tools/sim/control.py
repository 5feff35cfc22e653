"""The control socket: one JSON object a line, one answer each.

| command | answer |
|---|---|
| `{"get":"EVENT"}` | `{"EVENT":1}`, the pin's level |
| `{"get":"state"}` | off, held in reset, booting, running, in deep sleep, stuck |
| `{"get":"slot"}` | what runs: `{"slot":{"label":"ota_1","state":"pending verify"}}` |
| `{"get":"counters"}` | flash operations, bytes lost, boots (`Board.counters`) |
| `{"get":"console"}` | the console's last lines; also `uart`, `cpu_hz`, `uid` |
| `{"pin":"RESET","level":0}` | `{"ok":true}`, as all below; `WAKE`, `GPIO<n>`; null lets go |
| `{"wifi":{"ssid":"sim-ap","up":false}}` | also `rssi`, `passphrase` |
| `{"power":"cut"}` | the VM dies at once |
| `{"power":"on"}` | answers when STARTUP is queued |
| `{"flash":{"fail_after":N}}` | the power dies at the n-th flash operation from now |

The label is a partition's or, on a stock board, `/app/a` or `/app/b`. The state is `new`,
`pending verify`, `valid`, `invalid`, `aborted`, or empty when nothing is written about it.

What cannot be done is answered `{"error":"…"}`.
"""

import contextlib
import json
import os
import socket
import tempfile
import threading

from tools.sim.board import BoardError

_LONGEST_PATH = 100
_LONGEST_LINE = 65536
_BOOT_WAIT_S = 60


class Control:
    """Serves `board` on the Unix socket `path` until `close`, one thread a client."""

    def __init__(self, board, path):
        self._board = board
        self.path = path
        self._folder = None
        self._socket = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._bind(os.path.abspath(path))
        self._socket.listen(8)
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def _bind(self, path):
        if len(os.fsencode(path)) <= _LONGEST_PATH:
            self._socket.bind(path)
            return
        # A name longer than a socket address may be a link to a short one.
        self._folder = tempfile.mkdtemp(prefix="sim-")
        short = os.path.join(self._folder, "control")
        self._socket.bind(short)
        os.symlink(short, path)

    def close(self):
        """Remove the socket. Clients are left to see the end of the process."""
        self._socket.close()
        for name in [
            self.path,
            *([os.path.join(self._folder, "control")] if self._folder else []),
        ]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        if self._folder:
            os.rmdir(self._folder)

    def _accept(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, client.makefile("rwb") as stream:
            while True:
                try:
                    line = stream.readline(_LONGEST_LINE)
                    if not line:
                        return
                    stream.write(json.dumps(self.answer(line)).encode() + b"\n")
                    stream.flush()
                except OSError:
                    # The client went away in the middle; nobody is left to be told.
                    return

    def answer(self, line):
        """The answer to one line of bytes, as a dict."""
        try:
            order = json.loads(line)
        except ValueError:
            return {"error": "not JSON"}
        if not isinstance(order, dict) or not order:
            return {"error": "not a JSON object with a command"}
        try:
            return self._do(order)
        except (BoardError, ValueError) as error:
            return {"error": str(error)}

    def _do(self, order):
        keys = set(order)
        if keys == {"get"}:
            return {order["get"]: self._get(order["get"])}
        if keys == {"pin", "level"}:
            self._pin(order["pin"], order["level"])
        elif keys == {"wifi"}:
            self._wifi(order["wifi"])
        elif keys == {"power"}:
            self._power(order["power"])
        elif keys == {"flash"}:
            self._flash(order["flash"])
        else:
            known = '"get"; "pin" and "level"; "wifi"; "power"; "flash"'
            raise ValueError(f"unknown command with {', '.join(sorted(keys))}; known: {known}")
        return {"ok": True}

    def _get(self, name):
        board = self._board
        if name == "EVENT":
            return board.pins.event()
        if name == "state":
            return board.state
        if name == "counters":
            return board.counters()
        if name == "console":
            return board.console_tail(200)
        if name == "uart":
            return board.wire.path
        if name == "cpu_hz":
            return board.registers.get("cpu_hz")
        if name == "uid":
            return board.uid
        if name == "slot":
            return board.call(board.slot)
        known = "EVENT, state, slot, counters, console, uart, cpu_hz, uid"
        raise ValueError(f"nothing is called {name!r}; known: {known}")

    def _pin(self, name, level):
        if not isinstance(name, str):
            raise ValueError("a pin has a name")
        if level not in (0, 1, None) or isinstance(level, bool):
            raise ValueError("a level is 0, 1, or null to let go of the pin")
        self._board.call(self._board.set_pin, name, level)

    def _wifi(self, change):
        if not isinstance(change, dict):
            raise ValueError("wifi takes an object with the ssid and what is to change")
        self._board.call(self._board.access_points.change, change)

    def _power(self, what):
        board = self._board
        if what == "cut":
            board.call(board.power_cut)
        elif what == "on":
            pending = board.call(board.power_on)
            if not pending.done.wait(_BOOT_WAIT_S):
                raise BoardError("no STARTUP")
            if pending.error:
                raise BoardError(pending.error)
        else:
            raise ValueError('power is "cut" or "on"')

    def _flash(self, what):
        count = what.get("fail_after") if isinstance(what, dict) and len(what) == 1 else None
        if type(count) is not int or not 0 <= count < 1 << 32:
            raise ValueError("flash takes {fail_after: N}: operations left, 0 for no limit")
        self._board.registers.put("flash_fail_after", count)
