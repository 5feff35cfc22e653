"""Files that devices may fetch: kept under a key as in S3, in the cloud's folder.

A URL of a file carries the right to read it until it expires, as S3's presigned ones do; whoever
has it needs no certificate (rule `file-url`).
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlencode, urlsplit

from tools.cloud import pki

PATH = "/files/"
LONGEST_LIFE = 604800
_KEY = re.compile(r"[\w!.*'()/-]{1,1024}", re.ASCII)
_PLACEHOLDER = re.compile(r"\$\{aws:iot:s3-presigned-url(?:-v2)?:([^}]*)\}")
_DATE = "%Y%m%dT%H%M%SZ"
_PIECE = 1 << 20
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, etag TEXT NOT NULL, size INTEGER NOT NULL,
    stored REAL NOT NULL);
"""


class FileError(ValueError):
    """There is no such file, or the key or the request is none."""


@dataclass(frozen=True)
class Stored:
    """One file: `etag` is its MD5 in hexadecimal digits, as S3 gives it; `size` in bytes."""

    key: str
    sha256: str
    etag: str
    size: int
    stored: float

    def as_dict(self) -> dict:
        """For the control socket."""
        return {"key": self.key, "size": self.size, "etag": self.etag, "sha256": self.sha256}


class FileStore:
    """The files of one cloud. Contents lie in `folder`, named by their SHA-256."""

    def __init__(self, registry, folder: Path, secret_file: Path, clock=time.time):
        """`secret_file`: where the key that URLs are signed with is kept (made when missing).
        `clock`: seconds since 1970."""
        self._registry = registry
        self._db = registry.db
        self._db.executescript(_SCHEMA)
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob("new-*"):
            # A cloud was killed in the middle of `put`.
            left.unlink()
        self._clock = clock
        self.port = 0  # of the HTTPS server, known when it listens
        if not secret_file.exists():
            pki.write_private(secret_file, secrets.token_bytes(32))
        self._secret = secret_file.read_bytes()

    # -- what is there --
    def put(self, key: str, source) -> Stored:
        """Keep a file under a key, in place of what was there. `source`: bytes, or a path."""
        if not isinstance(key, str) or not _KEY.fullmatch(key) or key.startswith("/"):
            raise FileError("a key has 1 to 1024 letters, digits and !-_.*'()/")
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        temporary = self._folder / f"new-{secrets.token_hex(8)}"
        try:
            with open(temporary, "wb") as out:
                for piece in _pieces(source):
                    sha256.update(piece)
                    md5.update(piece)
                    size += len(piece)
                    out.write(piece)
            digest = sha256.hexdigest()
            os.replace(temporary, self._folder / digest)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise FileError(f"{source}: {error.strerror}") from error
        old = self.get(key)
        with self._registry.aside():
            self._db.execute(
                "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?)",
                (key, digest, md5.hexdigest(), size, self._clock()),
            )
        self._drop(old)
        return self.get(key)

    def get(self, key: str) -> Stored | None:
        """The file under a key, or None."""
        row = self._db.execute("SELECT * FROM files WHERE key = ?", (key,)).fetchone()
        return Stored(*row) if row else None

    def files(self) -> list[Stored]:
        """All files, by key."""
        return [Stored(*row) for row in self._db.execute("SELECT * FROM files ORDER BY key")]

    def remove(self, key: str) -> None:
        """Remove a file; FileError when there is none."""
        old = self.get(key)
        if old is None:
            raise FileError(f"no file {key}")
        with self._registry.aside():
            self._db.execute("DELETE FROM files WHERE key = ?", (key,))
        self._drop(old)

    def _drop(self, old: Stored | None) -> None:
        """Remove contents that no key stands for any more."""
        if old is None:
            return
        used = self._db.execute("SELECT 1 FROM files WHERE sha256 = ?", (old.sha256,)).fetchone()
        if used is None:
            (self._folder / old.sha256).unlink(missing_ok=True)

    def open(self, stored: Stored):
        """The contents, opened for reading; FileError when the file has gone."""
        try:
            return open(self._folder / stored.sha256, "rb")
        except FileNotFoundError:
            raise FileError(f"file {stored.key} has gone") from None

    # -- URLs --
    def url(self, key: str, seconds: float) -> str:
        """A URL with which anybody may read this file for so many seconds."""
        life = max(1, min(int(seconds), LONGEST_LIFE))
        now = datetime.datetime.fromtimestamp(self._clock(), datetime.timezone.utc)
        query = {"X-Amz-Date": now.strftime(_DATE), "X-Amz-Expires": str(life)}
        query["X-Amz-Signature"] = self._sign(key, query)
        return f"https://{pki.ENDPOINT}:{self.port}{PATH}{quote(key)}?{urlencode(query)}"

    def _sign(self, key: str, query) -> str:
        text = "\n".join((key, query["X-Amz-Date"], query["X-Amz-Expires"]))
        return hmac.new(self._secret, text.encode("utf-8"), hashlib.sha256).hexdigest()

    def refusal(self, key: str, query) -> str | None:
        """Why this query gives no right to read the file; None when it does."""
        needed = ("X-Amz-Date", "X-Amz-Expires", "X-Amz-Signature")
        if any(name not in query for name in needed):
            return "Access Denied"
        given = query["X-Amz-Signature"].encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, self._sign(key, query).encode("ascii")):
            return "The request signature does not match"
        made = datetime.datetime.strptime(query["X-Amz-Date"], _DATE)
        start = made.replace(tzinfo=datetime.timezone.utc).timestamp()
        if self._clock() >= start + int(query["X-Amz-Expires"]):
            return "Request has expired"
        return None

    def fill(self, value, seconds: float):
        """`value` with a fresh URL in place of each `${aws:iot:s3-presigned-url:…}` in its texts.

        Behind the colon stands a key, or a URL whose path is one.
        """
        if isinstance(value, dict):
            return {name: self.fill(item, seconds) for name, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, seconds) for item in value]
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda found: self.url(_key(found[1]), seconds), value)
        return value

    def check_placeholders(self, document: str) -> None:
        """FileError when a job document's text asks for the URL of a file that is not there."""
        for text in _PLACEHOLDER.findall(document):
            if self.get(_key(text)) is None:
                raise FileError(f"the document names a file that is not there: {_key(text)}")


def _key(text: str) -> str:
    if "://" not in text:
        return text
    return unquote(urlsplit(text).path.lstrip("/"))


def _pieces(source):
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece
