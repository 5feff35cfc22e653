"""Stands for MicroPython's `os` module on ESP32: the VM's own, less what a chip has not."""

from collections import namedtuple as _namedtuple
import sys as _sys

from sim_host import config as _config

_path = _sys.path
_sys.path = ()
import os as _os

_sys.path = _path

chdir = _os.chdir
getcwd = _os.getcwd
ilistdir = _os.ilistdir
listdir = _os.listdir
mkdir = _os.mkdir
mount = _os.mount
remove = _os.remove
rename = _os.rename
rmdir = _os.rmdir
stat = _os.stat
statvfs = _os.statvfs
umount = _os.umount
unlink = _os.unlink
urandom = _os.urandom
VfsFat = _os.VfsFat
VfsLfs2 = _os.VfsLfs2

_Uname = _namedtuple("uname", ("sysname", "nodename", "release", "version", "machine"))


def uname():
    release = ".".join(str(n) for n in _sys.implementation[1][:3])
    text = "v%s virtual module" % release
    machine = "virtual %s with %s" % (_config["board"], _config["chip"].upper())
    return _Uname("esp32", "esp32", release, text, machine)


def sync():
    return None
