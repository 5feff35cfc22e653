"""Which modules are to be made: one, a number of them, or those of a CSV file."""

import csv
from dataclasses import dataclass

from tools import factory

_COLUMNS = {"serial", "thing", "about"}
MAX_UNITS = 10000


@dataclass(frozen=True)
class Unit:
    """One module to make. serial: None for a single image without one. thing, about: None for
    what all have."""

    serial: str | None
    thing: str | None = None
    about: str | None = None

    @property
    def file(self):
        """The name of its image."""
        return f"{self.serial or 'module'}.bin"


def counted(count, prefix, start):
    """`count` modules whose serial numbers are `prefix` and six digits, from `start` on.

    Raises ValueError."""
    if not 1 <= count <= MAX_UNITS:
        raise ValueError(f"{count} modules are not 1 to {MAX_UNITS}")
    units = [Unit(f"{prefix}{number:06d}") for number in range(start, start + count)]
    factory.check_serial(units[-1].serial)
    return units


def listed(file, name):
    """The modules of the CSV file that the open text file `file` is; `name` is for messages.

    Raises ValueError with the line's number."""
    rows = csv.DictReader(file, skipinitialspace=True, strict=True)
    try:
        columns = [column.strip() for column in rows.fieldnames or []]
        _check_columns(columns, name)
        rows.fieldnames = columns
        units = [_unit(row, f"{name}, line {rows.line_num}") for row in rows]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is no CSV file: {error}") from None
    if not 1 <= len(units) <= MAX_UNITS:
        raise ValueError(f"{name} has {len(units)} modules; 1 to {MAX_UNITS} are needed")
    _check_unique(units, name)
    return units


def _check_columns(columns, name):
    if "serial" not in columns:
        raise ValueError(f"{name} has no column `serial` in its first line")
    unknown = [column for column in columns if column not in _COLUMNS]
    if unknown or len(set(columns)) < len(columns):
        raise ValueError(
            f"{name} may have the columns serial, thing and about, not {', '.join(columns)}"
        )


def _unit(row, place):
    if None in row or None in row.values():
        raise ValueError(f"{place}: not as many fields as there are columns")
    values = {column: text.strip() or None for column, text in row.items()}
    try:
        factory.check_serial(values["serial"] or "")
        if values.get("thing"):
            factory.check_thing(values["thing"])
        if values.get("about"):
            factory.check_about(values["about"])
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    return Unit(**values)


def _check_unique(units, name):
    # Files are named after them, and not every disk tells A from a.
    serials, things = set(), set()
    for unit in units:
        serial = unit.serial.lower()
        if serial in serials:
            raise ValueError(f"{name}: the serial number {unit.serial} is there twice")
        serials.add(serial)
        if unit.thing in things:
            raise ValueError(f"{name}: the thing name {unit.thing} is there twice")
        if unit.thing:
            things.add(unit.thing)
