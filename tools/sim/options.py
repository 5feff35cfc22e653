"""The options of `python -m tools.sim`, as one value."""

from dataclasses import dataclass, field
from pathlib import Path

from tools.sim import access_points, romfs


@dataclass(frozen=True)
class Options:
    """state: the board's folder. heap: KiB of 32-bit words, None for plenty. baud: 0 unpaced.

    cloud, link, control, repl: paths or None. identity: birth, claim or none. factory_image: the
    filesystem of a new board, a path, in place of cloud and identity. access_points:
    (SSID, passphrase) pairs. stock: run from LittleFS. blank: a stock board without application.
    partitions: a key of partition_table.TABLES, None for the usual one or what the board has.
    slow: ESP32's times. source: the application's folder. vm: another MicroPython or None.
    """

    state: Path
    cloud: Path | None = None
    link: Path | None = None
    control: Path | None = None
    identity: str = "birth"
    factory_image: Path | None = None
    access_points: tuple = (access_points.DEFAULT,)
    heap: int | None = None
    stock: bool = False
    blank: bool = False
    partitions: str | None = None
    baud: int = 0
    slow: bool = False
    portal_port: int = 0
    repl: Path | None = None
    verbose: bool = False
    source: Path = field(default=romfs.ROOT)
    vm: str | None = None
