"""A/B versions on the VM: folders with the real boot.py, and slots; power cuts everywhere."""
# vm-file: heap=1500 timeout=120

import os

from firmware.ota import folders, slots, unpack
from firmware.ota.header import ImageError
from tests_host.vm import ab, nor

OLD = [
    (b"firmware/__init__.mpy", b""),
    (b"firmware/app.mpy", b"old application" * 30),
    (b"lib/a.mpy", b"gone in the new one"),
]
# How far a cut operation gets depends on its number; with CUTS=all each gets as far as it can get
# in all four ways.
WAYS = range(4) if os.getenv("CUTS") == "all" else range(1)

NEW = [
    (b"firmware/__init__.mpy", b"new"),
    (b"firmware/app.mpy", bytes(range(256)) * 17),
    (b"firmware/deep/er/x.mpy", b"new one"),
]


def folder_board():
    return ab.FolderBoard(OLD, NEW)


def slot_board():
    return ab.SlotBoard(ab.application(b"old" * 1000), ab.application(b"new one" * 600))


def receive(board):
    """Put the image where it is to be; returns the area."""
    area, skip = slots.place(len(board.file))
    area.start(0)
    for at in range(skip, len(board.file), 4096):
        area.write(at - skip, board.file[at : at + 4096])
    area.sync()
    return area


async def prepare(board):
    """All up to the restart."""
    area = receive(board)
    await slots.install(area, board.head)
    area.close()
    slots.activate()


async def update(board):
    """A whole update; the board runs the old version."""
    await prepare(board)
    assert board.start() == b"new"
    assert slots.on_trial()
    slots.confirm()
    slots.forget()


async def refusal(awaitable):
    try:
        await awaitable
    except ImageError as error:
        return error.args[0]
    raise AssertionError("nothing was refused")


def refused(function, *args):
    try:
        function(*args)
    except ImageError as error:
        return error.args[0]
    raise AssertionError("nothing was refused")


async def _there_and_back(board, names):
    board.renew()
    assert board.start() == b"old"
    assert slots.kind() == board.kind
    assert (slots.running(), slots.idle()) == names
    assert not slots.on_trial()
    assert not slots.activated()
    # A confirmation without a trial changes nothing.
    slots.confirm()
    assert board.start() == b"old"
    await prepare(board)
    assert slots.activated()
    assert not slots.on_trial()
    # Nor does one that comes when the next version has been chosen: it is not that one's.
    slots.confirm()
    assert slots.activated()
    assert board.start() == b"new"
    assert (slots.idle(), slots.running()) == names
    assert slots.on_trial()
    assert not slots.activated()
    # Not confirmed.
    assert board.start() == b"old"
    assert not slots.on_trial()
    assert not slots.activated()
    assert board.start() == b"old"
    await update(board)
    assert not slots.on_trial()
    for _ in range(3):
        assert board.start() == b"new"
        assert not slots.on_trial()
        assert (slots.idle(), slots.running()) == names
    # And once more in the other direction: the same image again.
    await prepare(board)
    assert slots.activated()
    assert not slots.on_trial()
    assert board.start() == b"new"
    assert (slots.running(), slots.idle()) == names


async def test_folders_there_and_back():
    await _there_and_back(folder_board(), (b"a", b"b"))


async def test_slots_there_and_back():
    await _there_and_back(slot_board(), (b"ota_0", b"ota_1"))


async def _nothing_on_trial(board):
    board.renew()
    board.start()
    await prepare(board)
    area = slots.place
    size = len(board.file)
    for why in (b"version waits for a restart", b"version on trial"):
        assert refused(area, size) == why
        assert refused(slots.activate) == why
        assert await refusal(slots.install(None, board.head)) == why
        if board.kind == slots.SLOT:
            assert refused(slots.partition) == why
        else:
            assert slots.partition() is None
        assert board.start() == (b"new" if b"waits" in why else b"old")
    slots.place(size)[0].close()


async def test_folders_are_left_alone_on_trial():
    await _nothing_on_trial(folder_board())


async def test_slots_are_left_alone_on_trial():
    await _nothing_on_trial(slot_board())


async def _cuts(board, confirmed):
    """A cut at every operation of an update: what runs afterwards is one of the two versions, the
    new one not before it was made bootable, and it stays only when confirmed; an update works."""
    for shift in WAYS:
        await _cuts_in_a_way(board, shift, confirmed)


