"""The firmware's version, as `CONF? Version` shows it."""

VERSION = b"0.1.0"

# An image with a lower one is never taken: raised when a release closes a hole, and only then.
SECURITY = 0

# 2026-11-01, in seconds since 1970: no time before this release can be right.
RELEASED = 1793491200
