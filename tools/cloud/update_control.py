"""The control socket's requests about jobs, streams and files."""

from __future__ import annotations

from collections import Counter

from tools.cloud.control_server import ControlServer
from tools.cloud.file_server import FileServer
from tools.cloud.files import FileError, FileStore
from tools.cloud.job_engine import Engine
from tools.cloud.job_store import Execution, Job
from tools.cloud.jobs import Jobs
from tools.cloud.streams import Streams

# verb -> (fields it must have, fields it may have)
_FIELDS = {
    "put_file": ({"key"}, {"path", "hex"}),
    "file_url": ({"key"}, {"seconds"}),
    "put_stream": ({"stream", "files"}, {"description"}),
    "create_job": ({"job", "things", "document"}, {"description", "url_life", "timeout"}),
    "execution": ({"job", "thing"}, set()),
    "cancel_job": ({"job"}, {"force", "comment", "reason"}),
    "delete_job": ({"job"}, {"force"}),
    "cancel_execution": ({"job", "thing"}, {"force", "expected_version", "details"}),
    "delete_execution": ({"job", "thing"}, {"force"}),
    "remove_target": ({"job", "thing"}, set()),
}


def add(
    control: ControlServer, jobs: Jobs, streams: Streams, files: FileStore, server: FileServer
) -> None:
    """Serve the verbs of `_FIELDS`, some that take a name alone, and the views."""
    engine = jobs.engine

    def create(**given) -> None:
        document = given["document"]
        if isinstance(document, str):
            files.check_placeholders(document)
        else:
            _each_text(document, files.check_placeholders)
        engine.create(**given)

    def execution(job: str, thing: str) -> dict:
        return {"execution": _execution(engine, engine.execution(job, thing))}

    def url(key: str, seconds: int = 1800) -> dict:
        if files.get(key) is None:
            raise FileError(f"no file {key}")
        if type(seconds) is not int or seconds < 1:
            raise FileError("seconds takes a whole number from 1")
        return {"url": files.url(key, seconds)}

    def job(name: str) -> dict:
        found = engine.store.job(name)
        return {"job": None if found is None else _job(engine, found, True)}

    def stream(name: str) -> dict:
        found = streams.store.get(name)
        return {"stream": None if found is None else found.as_dict()}

    verbs = {
        "put_file": lambda **given: {"file": _put(files, **given)},
        "file_url": url,
        "put_stream": lambda **given: {"version": streams.store.put(**given)},
        "create_job": create,
        "execution": execution,
        "cancel_job": engine.cancel,
        "delete_job": engine.delete,
        "cancel_execution": engine.cancel_execution,
        "delete_execution": engine.delete_execution,
        "remove_target": engine.remove_target,
    }
    for verb, work in verbs.items():
        control.add(verb, _checked(verb, work))
    control.add("remove_file", files.remove)
    control.add("remove_stream", streams.store.remove)
    control.add("stream", stream)
    control.add("job", job)
    control.add("job_requests", lambda thing: {"job_requests": jobs.requests(thing)})
    control.add("stream_requests", lambda name: {"stream_requests": streams.requests(name)})
    control.add_view("files", lambda: [file.as_dict() for file in files.files()])
    control.add_view("streams", streams.store.streams)
    control.add_view("jobs", lambda: [_job(engine, found, False) for found in engine.store.jobs()])
    control.add_view("downloads", server.downloads)


def _checked(verb: str, work):
    """`work` behind a look at the fields of the request."""
    needed, allowed = _FIELDS[verb]

    def answer(body: dict):
        unknown = set(body) - needed - allowed
        if unknown:
            raise ValueError(f"{verb} takes no {', '.join(sorted(unknown))}")
        missing = needed - set(body)
        if missing:
            raise ValueError(f"{verb} needs {', '.join(sorted(missing))}")
        return work(**body)

    return answer


def _put(files: FileStore, key: str, path: str | None = None, hex: str | None = None) -> dict:
    if (path is None) == (hex is None):
        raise FileError("put_file takes one of path and hex")
    return files.put(key, bytes.fromhex(hex) if path is None else path).as_dict()


def _each_text(value, look) -> None:
    """Call `look` for each text in a JSON value."""
    if isinstance(value, str):
        look(value)
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _each_text(item, look)


def _job(engine: Engine, job: Job, whole: bool) -> dict:
    executions = engine.store.executions(job.id)
    shown = {
        "job": job.id,
        "status": job.status,
        "description": job.description,
        "created": job.created,
        "updated": job.updated,
        "completed": job.completed,
        "counts": dict(Counter(e.status for e in executions)),
    }
    if whole:
        shown |= {
            "document": job.document,
            "url_life": job.url_life,
            "timeout": job.timeout,
            "comment": job.comment,
            "reason": job.reason,
            "forced": bool(job.forced),
            "executions": [_execution(engine, e) for e in executions],
        }
    return shown


def _execution(engine: Engine, execution: Execution) -> dict:
    return {
        "thing": execution.thing,
        "job": execution.job,
        "number": execution.number,
        "status": execution.status,
        "details": execution.details,
        "version": execution.version,
        "queued": execution.queued,
        "started": execution.started,
        "updated": execution.updated,
        "seconds_left": engine.seconds_left(execution),
    }
