"""Stands for MicroPython's `socket` module on ESP32, over the PC's loopback interface.

Without a link no packet passes: a read finds nothing, a write finds no room, connect() is told
that the host is unreachable. Only this PC can be reached.

A socket that is bound to a port below 1024, and what it accepts, belongs to the own access point;
the port is moved to one that needs no privilege, and closed when the access point goes. All other
sockets need the station.
"""

import errno as _errno
import io as _io
import sys as _sys

import select as _select
import sim_wifi as _wifi
from sim_host import (
    builtin_time as _time,
    config as _config,
    load as _load,
    registers as _registers,
    send as _send,
)

_path = _sys.path
_sys.path = ()
import socket as _socket

_sys.path = _path

AF_INET = 2
AF_INET6 = 10
SOCK_STREAM = 1
SOCK_DGRAM = 2
SOCK_RAW = 3
IPPROTO_IP = 0
IPPROTO_TCP = 6
IPPROTO_UDP = 17
SOL_SOCKET = 0xFFF
SO_REUSEADDR = 4
SO_BROADCAST = 32
IP_ADD_MEMBERSHIP = 3
TCP_NODELAY = 1
MSG_PEEK = 1
MSG_DONTWAIT = 8

# lwIP's numbers -> this PC's.
_OPTIONS = {
    (SOL_SOCKET, SO_REUSEADDR): (_socket.SOL_SOCKET, _socket.SO_REUSEADDR),
    (SOL_SOCKET, SO_BROADCAST): (_socket.SOL_SOCKET, _socket.SO_BROADCAST),
    (IPPROTO_IP, IP_ADD_MEMBERSHIP): (IPPROTO_IP, _socket.IP_ADD_MEMBERSHIP),
    (IPPROTO_TCP, TCP_NODELAY): (IPPROTO_TCP, 1),
}
_RESOLVER_MS = 200  # with --timing esp32
_NO_NAME = -202
_POLL = 3
_CLOSE = 4
_GET_FILENO = 10
_RD = 1
_WR = 4


def _literal(host):
    # The address family of a numeric address, or None for a name.
    if ":" in host:
        return AF_INET6
    parts = host.split(".")
    if len(parts) == 4 and all(part.isdigit() for part in parts):
        return AF_INET
    return None


def _resolve(host, family):
    # A name server is asked only about names; the simulated one knows this PC only.
    if host in ("", "0.0.0.0"):
        return "0.0.0.0"
    if _literal(host):
        return host
    if not _wifi.reachable():
        raise OSError(_NO_NAME)
    if _registers.get("slow"):
        _time.sleep_ms(_RESOLVER_MS)
    if host != "localhost":
        raise OSError(_NO_NAME)
    return "::1" if family == AF_INET6 else "127.0.0.1"


def getaddrinfo(_host, _port, _af=0, _type=0, _proto=0, _flags=0):
    address = _resolve(_host, _af)
    family = AF_INET6 if ":" in address else AF_INET
    return [(family, _type or SOCK_STREAM, _proto, "", (address, int(_port)))]


def _packed(address):
    host, port = address[0], address[1]
    return _socket.getaddrinfo(host, port)[0][-1]


def _unpacked(packed):
    family, raw, port = _socket.sockaddr(packed)[:3]
    return _socket.inet_ntop(family, raw), port


def _is_local(host):
    return host.startswith("127.") or host == "::1"


