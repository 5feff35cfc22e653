"""The first script of the virtual board's VM, in the place of ESP32's frozen _boot.py.

Arguments: the state folder, then `name=address,size` for what the launcher mapped
(registers, standins, app) or `name=` for what has to be read from the file `name.img`.
It swaps the PC's filesystem for the flash's, puts the stand-ins in the modules' places, runs
boot.py and main.py as MicroPython does, and leaves to the REPL.
"""

import gc
import json
import sys

import uctypes
import vfs

_keep = []


def _mapped(name):
    for argument in sys.argv[2:]:
        key, _, value = argument.partition("=")
        if key == name and value:
            address, size = value.split(",")
            return int(address), int(size)
    return None


def _rom(disk, name):
    # A ROMFS image: in mapped memory, outside the heap, or else as a bytes object in it.
    place = _mapped(name)
    if place is not None:
        image = uctypes.bytearray_at(place[0], place[1])
    else:
        file = disk.open("/" + name + ".img", "rb")
        image = file.read()
        file.close()
    _keep.append(image)
    return vfs.VfsRom(image)


def _folder_or_rom(disk, folder, name):
    return vfs.VfsPosix(folder) if folder else _rom(disk, name)


def _install_standins(disk, boot):
    vfs.mount(_folder_or_rom(disk, boot["standins"], "standins"), "/sim", readonly=True)
    path = list(sys.path)
    sys.path[:] = ["/sim", ".frozen"]
    import sim_host
    import sim_registers

    place = _mapped("registers")
    if place is not None:
        registers = sim_registers.Mapped(place[0])
    else:
        registers = sim_registers.Filed(disk, "/registers.bin")
    sim_host.setup(disk, registers, boot)
    import time  # noqa: F401
    import os  # noqa: F401
    import machine  # noqa: F401
    import network  # noqa: F401
    import socket  # noqa: F401
    import esp32
    import sim_tls

    # These two builtins cannot be replaced by a file.
    sys.modules["tls"] = sim_tls
    sys.modules["esp32"] = esp32
    vfs.umount("/sim")
    sys.path[:] = path
    return sim_host


def _mount_flash():
    # As ESP32's _boot and inisetup do: only a blank flash is formatted.
    import esp32

    part = esp32.Partition("vfs")
    try:
        vfs.mount(part, "/")
        return True
    except OSError:
        first = bytearray(4096)
        part.readblocks(0, first)
        if first != b"\xff" * 4096:
            print("The filesystem appears to be corrupted.")
            return False
    vfs.VfsLfs2.mkfs(part)
    vfs.mount(part, "/")
    with open("/boot.py", "w") as file:
        file.write("# This file is executed on every boot\n")
    return True


def _run(name):
    # A frozen script comes before one of the same name on the filesystem. False when it raised.
    for folder in ("/rom/", "/"):
        try:
            file = open(folder + name)  # noqa: SIM115
        except OSError:
            continue
        source = file.read()
        file.close()
        try:
            exec(compile(source, name, "exec"), globals())
        except SystemExit:
            # sys.exit() in boot.py or main.py is a soft reset.
            import machine

            machine.soft_reset()
        except BaseException as e:  # noqa: BLE001
            sys.print_exception(e)
            return False
        return True
    return True


def _main():
    disk = vfs.VfsPosix(sys.argv[1])
    file = disk.open("/boot.json", "r")
    boot = json.load(file)
    file.close()
    vfs.umount("/")
    host = _install_standins(disk, boot)
    gc.collect()
    host.registers.put("standin_heap", gc.mem_alloc())
    if boot["measure"]:
        return None
    _keep.append(bytearray(boot["ballast"]))
    mounted = _mount_flash()
    sys.path[:] = ["", ".frozen", "/lib"]
    if boot["application"]:
        application = _folder_or_rom(disk, boot["source"], "app")
        vfs.mount(application, "/rom", readonly=True)
        sys.path.insert(1, "/rom")
    sys.argv.clear()
    gc.collect()
    if mounted and _run("boot.py") and boot["run_main"]:
        _run("main.py")
    host.send({"repl": True})
    return host


_host = _main()
if _host is not None and not _host.config["repl"]:
    _host.halt()
