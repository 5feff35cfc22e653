"""The host's image: where it is received, and how it is read (guide 7.1, 7.2.4, 7.2.5).

An image of N bytes goes to the first of these that is large enough:

    hota     a partition of its own
    ota_0/1  the slot that does not run, unless it is needed: shared with module updates
    file     /ota/mail, on boards without partitions to spare
"""

from micropython import const

from firmware.at.errors import ADDRESS, AtError
from firmware.ota.area import AreaError, FileArea, PartitionArea

_PATH = "/ota/mail"
# Of 2 MiB, the filesystem of a board of 4 MiB with a stock image: it leaves room for an update of
# the module and for all that is configured.
_FILE_LIMIT = const(1048576)

_READ_MAX = const(1024)


def place(size):
    """The area that an image of `size` bytes is received in. AreaError when there is none."""
    largest = 0
    for name in (b"hota", b"", b"file"):
        try:
            # What looks for the slot is only loaded when it is needed.
            area = open(name or _idle())
        except AreaError:
            continue
        if size <= area.size:
            return area
        largest = max(largest, area.size)
    raise AreaError(b"too large, at most %d bytes" % largest)


def _running():
    """The partition that the running version was started from."""
    import esp32

    return esp32.Partition(esp32.Partition.RUNNING)  # pyright: ignore[reportArgumentType]


def _idle():
    """The label of the slot that is not running; what is no label when it must be left alone."""
    from firmware.ota import slots

    try:
        # Bundles leave the slots alone.
        return (slots.partition() or _running().get_next_update()).info()[4].encode()
    except (slots.ImageError, OSError):
        # It is needed as it is, during a trial for instance; or there are no slots.
        return b""


def open(name):
    """The area with this name. AreaError when there is none, or the running version is there."""
    if name == b"file":
        return FileArea(_PATH, _FILE_LIMIT)
    import esp32

    try:
        partition = esp32.Partition(name.decode())
    except OSError:
        raise AreaError(b"no such partition") from None
    # By the address: what is discarded is erased.
    if partition.info()[2] == _running().info()[2]:
        raise AreaError(b"partition in use")
    # Nobody has signed it, and a bootloader in need starts whatever looks like an application.
    return PartitionArea(partition, 0 if name == b"hota" else 1)


class Mailbox:
    """An image that has arrived, with the pointer that the host moves.

    area: where it lies. size: in bytes. position: where the next read begins.
    """

    def __init__(self, area, size):
        self._area = area
        self._size = size
        self.position = 0

    def seek(self, position):
        """Move the pointer; AtError when that is behind the image's end."""
        if not 0 <= position <= self._size:
            raise AtError(ADDRESS)
        self.position = position

    def read(self, count):
        """At most `count` bytes, and 1,024, as a bytearray; none at the end. Moves the pointer.
        Raises OSError of the flash."""
        data = bytearray(min(count, _READ_MAX, self._size - self.position))
        if data:
            self._area.readinto(self.position, data)
            # A file that is open when it is removed would go on to be read.
            self._area.close()
            self.position += len(data)
        return data
