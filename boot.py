"""Runs before main.py: finds the application, counts starts that failed, and stands back for
maintenance.

The application is frozen into the image, or lies in one of the folders /app/a and /app/b: `make
flash` puts it into the first, an update into the one that does not run. Frozen code is asked for
first, so that no file on the filesystem can shadow it. Nothing in here may raise: main.py would
not be run then.

/app/record says which folder it is (9 bytes): `OXB`, the folder's letter, its state, the CRC-32 of
these five (little endian). State v: it stays. n: it is to be tried, and its one start begins here.
p: it has had that, and nobody has confirmed it: back to the other one. firmware/ota/slots.py
writes it too.
"""

import os
import sys


def _exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def failed():
    """Count a start that the watchdog or a fatal error has ended: firmware/starts.py reads it, and
    main.py uses this when there is no firmware to import. Raises OSError."""
    import esp32

    nvs = esp32.NVS("expresslink")
    try:
        count = nvs.get_i32("failed")
    except OSError:
        # The first one.
        count = 0
    nvs.set_i32("failed", count + 1)
    nvs.commit()


def _record():
    # (letter, state); the state is empty when there is no record, or a damaged one.
    from binascii import crc32

    try:
        with open("/app/record", "rb") as file:
            data = file.read(10)
    except OSError:
        data = b""
    letter, state = data[3:4], data[4:5]
    crc = crc32(data[:5]).to_bytes(4, "little")
    if data[:3] == b"OXB" and data[5:] == crc and letter in (b"a", b"b"):
        if state in (b"v", b"n", b"p"):
            return letter, state
    return b"a", b""


def _write(letter, state):
    # Whether it is in flash: whole, or as it was before.
    from binascii import crc32

    data = b"OXB" + letter + state
    try:
        with open("/app/record.new", "wb") as file:
            file.write(data + crc32(data).to_bytes(4, "little"))
        os.rename("/app/record.new", "/app/record")
    except OSError as e:
        sys.print_exception(e)
        return False
    return True


def _folder(letter):
    return "/app/" + letter.decode()


def _choose():
    # The folder that is to run.
    letter, state = _record()
    other = b"b" if letter == b"a" else b"a"
    if not _exists(_folder(other) + "/firmware"):
        # There is no choice. A new one is on trial all the same.
        if state == b"n":
            _write(letter, b"p")
    elif state == b"p" or not _exists(_folder(letter) + "/firmware"):
        # Not confirmed in its one start, or gone.
        letter = other
        if state:
            _write(letter, b"v")
    elif state == b"n" and not _write(letter, b"p"):
        # Nobody could tell its second start from the first.
        letter = other
    return _folder(letter)


# `make flash` leaves this flag while it works, so that neither the application nor its watchdog
# gets in its way, whatever happens in between.
MAINTENANCE = _exists("/maintenance")

# What is not on the filesystem: `.frozen`, and where there is one, the image at /rom.
sys.path[:] = [path for path in sys.path if path not in ("", "/lib")]
try:
    import firmware  # noqa: F401
except ImportError:
    if not MAINTENANCE:
        sys.path.append(_choose())
sys.path += ["/lib", ""]

try:
    import machine

    # A loss of power and the RESET pin say nothing about the application.
    if machine.reset_cause() == machine.WDT_RESET:
        failed()
except OSError as e:
    # No counter is no reason not to start.
    sys.print_exception(e)

# Its code would stay in the heap.
for path in ("_exists", "_record", "_write", "_folder", "_choose"):
    del globals()[path]
