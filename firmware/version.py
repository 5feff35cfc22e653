"""The firmware's version, as `CONF? Version` shows it."""

VERSION = b"0.1.0"

# 2026-11-01, in seconds since 1970: no time before this release can be right.
RELEASED = 1793491200
