"""Additional services (guide, chapter 9)."""

from firmware.at.errors import LOCATION, TIME, AtError


def time_query(module, command):
    """TIME? (9.1.1; decision D25)."""
    shown = module.clock.show()
    if shown is None:
        raise AtError(TIME)
    return shown


def where_query(module, command):
    """WHERE? (9.1.2): there is nothing in this module that could tell."""
    raise AtError(LOCATION)
