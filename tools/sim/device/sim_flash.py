"""The flash chip: one file, programmed and erased as NOR flash is.

Programming can only clear bits; erasing sets a sector of 4,096 bytes to 0xFF. Each of the two
may be the last thing that happens: when the countdown `flash_fail_after` reaches zero, half of
the operation is done and the power is gone.
"""

from sim_host import builtin_time, config, disk, halt, registers, send

SECTOR = 4096
_ERASE_MS = 40  # with --timing esp32

_file = disk.open("/" + config["flash"], "r+b")
# Worked on in pieces: these buffers lie in the heap that the firmware has to do with.
_PIECE = 256
_ones = b"\xff" * _PIECE
_old = bytearray(_PIECE)


def read(address, buf):
    """Fill `buf` from `address`."""
    _file.seek(address)
    _file.readinto(buf)


def _last_operation():
    # True when this operation is the one at which the power dies.
    left = registers.get("flash_fail_after")
    if not left:
        return False
    registers.put("flash_fail_after", left - 1)
    return left == 1


def _power_lost():
    send({"power": "lost"})
    halt()


def program(address, buf):
    """Program `buf` at `address`: each bit becomes old AND new, as on the chip."""
    registers.put("flash_programs", registers.get("flash_programs") + 1)
    last = _last_operation()
    view = memoryview(buf)
    if last:
        view = view[: len(view) // 2]
    while view:
        piece = view[:_PIECE]
        old = memoryview(_old)[: len(piece)]
        read(address, old)
        _file.seek(address)
        if old == memoryview(_ones)[: len(piece)]:
            _file.write(piece)
        else:
            for i in range(len(piece)):
                old[i] &= piece[i]
            _file.write(old)
        address += len(piece)
        view = view[_PIECE:]
    if last:
        _power_lost()


def erase(address):
    """Erase the sector at `address`."""
    registers.put("flash_erases", registers.get("flash_erases") + 1)
    last = _last_operation()
    _file.seek(address)
    for _ in range((SECTOR // 2 if last else SECTOR) // _PIECE):
        _file.write(_ones)
    if last:
        _power_lost()
    if registers.get("slow"):
        builtin_time.sleep_ms(_ERASE_MS)


class Area:
    """A part of the flash as a block device; addresses and sizes in bytes."""

    def __init__(self, address, size, block=SECTOR):
        self._address = address
        self._size = size
        self._block = block

    def _place(self, block, offset, size):
        at = block * self._block + offset
        if at < 0 or at + size > self._size:
            raise OSError(-260, "ESP_ERR_INVALID_SIZE")
        return self._address + at

    def readblocks(self, block_num, buf, offset=0):
        read(self._place(block_num, offset, len(buf)), buf)

    def writeblocks(self, _block_num, _buf, _offset=None):
        address = self._place(_block_num, _offset or 0, len(_buf))
        if _offset is None:
            # Without an _offset the whole sectors are erased first, whatever they held.
            if address % SECTOR or len(_buf) % SECTOR:
                raise OSError(-260, "ESP_ERR_INVALID_SIZE")
            for at in range(address, address + len(_buf), SECTOR):
                erase(at)
        program(address, _buf)

    def ioctl(self, op, arg=0):
        if op in (1, 2, 3):
            return 0
        if op == 4:
            return self._size // self._block
        if op == 5:
            return self._block
        if op == 6:
            address = self._place(arg, 0, self._block)
            if address % SECTOR:
                raise OSError(-260, "ESP_ERR_INVALID_SIZE")
            erase(address)
            return 0
        return None
