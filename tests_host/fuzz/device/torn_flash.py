"""More ways for the power to go in the middle of a flash operation than the first half of it.

Takes the place of the stand-in's two operations. Which way it goes is chosen by the number of the
operation since power on and by the place, so that a run can be repeated:

    0  the first half is done, as the stand-in has it
    1  nothing is done
    2  all is done
    3  any bits: of those that had to change, some have
"""

import sys

_SECTOR = 4096
_PIECE = 256

flash = sys.modules["sim_flash"]
_program = flash.program
_erase = flash.erase
_registers = sys.modules["sim_host"].registers


def _way(address):
    """None when this is not the last operation, else how it ends."""
    if _registers.get("flash_fail_after") != 1:
        return None
    count = _registers.get("flash_programs") + _registers.get("flash_erases")
    return (count + (address >> 4)) & 3


def _noise(address):
    """Endless bytes that look random."""
    state = (address * 2654435761 + _registers.get("flash_programs")) & 0xFFFFFFFF or 1
    while True:
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        yield state & 0xFF


def _lose(way):
    print("torn: way", way)
    _registers.put("flash_fail_after", 0)
    flash._power_lost()


def program(address, buf):
    """Program `buf` at `address`."""
    way = _way(address)
    if not way:
        if way == 0:
            print("torn: way", way)
        _program(address, buf)
    if way == 2:
        _registers.put("flash_fail_after", 0)
        _program(address, buf)
    elif way == 3:
        old = bytearray(len(buf))
        flash.read(address, old)
        noise = _noise(address)
        for i in range(len(buf)):
            # A bit that had to be cleared is, or is not yet.
            old[i] &= buf[i] | next(noise)
        _registers.put("flash_fail_after", 0)
        _program(address, old)
    if way:
        _lose(way)


def erase(address):
    """Erase the sector at `address`."""
    way = _way(address)
    if not way:
        if way == 0:
            print("torn: way", way)
        _erase(address)
    if way == 2:
        _registers.put("flash_fail_after", 0)
        _erase(address)
    elif way == 3:
        noise = _noise(address)
        piece = bytearray(_PIECE)
        for at in range(address, address + _SECTOR, _PIECE):
            flash.read(at, piece)
            for i in range(_PIECE):
                piece[i] |= next(noise)
            flash._file.seek(at)
            flash._file.write(piece)
    if way:
        _lose(way)


flash.program = program
flash.erase = erase

# A cut during this start, if the file says so.
try:
    with sys.modules["sim_host"].disk.open("/cut_at_start", "rb") as _file:
        _registers.put("flash_fail_after", int(_file.read()))
except OSError:
    pass