async def _cuts_in_a_way(board, shift, confirmed):
    at = 0
    while True:
        at += 1
        board.renew()
        board.chip.cut_at = at
        board.chip.way = at + shift & 3
        stage = "start"
        try:
            assert board.start() == b"old"
            stage = "receive"
            area = receive(board)
            stage = "install"
            await slots.install(area, board.head)
            area.close()
            stage = "activate"
            slots.activate()
            stage = "trial"
            assert board.start() == b"new"
            if confirmed:
                stage = "confirm"
                slots.confirm()
                stage = "confirmed"
                slots.forget()
            else:
                stage = "rollback"
                assert board.start() == b"old"
            if board.chip.operations < at:
                # There are no more.
                break
        except Exception:
            # A filesystem's error, or whatever comes of it; of slots nor.Cut.
            if not board.chip.dead:
                raise
        found = board.start()
        told = (stage, at, board.chip.way, found)
        if stage in ("start", "receive", "install", "rollback"):
            assert found == b"old", told
        if stage == "confirmed":
            assert found == b"new", told
        if found == b"new" and slots.on_trial():
            assert stage in ("activate", "trial", "confirm"), told
            found = board.start()
            assert found == b"old", told
        assert not slots.on_trial(), told
        # The start afterwards finds the same.
        assert board.start() == found, told
        if found == b"old":
            if slots.activated():
                raise AssertionError(told)
            await update(board)
        for _ in range(2):
            assert board.start() == b"new", told
            assert not slots.on_trial(), told
    print(at - 1, "cuts")
    # So that it has not stopped at once.
    assert at > 10


async def test_folders_with_cuts_confirmed():
    await _cuts(folder_board(), True)


async def test_folders_with_cuts_rolled_back():
    await _cuts(folder_board(), False)


async def test_folders_with_cuts_without_a_record():
    """It runs from b, for want of a folder a, and nothing says so."""
    await _cuts(ab.FolderBoard(OLD, NEW, 64, "b"), True)


async def test_slots_with_cuts_confirmed():
    board = slot_board()
    for shift in range(4):
        await _cuts_in_a_way(board, shift, True)


async def test_slots_with_cuts_rolled_back():
    board = slot_board()
    for shift in range(4):
        await _cuts_in_a_way(board, shift, False)


async def _a_long_life(board, cuts, longest):
    """Updates to and fro, with cuts anywhere, in what follows a cut too, on a flash that ages.
    Each time the version that was confirmed last is what a start in peace finds."""
    board.renew()
    seed = 20261121
    steady = b"old"
    happened = 0
    updates = 0
    while happened < cuts:
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        chip = board.chip = board.chip.again()
        chip.cut_at = 1 + (seed >> 8) % longest
        chip.way = seed >> 5 & 3
        maybe = other = b"new" if steady == b"old" else b"old"
        try:
            maybe = steady
            # A trial that a cut has ended is over.
            if board.start() != steady:
                assert slots.on_trial()
                assert board.start() == steady
            board.offer(other)
            if slots.activated():
                slots.forget()
            area = receive(board)
            await slots.install(area, board.head)
            area.close()
            slots.activate()
            assert board.start() == other
            assert slots.on_trial()
            maybe = other
            slots.confirm()
            steady = other
            updates += 1
            slots.forget()
            assert board.start() == steady
        except Exception:
            if not chip.dead:
                raise
            happened += 1
        # What the cut has hit may be done or not; then it is settled.
        chip = board.chip = board.chip.again()
        found = board.start()
        if found != steady:
            if slots.on_trial():
                assert board.start() == steady
            else:
                assert found == maybe == other, (happened, found, steady, maybe)
                steady = found
    print(happened, "cuts,", updates, "updates")
    assert updates > cuts // 20, updates


async def test_folders_live_long():
    await _a_long_life(folder_board(), 100, 160)


async def test_slots_live_long():
    await _a_long_life(slot_board(), 150, 30)


