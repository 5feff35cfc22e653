"""otadata whose entries a power cut has left half written, on the MicroPython VM: what is believed
to be on trial, and where the next start goes.

ESP-IDF's checksum covers the number of an entry and not its state, so any mixture of the state's
bits may be there, and the bootloader starts such an entry as if nothing were the matter.
"""
# vm-file: heap=1500

import struct

from firmware.ota import slots
from tests_host.vm import ab, nor

NEW, PENDING, VALID, INVALID, ABORTED = range(5)
BLANK = 0xFFFFFFFF

# Between erased and NEW or PENDING: bytes in order, in the other order, and single bits.
TORN = (
    0xFFFFFF00,
    0xFFFF0000,
    0xFF000000,
    0x00FFFFFF,
    0x7FFFFFFF,
    0xFFFFFFFE,
    0xFFFFFF01,
    0xFFFF0001,
    0xFF000001,
    0x00000005,
    0x00000101,
    0x80000002,
    0xFFFFFF02,
)


_boards = []


def board(running=b"new"):
    """The board with both versions; one runs, and its otadata is blank."""
    if not _boards:
        made = ab.SlotBoard(ab.application(b"old" * 1000), ab.application(b"new one" * 600))
        _boards.append(made)
    made = _boards[0]
    made.renew()
    new = made.versions[b"new"]
    made.chip.data[6 * nor.SECTOR : 6 * nor.SECTOR + len(new)] = new
    made.running = "ota_1" if running == b"new" else "ota_0"
    return made


def put(board, sector, number, state, crc=None):
    """Write an entry: the even numbers are the second slot's, which has the new version."""
    crc = board.image._crc(number) if crc is None else crc
    board.image._write(0, sector, [number, b"\xff" * 20, state, crc])


def test_whole_states():
    on_trial = {NEW: True, PENDING: True, VALID: False, INVALID: False, ABORTED: False}
    on_trial[BLANK] = False
    for state, expected in on_trial.items():
        for sector in (0, 1):
            made = board()
            put(made, sector, 2, state)
            put(made, 1 - sector, 1, VALID)
            assert slots.on_trial() == expected, (state, sector)
            assert not slots.activated()
    made = board()
    assert not slots.on_trial()


def test_half_a_state_is_a_trial():
    for state in TORN:
        made = board()
        put(made, 0, 1, VALID)
        put(made, 1, 2, state)
        # The bootloader takes it, again and again.
        for _ in range(2):
            assert made.start() == b"new"
            assert slots.on_trial(), hex(state)
            assert not slots.activated()
        slots.confirm()
        assert not slots.on_trial()
        assert made.start() == b"new"
        assert struct.unpack_from("<L", made.chip.data, nor.SECTOR + 24) == (VALID,)


def test_half_a_state_can_be_left():
    for state in TORN:
        made = board()
        put(made, 0, 1, VALID)
        put(made, 1, 2, state)
        made.start()
        slots.leave()
        assert made.start() == b"old", hex(state)
        # It has been chosen like a new one.
        assert slots.on_trial()
        slots.confirm()
        for _ in range(2):
            assert made.start() == b"old"
            assert not slots.on_trial()


def test_a_whole_trial_needs_not_be_left():
    """The bootloader does it; to choose the version before would put that on trial."""
    made = board()
    put(made, 0, 1, VALID)
    put(made, 1, 2, NEW)
    assert made.start() == b"new"
    before = bytes(made.chip.data)
    slots.leave()
    assert made.chip.data == before
    assert made.start() == b"old"
    assert not slots.on_trial()
    # Also when the bootloader has not come to write that it is pending.
    made = board()
    put(made, 0, 1, VALID)
    put(made, 1, 2, NEW)
    before = bytes(made.chip.data)
    slots.leave()
    assert made.chip.data == before
    # Nor does it matter what another version has come to since.
    made = board()
    put(made, 0, 3, ABORTED)
    put(made, 1, 2, PENDING)
    before = bytes(made.chip.data)
    slots.leave()
    assert made.chip.data == before


def test_half_an_entry_is_none():
    """What has been cut before the checksum: the other entry says what runs."""
    whole = board().image._crc(4)
    for number, crc in (
        (4, BLANK),
        (4, whole | 0xFFFF0000),
        (4, whole ^ 1),
        (0xFFFFFF04, BLANK),
        (0xFFFF0004, whole),
        (BLANK, BLANK),
        (0, board().image._crc(0)),
        # The bootloader takes no blank number either, whatever its checksum.
        (BLANK, board().image._crc(BLANK)),
    ):
        for state in (BLANK, PENDING, NEW):
            made = board()
            put(made, 0, 2, VALID)
            put(made, 1, number, state, crc)
            assert not slots.on_trial(), (hex(number), state)
            assert not slots.activated(), (hex(number), state)
            made = board()
            put(made, 0, 2, PENDING)
            put(made, 1, number, VALID, crc)
            assert slots.on_trial(), (hex(number), state)
            # And without another one nothing does.
            for running in (b"old", b"new"):
                made = board(running)
                put(made, 1, number, state, crc)
                assert not slots.on_trial(), (hex(number), state)
                assert not slots.activated(), (hex(number), state)


def test_the_later_entry_of_a_slot_counts():
    for sector in (0, 1):
        for first, last, expected in ((PENDING, VALID, False), (VALID, PENDING, True)):
            made = board()
            put(made, sector, 2, first)
            put(made, 1 - sector, 4, last)
            assert slots.on_trial() == expected, (sector, first)
        # And of the two slots' that of the one that runs.
        for mine, other, expected in ((PENDING, ABORTED, True), (VALID, PENDING, False)):
            made = board(b"old")
            put(made, sector, 1, mine)
            put(made, 1 - sector, 2, other)
            assert slots.on_trial() == expected, (sector, mine)


def test_what_the_next_start_tries():
    for state, expected in ((NEW, True), (PENDING, False), (VALID, False), (ABORTED, False)):
        made = board(b"old")
        put(made, 0, 1, VALID)
        put(made, 1, 2, state)
        assert slots.activated() == expected, state
    for state in TORN:
        # It is started, and not for a trial: nothing may come in its place before.
        made = board(b"old")
        put(made, 0, 1, VALID)
        put(made, 1, 2, state)
        assert not slots.activated()
    # What runs has been started.
    made = board()
    put(made, 0, 1, VALID)
    put(made, 1, 2, NEW)
    assert not slots.activated()
    # A version that was refused is passed over.
    made = board(b"old")
    put(made, 0, 2, NEW)
    put(made, 1, 3, ABORTED)
    assert slots.activated()
