"""The jobs of a registry and their executions, as rows.

Like the rest of the registry they outlive the cloud. What may happen to them is decided in
`job_engine.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, document TEXT NOT NULL, description TEXT NOT NULL,
    url_life INTEGER NOT NULL, timeout INTEGER, status TEXT NOT NULL, comment TEXT,
    reason TEXT, forced INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL,
    updated REAL NOT NULL, completed REAL);
CREATE TABLE IF NOT EXISTS executions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    thing TEXT NOT NULL, number INTEGER NOT NULL, status TEXT NOT NULL, details TEXT NOT NULL,
    version INTEGER NOT NULL, queued REAL NOT NULL, started REAL, updated REAL NOT NULL,
    step_end REAL, run_end REAL, UNIQUE (job, thing));
CREATE INDEX IF NOT EXISTS executions_of_thing ON executions (thing, status);
"""
_JOB = "id, document, description, url_life, timeout, status, comment, reason, forced, created"
_JOB += ", updated, completed"
_EXECUTION = "job, thing, number, status, details, version, queued, started, updated"
_EXECUTION += ", step_end, run_end"
PENDING = ("IN_PROGRESS", "QUEUED")


@dataclass
class Job:
    """One job. Times in seconds since 1970; `timeout` in minutes, None without one."""

    id: str
    document: str
    description: str
    url_life: int
    timeout: int | None
    status: str
    comment: str | None
    reason: str | None
    forced: int
    created: float
    updated: float
    completed: float | None


@dataclass
class Execution:
    """One job on one thing. `step_end` and `run_end`: when its two timers run out."""

    job: str
    thing: str
    number: int
    status: str
    details: dict
    version: int
    queued: float
    started: float | None
    updated: float
    step_end: float | None
    run_end: float | None

    @property
    def pending(self) -> bool:
        """Whether it is still on the thing's list."""
        return self.status in PENDING


def _execution(row) -> Execution:
    return Execution(*row[:4], json.loads(row[4]), *row[5:])


class JobStore:
    """The two tables in one open registry."""

    def __init__(self, registry):
        self._registry = registry
        self._db = registry.db
        self._db.executescript(_SCHEMA)

    def transaction(self):
        """A context: all changes inside it, or none. They concern nobody's rights, so that no
        connection is judged anew because of them."""
        return self._registry.aside()

    def add(self, job: Job, things: list[str]) -> None:
        """A new job and one queued execution for each thing."""
        values = (
            job.id,
            job.document,
            job.description,
            job.url_life,
            job.timeout,
            job.status,
            job.comment,
            job.reason,
            job.forced,
            job.created,
            job.updated,
            job.completed,
        )
        self._db.execute(f"INSERT INTO jobs ({_JOB}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", values)
        now = job.created
        self._db.executemany(
            f"INSERT INTO executions ({_EXECUTION}) VALUES (?,?,1,'QUEUED','{{}}',1,?,?,?,?,?)",
            [(job.id, thing, now, None, now, None, None) for thing in things],
        )

    def job(self, ident: str) -> Job | None:
        """A job by its id."""
        row = self._db.execute(f"SELECT {_JOB} FROM jobs WHERE id = ?", (ident,)).fetchone()
        return Job(*row) if row else None

    def jobs(self) -> list[Job]:
        """Every job, oldest first."""
        rows = self._db.execute(f"SELECT {_JOB} FROM jobs ORDER BY created, id")
        return [Job(*row) for row in rows]

    def save_job(self, job: Job) -> None:
        """Write back what may change of a job."""
        self._db.execute(
            "UPDATE jobs SET status = ?, comment = ?, reason = ?, forced = ?, updated = ?, "
            "completed = ? WHERE id = ?",
            (
                job.status,
                job.comment,
                job.reason,
                job.forced,
                job.updated,
                job.completed,
                job.id,
            ),
        )

    def delete_job(self, ident: str) -> None:
        """Remove a job and its executions."""
        self._db.execute("DELETE FROM jobs WHERE id = ?", (ident,))

    def execution(self, job: str, thing: str) -> Execution | None:
        """The execution of a job on a thing."""
        found = self._select("job = ? AND thing = ?", (job, thing))
        return found[0] if found else None

    def executions(self, job: str) -> list[Execution]:
        """All executions of a job, in the order of its things."""
        return self._select("job = ?", (job,))

    def pending(self, thing: str) -> list[Execution]:
        """What a thing has to do: in progress before queued, then in the order of queueing."""
        found = self._select("thing = ? AND status IN ('IN_PROGRESS', 'QUEUED')", (thing,))
        return sorted(found, key=lambda e: (e.status == "QUEUED", e.queued))

    def overdue(self, now: float) -> list[Execution]:
        """The executions in progress one of whose timers has run out."""
        return self._select(
            "status = 'IN_PROGRESS' AND (step_end <= ? OR run_end <= ?)", (now, now)
        )

    def _select(self, where: str, values: tuple) -> list[Execution]:
        rows = self._db.execute(
            f"SELECT {_EXECUTION} FROM executions WHERE {where} ORDER BY sequence", values
        )
        return [_execution(row) for row in rows]

    def save(self, execution: Execution) -> None:
        """Write back what may change of an execution."""
        self._db.execute(
            "UPDATE executions SET status = ?, details = ?, version = ?, started = ?, "
            "updated = ?, step_end = ?, run_end = ? WHERE job = ? AND thing = ?",
            (
                execution.status,
                json.dumps(execution.details),
                execution.version,
                execution.started,
                execution.updated,
                execution.step_end,
                execution.run_end,
                execution.job,
                execution.thing,
            ),
        )

    def delete(self, execution: Execution) -> None:
        """Remove one execution."""
        self._db.execute(
            "DELETE FROM executions WHERE job = ? AND thing = ?", (execution.job, execution.thing)
        )
