"""boot.py on the MicroPython VM, against a LittleFS of its own: which folder it chooses, with
power cuts and flash errors at every operation, damaged records, and what counts as a failed start.

`exec` runs its text in a namespace of its own, as a start does.
"""

# vm-file: heap=4096
import binascii
import os
import sys

import vfs

_BLOCK = 4096
_COUNT = 32


class PowerCut(BaseException):
    """The power is gone: not an error that boot.py could catch."""


class Chip:
    """A block device in memory. left: operations until `end` is raised, None for never; the last
    one is done half."""

    def __init__(self):
        self.data = bytearray(b"\xff" * (_BLOCK * _COUNT))
        self.left = None
        self.end = None

    def copy(self):
        other = Chip()
        other.data[:] = self.data
        return other

    def _last(self):
        if self.left is None:
            return False
        self.left -= 1
        if self.left < 0:
            # A flash that refuses goes on refusing.
            raise self.end
        return self.left == 0

    def readblocks(self, block, buffer, offset=0):
        at = block * _BLOCK + offset
        buffer[:] = self.data[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        last = self._last()
        at = block * _BLOCK + offset
        size = len(buffer) // 2 if last else len(buffer)
        self.data[at : at + size] = memoryview(buffer)[:size]
        if last:
            raise self.end

    def ioctl(self, op, arg):
        if op == 4:
            return _COUNT
        if op == 5:
            return _BLOCK
        if op == 6:
            if self._last():
                raise self.end
            self.data[arg * _BLOCK : (arg + 1) * _BLOCK] = b"\xff" * _BLOCK
        return 0


class Nvs:
    """Stands for esp32.NVS; broken: it raises."""

    values = {}
    broken = False

    def __init__(self, namespace):
        if Nvs.broken:
            raise OSError(-4353)
        self._namespace = namespace

    def get_i32(self, key):
        if (self._namespace, key) not in Nvs.values:
            raise OSError(-4354)
        return Nvs.values[self._namespace, key]

    def set_i32(self, key, value):
        Nvs.values[self._namespace, key] = value

    def commit(self):
        pass


class Namespace:
    """An object with these attributes, for a module that the VM has not."""

    def __init__(self, **attributes):
        for name, value in attributes.items():
            setattr(self, name, value)


with open("boot.py") as _file:
    _TEXT = _file.read()
_machine = Namespace(WDT_RESET=3, reset_cause=lambda: 1)
sys.modules["machine"] = _machine
sys.modules["esp32"] = Namespace(NVS=Nvs)
_real = sys.path[:]


def pack(letter, state):
    data = b"OXB" + letter + state
    return data + binascii.crc32(data).to_bytes(4, "little")


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def disk(record=None, folders="ab", **files):
    """A chip with these folders, and a record."""
    chip = Chip()
    vfs.VfsLfs2.mkfs(chip)
    vfs.umount("/")
    vfs.mount(chip, "/")
    os.mkdir("/app")
    for letter in folders:
        os.mkdir("/app/" + letter)
        os.mkdir("/app/%s/firmware" % letter)
        write("/app/%s/firmware/__init__.py" % letter, b"")
    if record is not None:
        write("/app/record", record)
    for name, data in files.items():
        write("/" + name, data)
    vfs.umount("/")
    vfs.mount(vfs.VfsPosix("/"), "/")
    return chip


def start(chip):
    """One start: (the folder on the path or None, the namespace). Raises what boot.py raises."""
    vfs.umount("/")
    vfs.mount(chip, "/")
    sys.modules.pop("firmware", None)
    sys.path[:] = ["", ".frozen", "/lib"]
    names = {}
    try:
        exec(_TEXT, names)
        # Everything on the filesystem comes behind what is frozen.
        assert sys.path[0] == ".frozen" and sys.path[-2:] == ["/lib", ""], sys.path
        found = [path for path in sys.path if path.startswith("/app/")]
        assert len(found) < 2
        return (found[0] if found else None), names
    finally:
        sys.path[:] = _real
        vfs.umount("/")
        vfs.mount(vfs.VfsPosix("/"), "/")


def record_of(chip):
    vfs.umount("/")
    vfs.mount(chip, "/")
    data = read("/app/record")
    vfs.umount("/")
    vfs.mount(vfs.VfsPosix("/"), "/")
    return data


def folder(chip):
    return start(chip)[0]


def test_without_a_record_a_runs_and_b_when_there_is_no_a():
    chip = disk()
    assert folder(chip) == "/app/a"
    assert record_of(chip) is None
    chip = disk(folders="b")
    assert folder(chip) == "/app/b"
    assert record_of(chip) is None
    # Nothing at all: main.py's import will say so.
    assert folder(disk(folders="")) == "/app/a"


def test_a_valid_record_is_followed_and_left_alone():
    for letter in (b"a", b"b"):
        chip = disk(pack(letter, b"v"))
        for _ in range(2):
            before = bytes(chip.data)
            assert folder(chip) == "/app/" + letter.decode()
            assert bytes(chip.data) == before


def test_a_new_one_gets_one_start():
    for letter, other in ((b"a", b"b"), (b"b", b"a")):
        chip = disk(pack(letter, b"n"))
        assert folder(chip) == "/app/" + letter.decode()
        assert record_of(chip) == pack(letter, b"p")
        assert folder(chip) == "/app/" + other.decode()
        assert record_of(chip) == pack(other, b"v")
        assert folder(chip) == "/app/" + other.decode()


def test_a_folder_that_is_missing_is_not_chosen():
    for state in b"vnp":
        state = bytes([state])
        chip = disk(pack(b"b", state), folders="a")
        assert folder(chip) == "/app/a"
        assert record_of(chip) == pack(b"a", b"v")
    # With nothing to go back to, it stays.
    for state in (b"v", b"p"):
        chip = disk(pack(b"b", state), folders="b")
        assert folder(chip) == "/app/b"
        assert record_of(chip) == pack(b"b", state)
    chip = disk(pack(b"b", b"n"), folders="b")
    assert folder(chip) == "/app/b"
    assert record_of(chip) == pack(b"b", b"p")


def test_a_damaged_record_counts_as_none():
    good = pack(b"b", b"v")
    damaged = [b"", b"\0", good[:-1], good + b"\0", b"\xff" * 9, b"\0" * 9, b"x" * 5000]
    damaged += [pack(b"c", b"v"), pack(b"b", b"x"), pack(b"", b"v"), pack(b"b", b"")]
    for bit in range(72):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(data))
    for data in damaged:
        assert folder(disk(data)) == "/app/a", data
        assert folder(disk(data, folders="b")) == "/app/b", data


