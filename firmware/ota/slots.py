"""The two places for a version of this firmware, one of which runs: OTA partitions, or for boards
with a stock MicroPython the folders /app/a and /app/b.

Both work alike (decision D38): a version is installed beside the running one, `activate` lets the
next start try it, and unless it is confirmed in that start, the one after it is the old version's
again. While a version is on trial, or waits for the restart that tries it, the other place is not
touched.

Imported for single calls; everything that is to be remembered is in flash.
"""

import sys

from firmware.ota.header import BUNDLE, SIZE, SLOT, ImageError

_NOWHERE = b"this build takes no module images"


def _side():
    """Whichever of the two kinds of places this build runs from: partitions.Slots or
    folders.Folders, which have the same methods; None for neither."""
    # Frozen, it is a relative path.
    path = getattr(sys.modules["firmware"], "__file__", "")
    if path[:5] == "/app/" and path[5:7] in ("a/", "b/"):
        from firmware.ota.folders import Folders

        return Folders(path[5])
    from firmware.ota import partitions

    return partitions.running()


def _settled():
    """_side(), unless the place that does not run has to stay as it is: ImageError then."""
    side = _side()
    if not side:
        raise ImageError(_NOWHERE)
    if side.on_trial():
        raise ImageError(b"version on trial")
    if side.activated():
        raise ImageError(b"version waits for a restart")
    return side


def kind():
    """What this build can be updated with: header.SLOT, header.BUNDLE, or 0 for neither."""
    side = _side()
    return side.kind if side else 0


def running():
    """The name of the place that runs: b"ota_0", b"a" and so on; b"" when there is only one."""
    side = _side()
    return side.running if side else b""


def idle():
    """The name of the place for the next version; b"" when there is none."""
    side = _side()
    return side.idle if side else b""


def on_trial():
    """True while the running version is not confirmed: the next start is the old one's."""
    side = _side()
    return bool(side) and side.on_trial()


def activated():
    """True when the next start will try the version that does not run."""
    side = _side()
    return bool(side) and side.activated()


def partition():
    """The idle OTA slot as an `esp32.Partition`, None where there are none. Raises ImageError
    while nothing may be put there."""
    if kind() != SLOT:
        return None
    return _settled().spare


def place(size):
    """(area, skip): where a module image of `size` bytes, its header included, is received. The
    first `skip` bytes of the file are not stored. Raises ImageError, and OSError of the flash."""
    side = _settled()
    if size <= SIZE:
        raise ImageError(b"no module image")
    return side.place(size)


async def install(area, header):
    """Make what was received into `area` ready for activate(); its signature has been verified.

    header: the Header of the image. The payload is checked as it is in flash; a bundle is unpacked
    beside the running version. Raises ImageError, and OSError of the flash. A power cut at any
    moment leaves the running version, and install() can be called again. Gives way to other
    tasks."""
    from firmware.ota import image
    from firmware.ota.area import AreaError

    side = _settled()
    if header.kind != side.kind:
        raise ImageError(b"not an image of the kind that runs here")
    start = SIZE if header.kind == BUNDLE else 0
    try:
        await image.check(area, start, header)
        await side.install(area, start, header.length)
    except AreaError as error:
        raise ImageError(error.args[0])


def activate():
    """Let the next start try the version that was installed. Raises ImageError. With slots the
    whole image is looked at once more, which stops all else for a second or two on a board."""
    side = _settled()
    try:
        side.activate()
    except OSError as error:
        raise ImageError(b"image not bootable, errno %d" % error.errno)


def confirm():
    """Let the running version stay. Does nothing unless it is on trial. Raises OSError."""
    side = _side()
    # Never without a trial: with ESP-IDF it would be the version that has been activated which
    # is confirmed, untried.
    if side and side.on_trial():
        side.confirm()


def leave():
    """Let the next start be the version's before this one, where an unconfirmed version would not
    have that effect by itself. Raises OSError."""
    side = _side()
    if side:
        side.leave()


def forget(verified=True):
    """Remove the file of an image that was received, and let a bundle that was installed, or has
    failed, not be started. verified: else what lies in the idle slot is made unbootable too: it
    may be nobody's. Does nothing on trial. Raises OSError."""
    side = _side()
    if side and not side.on_trial():
        side.forget(verified or side.activated())


async def tidy():
    """Remove the files of a bundle that forget() has left. Gives way to other tasks. Raises
    OSError."""
    side = _side()
    if side:
        await side.tidy()
