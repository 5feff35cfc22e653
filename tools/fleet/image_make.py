"""Module images: made from the source tree or around a real ESP32 image, and looked into."""

import re
import struct
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from tools import loadable
from tools.fleet import factory_layout, image_bundle, image_header
from tools.fleet.image_header import ANY, BUNDLE, SLOT, VENDOR, ImageError
from tools.sim import espimage, flash, romfs

_VERSION_FILE = "firmware/version.py"
_VERSION = re.compile(rb'^VERSION = b"([^"\n]*)"$', re.MULTILINE)
_SECURITY = re.compile(rb"^SECURITY = ([0-9]{1,10})$", re.MULTILINE)
# Without these the application does not start.
_NEEDED = ("firmware/app", "firmware/version")

# ESP-IDF programming guide, "App Image Format": what the first segment of an application begins
# with: magic, security version, 8 bytes, version, project's name, time, date, ESP-IDF's version.
_ABOUT = struct.Struct("<LL8s32s32s16s16s32s")
_ABOUT_MAGIC = 0xABCD5432
# An ESP32 image's header: its size, where the chip's number is.
_HEADER = 24
_CHIP = 12

# MicroPython documentation, "MicroPython .mpy files": `M`, 6, flags with the native architecture
# in bits 2 to 5, the bits of a small integer.
_MPY = b"M\x06"
_NATIVE = {"esp32": 10, "esp32s3": 10, "esp32c3": 11}
_SMALL_INT = 31


@dataclass(frozen=True)
class Labels:
    """What a person says about an image that is being made. version, security: None for the
    source's."""

    version: str | None = None
    security: int | None = None
    vendor: str = VENDOR
    model: str = ANY


def source_version(source=romfs.ROOT):
    """The version in the source tree below `source`. Raises ImageError."""
    return _version_in(_version_file(source))


def _version_file(source):
    try:
        return (Path(source) / _VERSION_FILE).read_bytes()
    except OSError as error:
        raise ImageError(f"{error.filename}: {error.strerror}") from None


def _version_in(text):
    found = _VERSION.findall(text)
    if len(found) != 1:
        raise ImageError(f'{_VERSION_FILE} has no line VERSION = b"major.minor.patch"')
    return found[0].decode("ascii", "replace")


def _security_in(text):
    found = _SECURITY.findall(text)
    if len(found) != 1:
        raise ImageError(f"{_VERSION_FILE} has no line SECURITY = number")
    return int(found[0])


def _complete(labels, source):
    """`labels` with the source's version and security version where a person says nothing."""
    text = _version_file(source)
    said = (_version_in(text), _security_in(text))
    version = said[0] if labels.version is None else labels.version
    security = said[1] if labels.security is None else labels.security
    return replace(labels, version=version, security=security)


def _compiled(source, labels, compiled):
    """{path: bytes} of the application with the versions of `labels` in it. `compiled`
    makes bytes of the files."""
    image_header.version_numbers(labels.version)
    text = _VERSION.sub(b'VERSION = b"%s"' % labels.version.encode(), _version_file(source))
    text = _SECURITY.sub(b"SECURITY = %d" % labels.security, text)
    files = romfs.application(source)
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "version.py"
        changed.write_bytes(text)
        files[_VERSION_FILE] = changed
        try:
            return compiled(files)
        except ValueError as error:
            raise ImageError(str(error)) from None


def _image(kind, chip, payload, labels):
    header = image_header.of_payload(
        payload,
        kind=kind,
        vendor=labels.vendor,
        model=labels.model,
        chip=chip,
        version=labels.version,
        security=labels.security,
    )
    return header.pack() + payload


def bundle(labels, source=romfs.ROOT):
    """The image of kind bundle: `.mpy` files without native code. Raises ImageError."""
    labels = _complete(labels, source)
    files = {
        name: data
        for name, data in _compiled(source, labels, loadable.loadable).items()
        if "/" in name
    }
    return checked(_image(BUNDLE, ANY, image_bundle.pack(files), labels))


def slot(labels, chip, source=romfs.ROOT):
    """The image that a virtual module boots from a slot: one segment, a ROMFS of the application
    with its boot scripts. Raises ImageError."""
    labels = _complete(labels, source)
    rom = romfs.image(_compiled(source, labels, romfs.compiled))
    payload = espimage.build([(espimage.DROM[chip], rom)], chip)
    return checked(_image(SLOT, chip, payload, labels))


def wrap(data, labels, chip=None):
    """The image around a real application for an ESP32: `data` is that image (`.app-bin`) or a
    whole firmware file that begins with the bootloader. chip: which it has to be for, or None.
    Raises ImageError."""
    if labels.version is None:
        raise ImageError("say which version of ExpressLink is in it: --version")
    labels = replace(labels, security=labels.security or 0)
    payload = application_in(data)
    image = _slot_payload(payload, chip)
    if _about(image) is None:
        raise ImageError("it is no application: a bootloader?")
    return checked(_image(SLOT, _chip_of(image), payload, labels))


