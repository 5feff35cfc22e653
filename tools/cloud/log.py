"""The log's line format."""

from __future__ import annotations

import logging


class OneLine(logging.Formatter):
    """Client ids and topics come from outside; nothing in them may start a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message with every unprintable character escaped."""
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
