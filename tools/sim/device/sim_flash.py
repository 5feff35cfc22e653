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
