"""The registry: certificates, things and policies, in an SQLite file.

Several processes may have it open at once (write-ahead log): the cloud itself, the manufacture of
virtual modules, the fleet manager. `changed()` tells a reader that another one has written.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from tools.cloud import pki, policy

STATUSES = ("ACTIVE", "INACTIVE", "PENDING_ACTIVATION", "REVOKED")
_THING_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_POLICY_NAME = re.compile(r"[\w+=,.@:-]{1,128}", re.ASCII)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS certificates (
    id TEXT PRIMARY KEY, pem TEXT NOT NULL, status TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS things (
    name TEXT PRIMARY KEY, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS policies (
    name TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS thing_certificates (
    thing TEXT NOT NULL REFERENCES things(name) ON DELETE CASCADE,
    certificate TEXT NOT NULL REFERENCES certificates(id) ON DELETE CASCADE,
    PRIMARY KEY (thing, certificate));
CREATE TABLE IF NOT EXISTS policy_certificates (
    policy TEXT NOT NULL REFERENCES policies(name) ON DELETE CASCADE,
    certificate TEXT NOT NULL REFERENCES certificates(id) ON DELETE CASCADE,
    PRIMARY KEY (policy, certificate));
CREATE TABLE IF NOT EXISTS thing_attributes (
    thing TEXT NOT NULL REFERENCES things(name) ON DELETE CASCADE,
    name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (thing, name));
CREATE TABLE IF NOT EXISTS templates (
    name TEXT PRIMARY KEY, body TEXT NOT NULL, enabled INTEGER NOT NULL, hook TEXT);
CREATE TABLE IF NOT EXISTS ownership_tokens (
    hash TEXT PRIMARY KEY,
    certificate TEXT NOT NULL REFERENCES certificates(id) ON DELETE CASCADE,
    claim TEXT NOT NULL, issued REAL NOT NULL);
"""


class RegistryError(ValueError):
    """The registry refuses: a bad name, or something that it does not hold."""


@dataclass(frozen=True)
class Principal:
    """A registered certificate with what hangs on it."""

    certificate_id: str
    status: str
    things: tuple[str, ...]
    policies: tuple[str, ...]
    documents: tuple[str, ...]

    @property
    def operator(self) -> bool:
        """Whether it may do everything and is exempt from faults that do not name it."""
        return "operator" in self.policies