def test_a_folder_in_the_record_s_place():
    chip = disk()
    vfs.umount("/")
    vfs.mount(chip, "/")
    os.mkdir("/app/record")
    vfs.umount("/")
    vfs.mount(vfs.VfsPosix("/"), "/")
    assert folder(chip) == "/app/a"


def steps(record, end):
    """A start of a board with `record`, ended by `end` at every operation: (chip, what it chose or
    None, boot.py's error)."""
    made = disk(record)
    step = 0
    while True:
        step += 1
        chip = made.copy()
        chip.left, chip.end = step, end
        chosen = None
        try:
            chosen = folder(chip)
        except PowerCut:
            pass
        done = chip.left > 0
        chip.left = None
        if done:
            # More than one operation, or nothing has been tested.
            assert step > 3, step
            return
        yield chip, chosen


def test_power_cuts_leave_the_old_record_or_the_new_one():
    moves = (
        (b"b", b"n", pack(b"b", b"p"), "/app/b", "/app/a"),
        (b"a", b"n", pack(b"a", b"p"), "/app/a", "/app/b"),
        (b"b", b"p", pack(b"a", b"v"), "/app/a", "/app/a"),
    )
    for letter, state, new, first, then in moves:
        old = pack(letter, state)
        seen = set()
        for chip, _ in steps(old, PowerCut()):
            found = record_of(chip)
            seen.add(found)
            assert found in (old, new), found
            assert folder(chip) == (first if found == old else then)
        assert old in seen