async def test_flipped_bits_in_a_slot_image():
    board = slot_board()
    board.start()
    area = receive(board)
    for bit in range(0, board.head.length * 8, 401):
        board.chip.data[6 * nor.SECTOR + bit // 8] ^= 1 << bit % 8
        assert await refusal(slots.install(area, board.head))
        assert refused(slots.activate) == b"image not bootable, errno -5379"
        board.chip.data[6 * nor.SECTOR + bit // 8] ^= 1 << bit % 8
    assert not slots.activated()
    assert board.start() == b"old"
    await slots.install(area, board.head)


async def test_slot_images_that_are_none():
    board = slot_board()
    for payload, chip, why in (
        (ab.application(b"x", 9), b"esp32", b"ESP32 image for another chip"),
        (ab.application(b"x", 0), b"esp32s3", b"ESP32 image for another chip"),
        (ab.application(b"x", 0x500), b"esp32c3", b"ESP32 image for another chip"),
        (ab.application(b"x", 0, 0)[:-32], b"esp32", b"ESP32 image: no SHA-256"),
        (ab.application(b"x") + b"\0", b"esp32", b"ESP32 image: length is not the payload's"),
        (ab.application(b"x")[:-1], b"esp32", b"ESP32 image: length is not the payload's"),
        (ab.application(b"x")[:-1] + b"\0", b"esp32", b"ESP32 image: wrong SHA-256"),
        (b"\xe9\2" + ab.application(b"x")[2:], b"esp32", b"ESP32 image: wrong SHA-256"),
        (b"\xe9\2" + ab.application(b"")[2:36], b"esp32", b"ESP32 image: too short"),
        (b"\xe9\0" + ab.application(b"x")[2:], b"esp32", b"no ESP32 image"),
        (b"\xe9\x11" + ab.application(b"x")[2:], b"esp32", b"no ESP32 image"),
        (b"\0" * 300, b"esp32", b"no ESP32 image"),
        (b"\xe9", b"esp32", b"ESP32 image: too short"),
    ):
        board.renew()
        board.start()
        board.file = bytes(256) + payload
        area = receive(board)
        told = await refusal(slots.install(area, ab.Head(slots.SLOT, payload, chip)))
        assert told.startswith(why), (told, why)
    # One that is good in itself, and not the header's.
    board.renew()
    board.start()
    board.file = bytes(256) + ab.application(b"y")
    area = receive(board)
    head = ab.Head(slots.SLOT, ab.application(b"z"), b"esp32")
    assert b"header's SHA-256" in await refusal(slots.install(area, head))
    # Of the other kind.
    head.kind = slots.BUNDLE
    assert b"kind" in await refusal(slots.install(area, head))


def test_sizes_that_do_not_fit():
    board = slot_board()
    board.start()
    assert slots.place(16384 + 256)[0].size == 16384
    assert refused(slots.place, 16384 + 257) == b"image too large, at most 16640 bytes"
    for size in (0, 1, 256):
        assert refused(slots.place, size) == b"no module image"
    board = folder_board()
    board.start()
    # 64 sectors of which 16 are kept free for the rest.
    assert refused(slots.place, 200000) == b"no room for the image"
    # The image alone would fit, and not what is in it beside it.
    assert refused(slots.place, 110000) == b"no room for the image"
    slots.place(50000)
    assert refused(slots.place, 256) == b"no module image"


async def test_no_room_for_the_files():
    board = folder_board()
    board.start()
    # Each takes a block, far more than its bytes.
    files = [(b"lib/%03d.mpy" % i, b"x" * 600) for i in range(45)]
    board.file = bytes(256) + ab.bundle(files)
    head = ab.Head(slots.BUNDLE, ab.bundle(files))
    area = receive(board)
    assert await refusal(slots.install(area, head)) == b"no room for the version"
    assert refused(slots.activate) == b"no version installed"
    area.close()
    assert board.start() == b"old"


async def test_what_is_estimated_is_enough():
    """And not much more than enough."""
    board = ab.FolderBoard(OLD, NEW, 128)
    board.start()
    for files in (
        [(b"lib/%03d.mpy" % i, b"x" * i * 50) for i in range(30)],
        [(b"lib/%d/a/%d" % (i, i), b"x") for i in range(8)],
        [(b"lib/a", bytes(70000))],
        NEW,
    ):
        board.file = bytes(256) + ab.bundle(files)
        area = receive(board)
        before = folders._free()
        need = await unpack.room(area, 256, len(board.file) - 256)
        await unpack.unpack(area, 256, len(board.file) - 256, "/app/part")
        took = before - folders._free()
        print(took, need)
        assert took <= need <= 2 * took + 16384
        await unpack.remove("/app/part")
        assert folders._free() == before
        area.discard()


async def test_a_filesystem_that_says_it_has_room_because_it_is_full():
    board = folder_board()
    board.start()
    board.file = bytes(256) + ab.bundle([(b"lib/%d/a/%d" % (i, i), b"x") for i in range(8)])
    area = receive(board)
    await unpack.unpack(area, 256, len(board.file) - 256, "/app/part")
    status = os.statvfs("/app")
    # The trap; if it is gone, this test is of no use any more.
    assert status[3] > status[2]
    assert folders._free() == 0
    assert refused(slots.place, 60000) == b"no room for the image"


async def test_bundles_that_are_damaged():
    board = folder_board()
    board.start()
    good = board.file
    for at, why in (
        (256, b"bundle: no files"),
        (264, b"bundle: "),
        (266, b"bundle: "),
        (271, b"bundle: wrong checksum"),
        (len(good) - 1, b"bundle: wrong checksum"),
    ):
        board.file = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        area = receive(board)
        # First what the SHA-256 says, then what would be found without it.
        assert b"SHA-256" in await refusal(slots.install(area, board.head))
        head = ab.Head(slots.BUNDLE, board.file[256:])
        told = await refusal(slots.install(area, head))
        assert told.startswith(why), told
        assert refused(slots.activate) == b"no version installed"
        area.close()
        assert board.start() == b"old"
        assert slots.idle() == b"b"
        assert "b" not in os.listdir("/app")
    # Shorter than the header says, which nobody would have let come so far.
    board.file = good[:-1]
    area = receive(board)
    try:
        await slots.install(area, board.head)
    except OSError:
        area.discard()
    assert refused(slots.activate) == b"no version installed"
    board.file = good
    await update(board)


async def test_an_installed_version_is_forgotten():
    board = folder_board()
    board.start()
    area = receive(board)
    await slots.install(area, board.head)
    area.close()
    before = board.chip.operations
    slots.forget()
    assert board.chip.operations - before < 12
    assert os.listdir("/ota") == []
    assert refused(slots.activate) == b"no version installed"
    # Without the record, and with nothing to fall back on, it is not what runs.
    os.remove("/app/record")
    assert board.start() == b"old"
    # One that was to be tried is called back.
    await prepare(board)
    slots.forget()
    assert not slots.activated()
    assert board.start() == b"old"
    await update(board)
    # The version before stays.
    slots.forget()
    assert sorted(os.listdir("/app")) == ["a", "b", "record"]
    assert "fresh" not in os.listdir("/app/b")
    # Also when a power cut in activate() has left the mark of a new one.
    with open("/app/b/fresh", "wb"):
        pass
    folders.write("b", b"p")
    slots.confirm()
    assert "fresh" not in os.listdir("/app/b")
    # On trial too: it is the one to go back to.
    await prepare(board)
    assert board.start() == b"new"
    slots.forget()
    assert slots.on_trial()
    assert board.start() == b"new"
    assert slots.running() == b"b"


def test_records_that_boot_py_reads():
    """boot.py has code of its own: it runs before there is a firmware."""
    board = folder_board()
    for letter in ("a", "b"):
        for state in (b"v", b"n", b"p"):
            board.renew()
            board.start()
            os.mkdir("/app/b")
            os.mkdir("/app/b/firmware")
            with open("/app/b/firmware/__init__.mpy", "wb") as file:
                file.write(b"other")
            board.versions[b"other"] = [(b"firmware/__init__.mpy", b"other")]
            folders.write(letter, state)
            other = "b" if letter == "a" else "a"
            runs = other if state == b"p" else letter
            assert board.start() == (b"old" if runs == "a" else b"other")
            assert slots.running() == runs.encode()
            # And what it writes is read here.
            after = {b"v": (letter, b"v"), b"n": (letter, b"p"), b"p": (other, b"v")}
            assert folders.read() == after[state]
            assert slots.on_trial() == (state == b"n")


def test_damaged_records():
    board = folder_board()
    for data in (b"", b"OXB", folders.pack("b", b"n")[:-1], b"\xff" * 9):
        board.renew()
        board.start()
        with open("/app/record", "wb") as file:
            file.write(data)
        assert board.start() == b"old"
        assert not slots.on_trial()
        assert not slots.activated()
        slots.confirm()


async def test_an_unwritten_pending_record_does_not_block():
    """boot.py could not write that the new version has had its start: it runs the old one."""
    board = folder_board()
    board.start()
    await prepare(board)
    os.mkdir("/app/record.new")
    assert board.start() == b"old"
    assert slots.activated()
    os.rmdir("/app/record.new")
    slots.forget()
    assert board.start() == b"old"
    assert not slots.activated()
    await update(board)


def test_builds_that_take_no_images():
    board = slot_board()
    board.start()
    for table in (
        # What a stock board has; slots without otadata; one slot only; another one runs.
        (("factory", 0, 0, 2, 4),),
        board.TABLE[1:],
        board.TABLE[:2],
        board.TABLE + (("factory", 0, 0, 0, 1),),
    ):
        board.TABLE = table
        board.running = table[-1][0] if len(table) != 2 else "ota_0"
        assert slots.kind() == 0
        assert slots.running() == slots.idle() == b""
        assert not slots.on_trial()
        assert not slots.activated()
        assert slots.partition() is None
        assert refused(slots.place, 1000) == b"this build takes no module images"
        assert refused(slots.activate) == b"this build takes no module images"
        slots.confirm()
        slots.forget()


def test_otadata_that_is_damaged():
    board = slot_board()
    board.start()
    for at in (0, 4096):
        board.image._write(0, at // 4096, [at // 4096 + 1, b"\xff" * 20, 0, board.image._crc(1)])
    # The first is ours, on trial; the second has a wrong checksum.
    assert slots.on_trial()
    assert not slots.activated()
    board.chip.data[0] ^= 4
    assert not slots.on_trial()
    board.renew()
    board.start()
    # A number of zero would be a slot before the first.
    board.image._write(0, 0, [0, b"\xff" * 20, 0, board.image._crc(0)])
    assert not slots.on_trial()
    assert not slots.activated()
