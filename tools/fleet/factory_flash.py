"""The commands that put what was made onto chips: flash.txt."""

from firmware.board import BOARDS
from tools.fleet.factory_layout import BOOTLOADER

_FIRMWARE = "micropython.bin"


def command(order, image):
    """The esptool command line that makes a whole module of an empty or used chip. image: the
    path of its filesystem image."""
    chip = BOARDS[order.board]["chip"]
    # The whole chip, so that neither NVS nor an older filesystem keeps anything.
    return (
        f"esptool --chip {chip} --port {order.port} --baud 460800 write-flash --erase-all"
        f" {BOOTLOADER[chip]:#x} {_FIRMWARE} {order.layout.address:#x} {image}"
    )


def verification(order, image):
    """The command line that compares the filesystem on the chip with its image."""
    chip = BOARDS[order.board]["chip"]
    return (
        f"esptool --chip {chip} --port {order.port} verify-flash {order.layout.address:#x} {image}"
    )


def text(order, made):
    """What flash.txt says. made: a list of factory_make.Made."""
    layout = order.layout
    count = f"{len(made)} module{'s' if len(made) > 1 else ''}"
    lines = [
        f"{order.board}: {count}",
        f"The filesystem lies at {layout.address:#x} and has {layout.size:#x} bytes:",
        f"{layout.name}, {layout.evidence}.",
        "",
    ]
    if order.firmware is None:
        lines += [
            f"{_FIRMWARE} is MicroPython's image for the board (with bootloader and partition",
            "table); put it here. The address has to be that of its filesystem: a module whose",
            "image lies elsewhere, or has another size, does not start.",
            "",
        ]
    if not order.application:
        lines += [
            "The images hold the factory data only: the application has to be frozen into",
            f"{_FIRMWARE}.",
            "",
        ]
    if layout.name == "virtual-8MiB":
        lines += [
            "A virtual module is made from an image with this option of its own:",
            "",
            f"python -m tools.sim --factory-image {made[0].image} …",
            "",
        ]
    lines += [
        "In this folder, each module at its own chip (esptool 5; older ones write write_flash);",
        "all that was on the chip is erased:",
        "",
        *(command(order, one.image) for one in made),
        "",
        "To compare before the first start (the module changes its filesystem then):",
        "",
        verification(order, made[0].image if len(made) == 1 else "images/SERIAL.bin"),
        "",
    ]
    return "\n".join(lines)