def test_a_flash_that_refuses_lets_the_confirmed_one_run():
    for chip, chosen in steps(pack(b"b", b"n"), OSError(5)):
        # Never the new one without its start being written down.
        assert chosen == ("/app/b" if record_of(chip) == pack(b"b", b"p") else "/app/a"), chosen
    for _, chosen in steps(pack(b"b", b"p"), OSError(5)):
        assert chosen == "/app/a"


def test_a_full_filesystem_lets_the_confirmed_one_run():
    chip = disk(pack(b"b", b"n"))
    vfs.umount("/")
    vfs.mount(chip, "/")
    try:
        with open("/full", "wb") as file:
            while True:
                file.write(b"x" * 512)
    except OSError:
        pass
    vfs.umount("/")
    vfs.mount(vfs.VfsPosix("/"), "/")
    assert folder(chip) == ("/app/b" if record_of(chip) == pack(b"b", b"p") else "/app/a")


def test_nothing_is_chosen_during_maintenance():
    chip = disk(pack(b"b", b"n"), maintenance=b"")
    found, names = start(chip)
    assert found is None
    assert names["MAINTENANCE"] is True
    assert record_of(chip) == pack(b"b", b"n")


def test_frozen_code_comes_before_everything_on_the_filesystem():
    # A package that is there without the filesystem: /rom, as with a ROMFS.
    chip = disk(pack(b"b", b"n"))
    vfs.umount("/")
    vfs.mount(chip, "/")
    for path in ("/firmware", "/lib", "/lib/firmware"):
        os.mkdir(path)
    for path in ("/firmware", "/lib/firmware", "/app/a/firmware", "/app/b/firmware"):
        write(path + "/__init__.py", b"raise ValueError('shadow')")
    rom = Chip()
    vfs.VfsLfs2.mkfs(rom)
    vfs.mount(rom, "/rom")
    os.mkdir("/rom/firmware")
    write("/rom/firmware/__init__.py", b"FROZEN = True\n")
    sys.modules.pop("firmware", None)
    sys.path[:] = ["", "/rom", ".frozen", "/lib"]
    exec(_TEXT, {})
    assert sys.modules["firmware"].FROZEN
    assert sys.path == ["/rom", ".frozen", "/lib", ""], sys.path
    # Its record is not touched.
    assert read("/app/record") == pack(b"b", b"n")


def test_the_watchdog_s_reset_is_counted_and_no_other():
    Nvs.values.clear()
    for cause in (1, 2, 4, 5):
        _machine.reset_cause = lambda cause=cause: cause
        start(disk())
    assert Nvs.values == {}
    _machine.reset_cause = lambda: 3
    for _ in range(3):
        names = start(disk())[1]
    assert Nvs.values == {("expresslink", "failed"): 3}
    # What main.py does.
    names["failed"]()
    assert Nvs.values == {("expresslink", "failed"): 4}
    # An NVS that is out of order keeps nobody from starting.
    Nvs.broken = True
    assert folder(disk()) == "/app/a"


def test_only_what_main_py_needs_is_left():
    names = start(disk())[1]
    kept = {"MAINTENANCE", "failed", "firmware", "machine", "os", "sys", "path"}
    assert set(names) - kept <= {"__name__", "__builtins__"}, names


def test_firmware_starts_reads_and_clears_the_same_count():
    from firmware import starts

    assert starts.failed() == 0
    starts.clear()
    assert Nvs.values == {}
    names = start(disk())[1]
    for _ in range(starts.SAFE):
        names["failed"]()
    assert starts.failed() == starts.SAFE == 3
    starts.clear()
    assert starts.failed() == 0
    Nvs.broken = True
    assert starts.failed() == 0
    starts.clear()


def test_boot_py_and_the_firmware_mean_the_same_record():
    from firmware.ota import folders

    for letter in ("a", "b"):
        for state in (folders.VALID, folders.NEW, folders.PENDING):
            assert folders.pack(letter, state) == pack(letter.encode(), state)
            chip = disk(folders.pack(letter, state))
            start(chip)
            kept = {
                folders.VALID: (letter, folders.VALID),
                folders.NEW: (letter, folders.PENDING),
                folders.PENDING: ("b" if letter == "a" else "a", folders.VALID),
            }
            assert folders.parse(record_of(chip)) == kept[state]
