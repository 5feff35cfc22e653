"""What updates fail with. The base of all their errors, so that whoever catches one needs not have
in memory what has raised it."""


class Fault(Exception):
    """The argument (bytes) says why, fit for the host and for the cloud."""
