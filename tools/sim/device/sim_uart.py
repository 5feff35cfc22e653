"""machine.UART over two channels to the supervisor, which holds the host's terminal.

Received bytes lie in a socket pair, at most `rxbuf` of them (the supervisor drops the rest);
its descriptor is what poll() sees, and it is always ready for writing, as the chip's driver
says. Sent bytes go through a pipe that blocks when the terminal does not take them.
"""

import io

import select
from sim_host import builtin_time, config, registers, warn

_POLL = 3
_GET_FILENO = 10
_RD = 1
_WR = 4

_rx = open(config["uart_rx"], "rb")  # noqa: SIM115
_tx = open(config["uart_tx"], "wb")  # noqa: SIM115
_DEFAULT_PINS = {1: (10, 9), 2: (17, 16)}


def _number(pin):
    return pin._id if hasattr(pin, "_id") else pin


class UART(io.IOBase):
    INV_TX = 32
    INV_RX = 4
    INV_RTS = 64
    INV_CTS = 8
    RTS = 1
    CTS = 2
    IRQ_RX = 1
    IRQ_RXIDLE = 4096
    IRQ_BREAK = 2

    def __init__(
        self,
        _id,
        baudrate=115200,
        bits=8,
        parity=None,
        stop=1,
        *,
        tx=None,
        rx=None,
        rts=None,
        cts=None,
        txbuf=256,
        rxbuf=256,
        timeout=0,
        timeout_char=0,
        invert=0,
        flow=0,
    ):
        if _id not in _DEFAULT_PINS:
            raise ValueError("UART(%s) does not exist or carries the REPL" % _id)
        self._id = _id
        pins = _DEFAULT_PINS[_id]
        self._tx_pin = pins[0]
        self._rx_pin = pins[1]
        self._wired = False
        self._read_count = 0
        self._sent = registers.get("uart_drained")
        self._poll = select.poll()
        self._poll.register(_rx, select.POLLIN)
        self.init(
            baudrate,
            bits,
            parity,
            stop,
            tx=tx,
            rx=rx,
            rts=rts,
            cts=cts,
            txbuf=txbuf,
            rxbuf=rxbuf,
            timeout=timeout,
            timeout_char=timeout_char,
            invert=invert,
            flow=flow,
        )

    def init(
        self,
        baudrate=115200,
        bits=8,
        parity=None,
        stop=1,
        *,
        tx=None,
        rx=None,
        rts=None,
        cts=None,
        txbuf=None,
        rxbuf=None,
        timeout=None,
        timeout_char=None,
        invert=None,
        flow=None,
    ):
        if bits not in (5, 6, 7, 8):
            raise ValueError("invalid data bits")
        if stop not in (1, 2):
            raise ValueError("invalid stop bits")
        if tx is not None:
            self._tx_pin = _number(tx)
        if rx is not None:
            self._rx_pin = _number(rx)
        if txbuf is not None:
            if not 0 <= txbuf <= 0xFFFF:
                raise ValueError("txbuf out of range")
            self._txbuf = txbuf
        if rxbuf is not None:
            if not 0 <= rxbuf <= 0xFFFF:
                raise ValueError("rxbuf out of range")
            # The driver wants more than the 128 bytes of the hardware's queue.
            self._rxbuf = max(rxbuf, 129)
        if timeout is not None:
            self._timeout = timeout
        if timeout_char is not None:
            self._timeout_char = timeout_char
        row = config["row"]
        self._wired = (self._id, self._tx_pin, self._rx_pin) == (row["uart"], row["tx"], row["rx"])
        if not self._wired:
            warn(
                "UART(%d, tx=%d, rx=%d) reaches nobody: "
                "the host is wired to UART(%d, tx=%d, rx=%d)"
                % (self._id, self._tx_pin, self._rx_pin, row["uart"], row["tx"], row["rx"])
            )
            return
        registers.put("uart_baud", baudrate)
        registers.put("uart_rxbuf", self._rxbuf)
        registers.put("uart_txbuf", self._txbuf)
        self._flush_input()
        registers.put("uart_open", 1)

    def __repr__(self):
        return "UART(%d, baudrate=%d, tx=%d, rx=%d, rxbuf=%d, txbuf=%d)" % (
            self._id,
            registers.get("uart_baud"),
            self._tx_pin,
            self._rx_pin,
            self._rxbuf,
            self._txbuf,
        )

    def _flush_input(self):
        # Any init() empties the receive buffer.
        while True:
            data = _rx.read(256)
            if not data:
                return
            self._read_count += len(data)

    def deinit(self):
        if self._wired:
            registers.put("uart_open", 0)
            self._wired = False

    def any(self):
        if not self._wired:
            return 0
        return max(0, registers.get("uart_received") - self._read_count)

    def _wait(self, ms):
        return bool(ms) and bool(self._poll.poll(ms))

    def _into(self, view):
        # Fills `view` as far as bytes come within the time-outs; None when there is none.
        if not self._wired:
            return None
        got = _rx.readinto(view) or 0
        wait = self._timeout if not got else self._timeout_char
        while got < len(view) and self._wait(wait):
            got += _rx.readinto(view[got:]) or 0
            wait = self._timeout_char
        self._read_count += got
        return got or None

    def readinto(self, _buf, *nbytes):
        if not nbytes and self._wired and not self._timeout and not self._timeout_char:
            got = _rx.readinto(_buf)
            if got:
                self._read_count += got
            return got
        view = memoryview(_buf)
        return self._into(view[: nbytes[0]] if nbytes else view)

    def read(self, *nbytes):
        if nbytes and nbytes[0] >= 0:
            buf = bytearray(nbytes[0])
            got = self._into(memoryview(buf))
            return None if got is None else bytes(memoryview(buf)[:got])
        return self._all()

    def _all(self):
        out = b""
        buf = bytearray(256)
        while True:
            got = self._into(memoryview(buf))
            if got is None:
                return out or None
            out += bytes(memoryview(buf)[:got])

    def readline(self):
        out = b""
        one = bytearray(1)
        while True:
            if self._into(memoryview(one)) is None:
                return out or None
            out += bytes(one)
            if one[0] == 10:
                return out

    def _pending(self):
        return (self._sent - registers.get("uart_drained")) & 0xFFFFFFFF

    def write(self, _buf):
        if not self._wired:
            return len(_buf)
        if not registers.get("uart_paced"):
            _tx.write(_buf)
            self._sent = (self._sent + len(_buf)) & 0xFFFFFFFF
            return len(_buf)
        # On a paced line the transmit buffer has its true size (and 128 bytes of hardware
        # queue): the call returns when the last byte is in the buffer.
        room = self._txbuf + 128
        view = memoryview(_buf)
        while view:
            free = room - self._pending()
            if free <= 0:
                builtin_time.sleep_ms(1)
                continue
            piece = view[:free]
            _tx.write(piece)
            self._sent = (self._sent + len(piece)) & 0xFFFFFFFF
            view = view[len(piece) :]
        return len(_buf)

    def txdone(self):
        return not self._wired or self._pending() == 0

    def flush(self):
        while not self.txdone():
            builtin_time.sleep_us(100)

    def ioctl(self, request, arg):
        if request == _GET_FILENO:
            return _rx.fileno() if self._wired else -1
        if request == _POLL:
            ready = arg & _WR
            if arg & _RD and self._wired and self._poll.poll(0):
                ready |= _RD
            return ready
        return -1
