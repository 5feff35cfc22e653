"""What the VM prints on the board's console: kept in a file, its last lines at hand."""

import collections
import os

_LIMIT = 1 << 20
_LINES = 200


class ConsoleLog:
    """path: the file, which is set aside at 1 MiB. show: copy everything to standard error."""

    def __init__(self, path, show):
        self._path = path
        self._show = show
        self._lines = collections.deque([""], maxlen=_LINES)
        self._open()

    def _open(self):
        self._file = open(self._path, "ab")  # noqa: SIM115 - it stays open

    def add(self, data):
        """Keep `data` (bytes, as printed)."""
        if self._file.tell() > _LIMIT:
            self._file.close()
            os.replace(self._path, self._path.with_suffix(".log.1"))
            self._open()
        self._file.write(data)
        self._file.flush()
        if self._show:
            os.write(2, data)
        text = self._lines.pop() + data.decode(errors="replace").replace("\r", "")
        self._lines.extend(text.split("\n"))

    def tail(self, count):
        """The last `count` lines that are not empty, as one text."""
        lines = [line for line in self._lines if line]
        return "\n".join(lines[-count:]) or "(nothing)"

    def close(self):
        self._file.close()
