"""The first script of the virtual board's VM.

Arguments: the state folder, then `name=address,size` for what the launcher mapped (registers,
standins, app) or `name=` for what has to be read from the file `name.img`. All it does is to make
the stand-ins importable; `sim_boot` does the rest. It is the one stand-in that is compiled on the
heap, so it is short.
"""

import sys

import uctypes
import vfs


def rom(disk, name):
    """(filesystem, image) of the ROMFS image `name`: in mapped memory, outside the heap, or else
    in a bytes object."""
    for argument in sys.argv[2:]:
        key, _, value = argument.partition("=")
        if key == name and value:
            address, size = value.split(",")
            image = uctypes.bytearray_at(int(address), int(size))
            break
    else:
        file = disk.open("/" + name + ".img", "rb")
        image = file.read()
        file.close()
    return vfs.VfsRom(image), image


def _standins(disk):
    file = disk.open("/standins", "r")
    folder = file.read()
    file.close()
    return (vfs.VfsPosix(folder), None) if folder else rom(disk, "standins")


_disk = vfs.VfsPosix(sys.argv[1])
vfs.umount("/")
_standins_fs, _standins_image = _standins(_disk)
vfs.mount(_standins_fs, "/sim", readonly=True)
_path = list(sys.path)
sys.path[:] = ["/sim", ".frozen"]
import sim_boot

sys.path[:] = _path
sim_boot.run(_disk, rom, _standins_fs)