class socket(_io.IOBase):
    def __init__(self, _af=AF_INET, _type=SOCK_STREAM, _proto=0, *, _real=None):
        self._family = _af
        self._type = _type
        self._port = 0  # of the own access point that this belongs to
        self._offered = 0
        self._raw = _type == SOCK_RAW
        self._real = _real or (
            _load("sim_echo").Echo(_proto) if self._raw else _socket.socket(_af, _type)
        )
        self._timeout = None
        self._poller = None

    def fileno(self):
        return self._real.fileno()

    def close(self):
        if self._real is not None:
            self._real.close()
            self._real = None
            if self in _wifi.access.sockets:
                _wifi.access.sockets.remove(self)

    def makefile(self, _mode="rb", _buffering=0):
        return self

    def setblocking(self, _value):
        self._timeout = None if _value else 0
        self._real.setblocking(_value)

    def settimeout(self, _value):
        self._timeout = _value
        self._real.settimeout(_value)

    def setsockopt(self, _level, _optname, _value):
        place = _OPTIONS.get((_level, _optname))
        if place is None:
            raise OSError(_errno.EINVAL)
        self._real.setsockopt(place[0], place[1], _value)

    def _linked(self):
        # Waits for the link as long as this socket may block; False when there is none.
        if self._real is None:
            raise OSError(_errno.EBADF)
        if _wifi.reachable(self._port):
            return True
        if self._timeout == 0:
            # A poll() that began before the link was lost asks the PC and is told "ready" at
            # once, again and again; the pause keeps such a loop from burning the processor.
            _time.sleep_ms(1)
            return False
        start = _time.ticks_ms()
        while not _wifi.reachable(self._port):
            if self._timeout is not None:
                if _time.ticks_diff(_time.ticks_ms(), start) > self._timeout * 1000:
                    raise OSError(_errno.ETIMEDOUT)
            _time.sleep_ms(5)
        return True

    def connect(self, _address):
        if self._real is None:
            raise OSError(_errno.EBADF)
        host = _resolve(_address[0], self._family)
        if not _wifi.reachable() or not _is_local(host):
            raise OSError(_errno.EHOSTUNREACH)
        self._real.connect(_packed((host, _address[1])))

    def bind(self, _address):
        host = _resolve(_address[0], self._family)
        port = _address[1]
        if not _is_local(host):
            host = "::1" if self._family == AF_INET6 else "127.0.0.1"
        if not 0 < port < 1024:
            self._real.bind(_packed((host, port)))
            return
        self._offered = self._bind_moved(host, _config["portal_port"] if port == 80 else 0)
        self._port = port
        _wifi.access.sockets.append(self)
        if self._type == SOCK_DGRAM:
            self._offer()

    def _bind_moved(self, host, port):
        # The VM cannot tell which port it was given, so that it has to choose one itself.
        wanted = port
        for i in range(100):
            if not wanted:
                port = 20000 + (_time.ticks_us() * 7919 + i * 104729) % 40000
            try:
                self._real.bind(_packed((host, port)))
                return port
            except OSError:
                if wanted:
                    raise
        raise OSError(_errno.EADDRINUSE)

    def _offer(self):
        """Tell where the port of the access point is to be found, once it is up."""
        if _wifi.access.active:
            _send({"portal" if self._port == 80 else "port%d" % self._port: self._offered})

    def listen(self, _backlog=2):
        self._real.listen(_backlog)
        if self._port:
            self._offer()

    def accept(self):
        if not self._linked():
            raise OSError(_errno.EAGAIN)
        real, address = self._real.accept()
        accepted = socket(self._family, _real=real)
        accepted._port = self._port
        if self._port:
            _wifi.access.sockets.append(accepted)
            _wifi.access.visited = True
        return accepted, _unpacked(address)

    def _or_again(self, result):
        if result is None:
            raise OSError(_errno.EAGAIN)
        return result

    def send(self, _bytes):
        return self._or_again(self.write(_bytes))

    def sendall(self, _bytes):
        view = memoryview(_bytes)
        while view:
            view = view[self._or_again(self.write(view)) :]

    def sendto(self, _bytes, _address):
        host = _resolve(_address[0], self._family)
        if not _wifi.reachable(self._port) or not (self._raw or _is_local(host)):
            raise OSError(_errno.EHOSTUNREACH)
        if self._raw:
            return self._real.send(host, _bytes)
        return self._real.sendto(_bytes, _packed((host, _address[1])))

    def recv(self, _bufsize):
        if not self._linked():
            raise OSError(_errno.EAGAIN)
        return self._real.recv(_bufsize)

    def recvfrom(self, _bufsize):
        if not self._linked():
            raise OSError(_errno.EAGAIN)
        data, address = self._real.recvfrom(_bufsize)
        if self._raw:
            return data, address
        return data, _unpacked(address)

    def read(self, *size):
        return self._real.read(*size) if self._linked() else None

    def readinto(self, _buf, *nbytes):
        return self._real.readinto(_buf, *nbytes) if self._linked() else None

    def readline(self):
        return self._real.readline() if self._linked() else None

    def write(self, _buf, *place):
        return self._real.write(_buf, *place) if self._linked() else None

    def ioctl(self, request, arg):
        if request == _GET_FILENO:
            # With a link the VM may ask the PC itself; without one it has to ask us each time.
            return self._real.fileno() if self._real and _wifi.reachable(self._port) else -1
        if request == _POLL:
            return self._ready(arg)
        if request == _CLOSE:
            self.close()
            return 0
        return -1

    def _ready(self, flags):
        if self._real is None:
            return 32  # POLLNVAL
        if not _wifi.reachable(self._port):
            return 0
        if self._poller is None:
            self._poller = _select.poll()
            self._poller.register(self._real, _RD | _WR)
        found = self._poller.poll(0)
        return found[0][1] & (flags | 8 | 16) if found else 0
