"""The firmware's version, as `CONF? Version` shows it."""

VERSION = b"0.1.0"
