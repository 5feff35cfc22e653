"""The air between the board's Bluetooth and the centrals on this PC: a Unix socket.

A central is one connection to the socket `bluetooth` in the state folder. It sends one JSON object
a line, and gets one for each, and others when the board notifies or disconnects:

    {"do":"scan"}                                -> {"advertising":[data, response, connectable]}
    {"do":"connect"}                             -> {"connected":handle} or {"error":"no answer"}
    {"do":"mtu","mtu":247}                       -> {"mtu":247}
    {"do":"discover"}                            -> {"services":[[handle, service, UUID, flags],…]}
    {"do":"read","handle":15}                    -> {"value":"hex"}
    {"do":"write","handle":15,"parts":["hex",…]} -> {"written":true}
    {"do":"disconnect"}                          -> {"disconnected":true}
    of its own accord: {"handle":18,"notified":"hex"}, {"disconnected":true}

It works in the board's thread.
"""

import contextlib
import itertools
import json
import os
import selectors
import socket
import tempfile

_LONGEST_PATH = 100
_LONGEST_LINE = 8192
NAME = "bluetooth"


class Radio:
    """folder: the board's state. selector: of the board's loop. send: function that hands a
    message (a dict) to the VM; it returns whether the VM took it. `on`: the board's radio is."""

    def __init__(self, folder, selector, send):
        self._selector = selector
        self._send = send
        self.on = False
        self._advertising = None
        self._centrals = {}
        self._numbers = itertools.count(1)
        self._listener = socket.socket(socket.AF_UNIX)
        self._path = os.path.abspath(folder / NAME)
        self._short = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._bind()
        self._listener.listen(8)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _bind(self):
        if len(os.fsencode(self._path)) <= _LONGEST_PATH:
            self._listener.bind(self._path)
            return
        # A name longer than a socket address may be a link to a short one.
        self._short = tempfile.mkdtemp(prefix="sim-")
        self._listener.bind(os.path.join(self._short, NAME))
        os.symlink(os.path.join(self._short, NAME), self._path)

    def close(self):
        """Let go of the centrals and remove the socket."""
        for number in list(self._centrals):
            self._gone(number)
        self._selector.unregister(self._listener)
        self._listener.close()
        names = [self._path] + ([os.path.join(self._short, NAME)] if self._short else [])
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        if self._short:
            os.rmdir(self._short)

    def _accept(self):
        with contextlib.suppress(BlockingIOError):
            client, _ = self._listener.accept()
            # Little is ever under way; a central that does not read is let go.
            client.settimeout(1)
            number = next(self._numbers)
            self._centrals[number] = [client, b""]
            self._selector.register(client, selectors.EVENT_READ, lambda: self._read(number))

    def _read(self, number):
        client, rest = self._centrals[number]
        try:
            data = client.recv(65536)
        except OSError:
            data = b""
        lines = (rest + data).split(b"\n")
        if not data or len(lines[-1]) > _LONGEST_LINE:
            self._gone(number)
            return
        self._centrals[number][1] = lines.pop()
        for line in lines:
            if number in self._centrals:
                self._serve(number, line)

    def _serve(self, number, line):
        try:
            order = json.loads(line)
            what = order["do"]
        except (ValueError, TypeError, KeyError):
            self._tell(number, {"error": "no order"})
            return
        if what == "scan":
            self._tell(number, {"advertising": self._advertising})
            return
        if not self.on or not self._send({**order, "central": number}):
            self._tell(number, {"error": "no answer"})
        elif what == "disconnect":
            self._tell(number, {"disconnected": True})

    def _tell(self, number, message):
        client = self._centrals[number][0]
        try:
            client.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            # Its end is read like any other: an event of this socket may be waiting already.
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _gone(self, number):
        client, _ = self._centrals.pop(number)
        self._selector.unregister(client)
        client.close()
        if self.on:
            self._send({"do": "disconnect", "central": number})

    def heard(self, message):
        """What the VM says: of itself, or to a central."""
        if "on" in message:
            self.silence()
            self.on = message["on"]
            return
        if "advertising" in message:
            self._advertising = message["advertising"]
            return
        number = message.pop("central")
        if number in self._centrals:
            self._tell(number, message)

    def silence(self):
        """The board's radio is off: power, reset, sleep."""
        self.on = False
        self._advertising = None
        for number in list(self._centrals):
            self._tell(number, {"disconnected": True})
