"""The streams of a registry: which files a stream holds, in which version."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from tools.cloud.files import FileStore

MAX_FILES = 50
MAX_SIZE = 24 * 1024 * 1024
LAST_FILE_ID = 255
STREAM_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, description TEXT NOT NULL,
    created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS stream_files (
    stream TEXT NOT NULL REFERENCES streams(id) ON DELETE CASCADE,
    file INTEGER NOT NULL, key TEXT NOT NULL, etag TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (stream, file));
"""


class StreamError(ValueError):
    """There is no such stream, or it is none that can be made."""


@dataclass(frozen=True)
class StreamFile:
    """One file of a stream, as it was when the stream was made; `size` in bytes."""

    id: int
    key: str
    etag: str
    size: int


@dataclass(frozen=True)
class Stream:
    """A stream. `version` rises with every change."""

    id: str
    version: int
    description: str
    files: tuple[StreamFile, ...]

    def file(self, ident: int) -> StreamFile | None:
        """The file with this id."""
        found = [file for file in self.files if file.id == ident]
        return found[0] if found else None

    def as_dict(self) -> dict:
        """For the control socket."""
        files = [{"id": f.id, "key": f.key, "size": f.size, "etag": f.etag} for f in self.files]
        return {
            "stream": self.id,
            "version": self.version,
            "description": self.description,
            "files": files,
        }


class StreamStore:
    """The streams over one store of files."""

    def __init__(self, registry, files: FileStore):
        self._registry = registry
        self._db = registry.db
        self._db.executescript(_SCHEMA)
        self._files = files

    def put(self, stream: str, files, description: str = "") -> int:
        """Make a stream, or give one that exists new contents; returns its version (rule
        `stream-limits`). `files`: keys, or a map from file ids to keys."""
        if not isinstance(stream, str) or not STREAM_ID.fullmatch(stream):
            raise StreamError("a stream id has 1 to 128 of [a-zA-Z0-9_-]")
        if isinstance(files, dict):
            chosen = {_file_id(ident): key for ident, key in files.items()}
        elif isinstance(files, list):
            chosen = dict(enumerate(files))
        else:
            raise StreamError("files is a list of keys, or a map from file ids to keys")
        if not 1 <= len(chosen) <= MAX_FILES:
            raise StreamError(f"a stream has 1 to {MAX_FILES} files")
        if not isinstance(description, str):
            raise StreamError("description is a text")
        rows = []
        for ident, key in sorted(chosen.items()):
            stored = self._files.get(key)
            if stored is None:
                raise StreamError(f"no file {key}")
            if stored.size > MAX_SIZE:
                raise StreamError(f"{key} has more than {MAX_SIZE} bytes")
            rows.append((stream, ident, key, stored.etag, stored.size))
        old = self.get(stream)
        version = 1 if old is None else old.version + 1
        with self._registry.aside():
            self._db.execute(
                "INSERT INTO streams VALUES (?,?,?,?) ON CONFLICT (id) DO UPDATE "
                "SET version = excluded.version, description = excluded.description",
                (stream, version, description, time.time()),
            )
            self._db.execute("DELETE FROM stream_files WHERE stream = ?", (stream,))
            self._db.executemany("INSERT INTO stream_files VALUES (?,?,?,?,?)", rows)
        return version

    def get(self, stream: str) -> Stream | None:
        """A stream, or None."""
        row = self._db.execute(
            "SELECT id, version, description FROM streams WHERE id = ?", (stream,)
        ).fetchone()
        if row is None:
            return None
        files = self._db.execute(
            "SELECT file, key, etag, size FROM stream_files WHERE stream = ? ORDER BY file",
            (stream,),
        )
        return Stream(*row, tuple(StreamFile(*entry) for entry in files))

    def streams(self) -> list[str]:
        """The ids of all streams."""
        return [row[0] for row in self._db.execute("SELECT id FROM streams ORDER BY id")]

    def remove(self, stream: str) -> None:
        """Remove a stream; its files stay."""
        with self._registry.aside():
            done = self._db.execute("DELETE FROM streams WHERE id = ?", (stream,))
        if done.rowcount < 1:
            raise StreamError(f"no stream {stream}")


def _file_id(ident) -> int:
    """A file id; JSON has only texts as names."""
    text = str(ident)
    if not text.isdecimal() or int(text) > LAST_FILE_ID:
        raise StreamError(f"a file id is 0 to {LAST_FILE_ID}, not {ident!r}")
    return int(text)
