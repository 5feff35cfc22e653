"""The virtual module: the firmware, unchanged, on the MicroPython VM of a PC."""
