"""The fleet manager: makes modules, sets them up, looks after them."""