def application_in(data):
    """The application's image in `data`, which is one or a firmware file. Raises ImageError."""
    if len(data) < _HEADER:
        raise ImageError("no good ESP32 image: shorter than a header")
    if _is_one(data):
        return data
    start = factory_layout.BOOTLOADER[
        _chip_name(int.from_bytes(data[_CHIP : _CHIP + 2], "little"))
    ]
    try:
        entries = factory_layout.partitions(data, 0x8000 - start)
    except factory_layout.LayoutError:
        # No table where one would be: then the bytes are the application, or nothing.
        return data
    for kind, _, address, _ in entries:
        if kind == flash.APP:
            try:
                return data[address - start :][: espimage.parse(data[address - start :]).size]
            except espimage.ImageError as error:
                raise ImageError(f"no good application at {address:#x}: {error}") from None
    raise ImageError("there is no application in its partition table")


def _is_one(data):
    try:
        return espimage.parse(data).size == len(data)
    except espimage.ImageError:
        return False


def _chip_of(image):
    return _chip_name(image.chip_id)


def _chip_name(wanted):
    for name, number in espimage.CHIPS.items():
        if number == wanted:
            return name
    raise ImageError(f"it is for chip {wanted}, which is not supported")


def _slot_payload(payload, chip):
    """The espimage.Image that `payload` is from its first byte to its last."""
    try:
        image = espimage.parse(payload, chip)
    except espimage.ImageError as error:
        raise ImageError(f"no good ESP32 image: {error}") from None
    # The last byte of the 24 tells whether a SHA-256 follows.
    if payload[_HEADER - 1] != 1:
        raise ImageError("the ESP32 image has no SHA-256 at its end")
    if image.size != len(payload):
        raise ImageError(f"{len(payload) - image.size} bytes behind the ESP32 image")
    return image


def _about(image):
    """What a real application says of itself, as one text; None for another image."""
    data = image.segments[0][1]
    if len(data) < _ABOUT.size:
        return None
    magic, _, _, version, project, _, date, idf = _ABOUT.unpack_from(data)
    if magic != _ABOUT_MAGIC:
        return None
    texts = [project, version, b"of", date, b"with ESP-IDF", idf]
    texts = [text.partition(b"\0")[0].decode("utf-8", "replace") for text in texts]
    return " ".join(filter(str.isprintable, filter(None, texts)))


def _check_files(files, chip):
    for name in _NEEDED:
        if not any(name + ending in files for ending in (".mpy", ".py")):
            raise ImageError(f"the bundle has no {name}")
    for name, data in files.items():
        if not name.endswith(".mpy"):
            continue
        if len(data) < 4 or data[:2] != _MPY or data[3] > _SMALL_INT:
            raise ImageError(f"{name} is not compiled for this MicroPython")
        native = (data[2] >> 2) & 0x0F
        if native and native != _NATIVE.get(chip):
            raise ImageError(f"{name} has native code, which does not run on {chip}")


def _parts(data):
    """(Header, files of a bundle or None, espimage.Image or None) of an undamaged image."""
    header = image_header.parse(data)
    payload = data[image_header.SIZE :]
    if len(payload) != header.length:
        raise ImageError(
            f"the payload has {len(payload)} bytes, and the header says {header.length}"
        )
    if image_header.of_payload(payload, **_said(header)) != header:
        raise ImageError("the payload is damaged: wrong SHA-256")
    if header.kind == SLOT:
        return header, None, _slot_payload(payload, header.chip)
    files = image_bundle.unpack(payload)
    _check_files(files, header.chip)
    return header, files, None


def _said(header):
    names = ("kind", "vendor", "model", "chip", "version", "security")
    return {name: getattr(header, name) for name in names}


def checked(data):
    """`data` when it is a whole, undamaged module image. Raises ImageError."""
    _parts(data)
    return data


def header_of(data):
    """The Header of a whole, undamaged module image. Raises ImageError."""
    return _parts(data)[0]


def description(data):
    """[(name, text)] of all there is to say about an image: ours, or a bare ESP32 one. Raises
    ImageError when it is damaged."""
    if data[:1] == bytes([espimage.MAGIC]):
        payload = application_in(data)
        image = _slot_payload(payload, None)
        return [("image", "ESP32 application, without our header"), *_rows(payload, image)]
    header, files, image = _parts(data)
    rows = [
        ("image", image_header.KINDS[header.kind]),
        *((name, str(value)) for name, value in list(_said(header).items())[1:]),
        ("length", f"{image_header.SIZE} + {header.length} bytes"),
        ("sha256", header.sha256.hex()),
    ]
    if image is not None:
        return rows + _rows(data[image_header.SIZE :], image)
    rows.append(("files", str(len(files))))
    return rows + [(name, f"{len(content)} bytes") for name, content in files.items()]


def _rows(payload, image):
    rows = [("esp32-image", f"for {_chip_of(image)}, {len(payload)} bytes")]
    about = _about(image)
    if about is not None:
        rows.append(("application", about))
    for address, data in image.segments:
        what = ", ROMFS for the virtual module" if data.startswith(romfs.MAGIC) else ""
        rows.append((f"segment {address:#010x}", f"{len(data)} bytes{what}"))
    return rows
