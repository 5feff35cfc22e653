"""What ESP32's frozen _boot.py and its C code do at a start: swaps the PC's filesystem for the
flash's, puts the stand-ins in the modules' places, runs boot.py and main.py as MicroPython does,
and leaves to the REPL.
"""

import gc
import json
import sys

import __main__
import vfs

_keep = []
# Bytes of a block of ballast, and how many of them are the object around it.
_BLOCK = 512
_OBJECT = 32


def _registers(disk):
    import sim_registers

    for argument in sys.argv[2:]:
        if argument.startswith("registers=") and len(argument) > 10:
            return sim_registers.Mapped(int(argument[10:].split(",")[0]))
    return sim_registers.Filed(disk, "/registers.bin")


def _install_standins(disk, boot, standins):
    path = list(sys.path)
    sys.path[:] = ["/sim", ".frozen"]
    import sim_host

    sim_host.setup(disk, _registers(disk), boot, standins)
    import time  # noqa: F401
    import os  # noqa: F401
    import machine  # noqa: F401
    import network  # noqa: F401
    import socket  # noqa: F401
    import sim_flash  # noqa: F401
    import sim_tls

    # This builtin cannot be replaced by a file.
    sys.modules["tls"] = sim_tls
    sys.modules["esp32"] = sim_host.Later("esp32")
    sys.modules["bluetooth"] = sim_host.Later("bluetooth")
    vfs.umount("/sim")
    sys.path[:] = path
    return sim_host


def _mount_flash():
    # As ESP32's _boot and inisetup do: only a blank flash is formatted.
    import sim_flash
    import sim_host

    place = next(row for row in sim_host.config["partitions"] if row[0] == "vfs")
    part = sim_flash.Area(place[3], place[4])
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
            exec(compile(source, name, "exec"), __main__.__dict__)
        except SystemExit:
            # sys.exit() in boot.py or main.py is a soft reset.
            import machine

            machine.soft_reset()
        except BaseException as e:  # noqa: BLE001
            sys.print_exception(e)
            return False
        return True
    return True


def run(disk, rom, standins):
    """Start the board in the state folder `disk`. rom: `start.rom`. standins: their filesystem."""
    file = disk.open("/boot.json", "r")
    boot = json.load(file)
    file.close()
    host = _install_standins(disk, boot, standins)
    gc.collect()
    host.registers.put("standin_heap", gc.mem_alloc())
    mounted = _mount_flash()
    sys.path[:] = ["", ".frozen", "/lib"]
    if boot["application"]:
        source = boot["source"]
        application = (vfs.VfsPosix(source), None) if source else rom(disk, "app")
        _keep.append(application)
        vfs.mount(application[0], "/rom", readonly=True)
        sys.path.insert(1, "/rom")
    sys.argv.clear()
    if boot["names"]:
        _keep.append(host.load("sim_names").settle("/rom", boot["heap"], boot["names"]))
        del sys.modules["sim_names"]
    for size in range(boot["ballast"], 0, -_BLOCK):
        host.ballast.append(bytearray(max(0, min(size, _BLOCK) - _OBJECT)))
    gc.collect()
    if mounted and _run("boot.py"):
        for path in sys.path:
            # The folder that boot.py has found the application in.
            if path.startswith("/app/"):
                host.send({"app": path})
        if boot["run_main"]:
            _run("main.py")
    host.send({"repl": True})
    if not boot["repl"]:
        host.halt()