class Registry:
    """One open registry file.

    `db` is its connection, for `template_store.py` and `ownership.py`, which keep the tables of
    fleet provisioning in it, and for those of jobs, streams and files.
    """

    def __init__(self, state: Path):
        """Open, or make, `registry.sqlite` in the cloud's folder."""
        Path(state).mkdir(parents=True, exist_ok=True)
        # Autocommit: each change is one statement or sits in an explicit transaction.
        self.db = sqlite3.connect(
            Path(state) / "registry.sqlite", timeout=10, isolation_level=None
        )
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute("PRAGMA foreign_keys=ON")
        self.db.executescript(_SCHEMA)
        with self.transaction():
            for name, document in policy.BUILT_IN.items():
                self.db.execute("INSERT OR IGNORE INTO policies VALUES (?,?)", (name, document))
        self._seen = self._version()

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def transaction(self):
        """A context: all changes inside it, or none."""
        return _Transaction(self.db)

    @contextlib.contextmanager
    def aside(self):
        """A transaction that `changed` does not tell of: it touches nobody's rights, and is too
        frequent for everything to be built anew after it."""
        before = self.db.total_changes
        with self.transaction():
            yield
        others, own = self._seen
        self._seen = others, own + self.db.total_changes - before

    def _version(self) -> tuple[int, int]:
        others = self.db.execute("PRAGMA data_version").fetchone()[0]
        return others, self.db.total_changes

    def changed(self) -> bool:
        """Whether anything was written, by this or another process, since the last call."""
        version = self._version()
        changed, self._seen = version != self._seen, version
        return changed

    # -- certificates --
    def add_certificate(self, pem: bytes, status: str = "ACTIVE") -> str:
        """Register a certificate; returns its id. One that is known only gets the new status."""
        if status not in STATUSES:
            raise RegistryError(f"no certificate status {status}")
        try:
            certificate = x509.load_pem_x509_certificate(pem)
        except ValueError as error:
            raise RegistryError(f"not a certificate in PEM: {error}") from error
        ident = pki.certificate_id(certificate)
        text = pki.Issuer(certificate, None).cert_pem.decode("ascii")
        self.db.execute(
            "INSERT INTO certificates VALUES (?,?,?,?) "
            "ON CONFLICT (id) DO UPDATE SET status = excluded.status",
            (ident, text, status, time.time()),
        )
        return ident

    def set_status(self, certificate_id: str, status: str) -> None:
        """Change a certificate's status, one of STATUSES."""
        if status not in STATUSES:
            raise RegistryError(f"no certificate status {status}")
        self._change("UPDATE certificates SET status = ? WHERE id = ?", (status, certificate_id))

    def delete_certificate(self, certificate_id: str) -> None:
        """Take a certificate out of the registry: its holder cannot connect any more."""
        self._change("DELETE FROM certificates WHERE id = ?", (certificate_id,))

    def find_certificate(self, text: str) -> str:
        """The full id for an id, an unambiguous beginning of one, or a thing name."""
        row = self.db.execute("SELECT id FROM certificates WHERE id = ?", (text,)).fetchone()
        if row:
            return row[0]
        rows = self.db.execute(
            "SELECT certificate FROM thing_certificates WHERE thing = ?", (text,)
        ).fetchall()
        if not rows and len(text) >= 6:
            rows = self.db.execute(
                "SELECT id FROM certificates WHERE substr(id, 1, ?) = ?", (len(text), text)
            ).fetchall()
        if len(rows) != 1:
            raise RegistryError(f"{len(rows)} certificates for {text}")
        return rows[0][0]

    def certificate_pems(self) -> list[str]:
        """Every registered certificate in PEM, whatever its status."""
        return [row[0] for row in self.db.execute("SELECT pem FROM certificates")]

    def certificate_pem(self, certificate_id: str) -> str | None:
        """A registered certificate in PEM, None when there is none of that id."""
        row = self.db.execute(
            "SELECT pem FROM certificates WHERE id = ?", (certificate_id,)
        ).fetchone()
        return row[0] if row else None

    def certificates(self) -> list[dict]:
        """Every certificate: id, status, things, policies."""
        rows = self.db.execute("SELECT id FROM certificates ORDER BY created").fetchall()
        found = (self.principal(row[0]) for row in rows)
        return [
            {
                "id": p.certificate_id,
                "status": p.status,
                "things": list(p.things),
                "policies": list(p.policies),
            }
            for p in found
            if p is not None
        ]

    def principal(self, certificate_id: str) -> Principal | None:
        """The certificate with its things and policies; None when it is not registered."""
        row = self.db.execute(
            "SELECT status FROM certificates WHERE id = ?", (certificate_id,)
        ).fetchone()
        if row is None:
            return None
        things = self.db.execute(
            "SELECT thing FROM thing_certificates WHERE certificate = ? ORDER BY thing",
            (certificate_id,),
        ).fetchall()
        policies = self.db.execute(
            "SELECT name, document FROM policies JOIN policy_certificates ON policy = name "
            "WHERE certificate = ? ORDER BY name",
            (certificate_id,),
        ).fetchall()
        return Principal(
            certificate_id,
            row[0],
            tuple(thing for (thing,) in things),
            tuple(name for name, _ in policies),
            tuple(document for _, document in policies),
        )

    # -- things --
    def add_thing(self, name: str) -> None:
        """Create a thing (1 to 128 of `[a-zA-Z0-9:_-]`); one that exists stays as it is."""
        if not _THING_NAME.fullmatch(name):
            raise RegistryError(f"not a thing name: {name!r}")
        self.db.execute("INSERT OR IGNORE INTO things VALUES (?,?)", (name, time.time()))

    def things(self) -> list[str]:
        """The names of all things."""
        return [row[0] for row in self.db.execute("SELECT name FROM things ORDER BY name")]

    def thing(self, name: str) -> dict | None:
        """A thing: `name`, `attributes`, ids of its `certificates`; None when there is none."""
        if self.db.execute("SELECT 1 FROM things WHERE name = ?", (name,)).fetchone() is None:
            return None
        attributes = self.db.execute(
            "SELECT name, value FROM thing_attributes WHERE thing = ? ORDER BY name", (name,)
        )
        certificates = self.db.execute(
            "SELECT id FROM certificates JOIN thing_certificates ON certificate = id "
            "WHERE thing = ? ORDER BY created",
            (name,),
        )
        return {
            "name": name,
            "attributes": dict(attributes.fetchall()),
            "certificates": [row[0] for row in certificates],
        }

    def set_attributes(self, thing: str, attributes: dict[str, str]) -> None:
        """Give a thing these attributes in place of the ones that it has; it must exist."""
        self.db.execute("DELETE FROM thing_attributes WHERE thing = ?", (thing,))
        rows = [(thing, name, value) for name, value in attributes.items()]
        try:
            self.db.executemany("INSERT INTO thing_attributes VALUES (?,?,?)", rows)
        except sqlite3.IntegrityError as error:
            raise RegistryError(f"there is no thing {thing}") from error

    def attach_thing(self, thing: str, certificate_id: str) -> None:
        """Say that a thing uses a certificate; both must exist."""
        self._attach("thing_certificates", thing, certificate_id)

    def detach_thing(self, thing: str, certificate_id: str) -> None:
        """Undo `attach_thing`."""
        self._change(
            "DELETE FROM thing_certificates WHERE thing = ? AND certificate = ?",
            (thing, certificate_id),
        )

    # -- policies --
    def put_policy(self, name: str, document: str) -> None:
        """Create or replace a policy; raises PolicyError when it cannot be evaluated whole."""
        if not _POLICY_NAME.fullmatch(name):
            raise RegistryError(f"not a policy name: {name!r}")
        policy.Evaluator([document], "x", "x")
        self.db.execute(
            "INSERT INTO policies VALUES (?,?) "
            "ON CONFLICT (name) DO UPDATE SET document = excluded.document",
            (name, document),
        )

    def attach_policy(self, name: str, certificate_id: str) -> None:
        """Give a certificate a policy; both must exist."""
        self._attach("policy_certificates", name, certificate_id)

    def detach_policy(self, name: str, certificate_id: str) -> None:
        """Undo `attach_policy`."""
        self._change(
            "DELETE FROM policy_certificates WHERE policy = ? AND certificate = ?",
            (name, certificate_id),
        )

    def _attach(self, table: str, name: str, certificate_id: str) -> None:
        try:
            self.db.execute(f"INSERT OR IGNORE INTO {table} VALUES (?,?)", (name, certificate_id))
        except sqlite3.IntegrityError as error:
            raise RegistryError(f"{name} or certificate {certificate_id} is unknown") from error

    def _change(self, statement: str, values: tuple) -> None:
        if self.db.execute(statement, values).rowcount < 1:
            raise RegistryError(f"the registry does not hold {values[-1]}")


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK when the block raises."""

    def __init__(self, db: sqlite3.Connection):
        self.db = db

    def __enter__(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind, *_) -> None:
        self.db.execute("COMMIT" if kind is None else "ROLLBACK")
