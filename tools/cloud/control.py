"""The control socket's client: one JSON object a line, one answer each."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path


class ControlError(RuntimeError):
    """The cloud answered with an error, or is not there."""


def info(state: Path) -> dict:
    """The contents of `cloud.json`: host, ports, control socket, process id."""
    path = Path(state) / "cloud.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ControlError(f"no cloud has run in {state}") from None


def socket_path(state: Path) -> Path:
    """Where the control socket is; a long folder name puts it into the temporary folder."""
    return Path(state) / info(state)["control"]


class Control:
    """Talks to a running cloud. Every method raises ControlError when the cloud says no."""

    def __init__(self, state: Path, timeout: float = 10.0):
        """`state`: the cloud's folder; `timeout` in seconds for each answer."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(socket_path(state)))
        except OSError as error:
            self._socket.close()
            raise ControlError(f"no cloud answers in {state}: {error}") from error
        self._file = self._socket.makefile("rwb")

    def close(self) -> None:
        """Close the socket."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def request(self, message: dict) -> dict:
        """Send one object and return the answer."""
        try:
            self._file.write(json.dumps(message).encode() + b"\n")
            self._file.flush()
            line = self._file.readline()
        except OSError as error:
            raise ControlError(f"the cloud does not answer: {error}") from error
        if not line:
            raise ControlError("the cloud closed the control socket")
        answer = json.loads(line)
        if "error" in answer:
            raise ControlError(answer["error"])
        return answer

    # -- faults --
    def fault(self, kind: str, **fields) -> int:
        """Set a fault (`faults.KINDS`); returns its id. `count`, `client`, `every` limit it."""
        return self.request({"fault": {"kind": kind, **fields}})["fault"]

    def clear(self, what="all") -> int:
        """Clear a fault by id, all of a kind, or all; returns how many there were."""
        return self.request({"clear": what})["cleared"]

    def faults(self) -> list[dict]:
        """The faults that are set, with their hits."""
        return self.get("faults")

    def kick(self, client: str, reset: bool = False) -> None:
        """Close a live client's connection; with `reset`, by a TCP reset."""
        self.request({"kick": {"client": client, "reset": reset}})

    def inject(self, client: str, data: bytes) -> None:
        """Send raw bytes, MQTT or not, to a live client."""
        self.request({"inject": {"client": client, "hex": data.hex()}})

    # -- what is there --
    def get(self, name: str):
        """One of: clients, certificates, closings, counters, downloads, faults, files, jobs,
        retained, sessions, streams, provisionings, settings, sntp, templates, things."""
        return self.request({"get": name})[name]

    def clients(self) -> list[dict]:
        """The live clients: client id, certificate, things, keep-alive, subscriptions…"""
        return self.get("clients")

    def counters(self) -> dict:
        """How often things happened since the start."""
        return self.get("counters")

    def closings(self, client: str | None = None) -> list[dict]:
        """The last ends of connections: client, rule, detail; oldest first."""
        return [c for c in self.get("closings") if client in (None, c["client"])]

    def defender(self, thing: str) -> list[dict]:
        """The Device Defender reports of a thing, oldest first: time (ms), client, form, status
        (ACCEPTED, REJECTED, UNANSWERED), code and rule of a rejection, report (long names)."""
        return self.request({"defender": thing})["defender"]

    def wait_client(self, client: str, present: bool = True, timeout: float = 10.0) -> None:
        """Wait until a client is, or is no longer, connected; ControlError after `timeout`."""
        end = time.monotonic() + timeout
        while any(entry["client"] == client for entry in self.clients()) != present:
            if time.monotonic() > end:
                raise ControlError(f"{client} is {'not ' if present else ''}connected")
            time.sleep(0.02)

    # -- fleet provisioning --
    def put_template(self, name: str, body=None, **fields) -> None:
        """Create or change a provisioning template. `body`: JSON text or object, needed for a
        new one. `enabled`: bool. `hook`: see `hook.py`; None takes it away. What is not given
        stays."""
        given = {"name": name, **fields}
        if body is not None:
            given["body"] = body
        self.request({"put_template": given})

    def template(self, name: str) -> dict | None:
        """A template: name, enabled, hook, body (object); None when there is none."""
        return self.request({"template": name})["template"]

    def templates(self) -> list[str]:
        """The names of all templates."""
        return self.get("templates")

    def remove_template(self, name: str) -> None:
        """Remove a template."""
        self.request({"remove_template": name})

    def provisionings(self, client: str | None = None) -> list[dict]:
        """The last requests of fleet provisioning (`Provisioning.provisionings`), oldest first;
        of one client id if given."""
        return [p for p in self.get("provisionings") if client in (None, p["client"])]

    def thing(self, name: str) -> dict | None:
        """A thing: name, attributes, certificates (ids, oldest first); None without one."""
        return self.request({"thing": name})["thing"]

    # -- files and streams --
    def put_file(self, key: str, source) -> dict:
        """Keep a file under a key. `source`: bytes (up to some 500 KB), or the path of a file of
        any size. Returns its key, size, etag and sha256."""
        given = {"key": key}
        if isinstance(source, bytes):
            given["hex"] = source.hex()
        else:
            given["path"] = str(Path(source).absolute())
        return self.request({"put_file": given})["file"]

    def files(self) -> list[dict]:
        """The files: key, size, etag, sha256."""
        return self.get("files")

    def remove_file(self, key: str) -> None:
        """Remove a file."""
        self.request({"remove_file": key})

    def file_url(self, key: str, seconds: int = 1800) -> str:
        """A URL with which anybody may read the file for so long."""
        return self.request({"file_url": {"key": key, "seconds": seconds}})["url"]

    def downloads(self, key: str | None = None) -> list[dict]:
        """The last requests for files over HTTPS (`FileServer.downloads`), oldest first."""
        return [d for d in self.get("downloads") if key in (None, d["key"])]

    def put_stream(self, stream: str, files, description: str = "") -> int:
        """Make a stream, or give one new contents; returns its version. `files`: a list of keys
        (file ids from 0), or a map from file ids to keys."""
        given = {"stream": stream, "files": files, "description": description}
        return self.request({"put_stream": given})["version"]

    def stream(self, stream: str) -> dict | None:
        """A stream: stream, version, description, files (id, key, size, etag); None without."""
        return self.request({"stream": stream})["stream"]

    def streams(self) -> list[str]:
        """The ids of all streams."""
        return self.get("streams")

    def remove_stream(self, stream: str) -> None:
        """Remove a stream; its files stay."""
        self.request({"remove_stream": stream})

    def stream_requests(self, stream: str) -> list[dict]:
        """What devices asked of a stream (`Streams.requests`), oldest first."""
        return self.request({"stream_requests": stream})["stream_requests"]

    # -- jobs --
    def create_job(self, job: str, things: list[str], document, **fields) -> None:
        """A new job. `document`: object or JSON text. `description`; `url_life`: seconds that
        URLs in it stay good (1800); `timeout`: minutes that an execution may be in progress."""
        given = {"job": job, "things": things, "document": document, **fields}
        self.request({"create_job": given})

    def job(self, job: str) -> dict | None:
        """A job: job, status (IN_PROGRESS, COMPLETED, CANCELED), document (text), description,
        url_life, timeout, comment, reason, forced, created, updated, completed, counts (of its
        executions by status), executions (list as of `execution`); None without one."""
        return self.request({"job": job})["job"]

    def jobs(self) -> list[dict]:
        """All jobs, oldest first: job, status, description, counts, times."""
        return self.get("jobs")

    def execution(self, job: str, thing: str) -> dict:
        """One job on one thing: thing, job, number, status, details, version, queued, started,
        updated, seconds_left (None without a timer). ControlError without one."""
        return self.request({"execution": {"job": job, "thing": thing}})["execution"]

    def cancel_job(self, job: str, force: bool = False, **fields) -> None:
        """Cancel what is queued, with `force` also what is in progress. `comment`, `reason`."""
        self.request({"cancel_job": {"job": job, "force": force, **fields}})

    def delete_job(self, job: str, force: bool = False) -> None:
        """Delete a job that has ended, with `force` any."""
        self.request({"delete_job": {"job": job, "force": force}})

    def cancel_execution(self, job: str, thing: str, force: bool = False, **fields) -> None:
        """Cancel one execution. `expected_version`, `details` (statusDetails)."""
        given = {"job": job, "thing": thing, "force": force, **fields}
        self.request({"cancel_execution": given})

    def delete_execution(self, job: str, thing: str, force: bool = False) -> None:
        """Delete one execution that has ended, with `force` any."""
        self.request({"delete_execution": {"job": job, "thing": thing, "force": force}})

    def remove_target(self, job: str, thing: str) -> None:
        """The thing is no target any more: its execution becomes REMOVED."""
        self.request({"remove_target": {"job": job, "thing": thing}})

    def job_requests(self, thing: str, request: str | None = None) -> list[dict]:
        """What devices asked about a thing's jobs (`Jobs.requests`), oldest first; of one kind
        (get, start-next, describe, update) if given."""
        found = self.request({"job_requests": thing})["job_requests"]
        return [entry for entry in found if request in (None, entry["request"])]

    def wait_job(self, job: str, timeout: float = 10.0) -> dict:
        """Wait until no execution of a job is left to be done; the job, or ControlError."""
        end = time.monotonic() + timeout
        while True:
            found = self.job(job)
            if found is None:
                raise ControlError(f"there is no job {job}")
            if not found["counts"].keys() & {"QUEUED", "IN_PROGRESS"}:
                return found
            if time.monotonic() > end:
                raise ControlError(f"job {job}: {found['counts']} after {timeout:g} s")
            time.sleep(0.05)

    # -- messages and settings --
    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> int:
        """Publish as the cloud itself, to any topic; returns how many clients take it."""
        body = {"topic": topic, "hex": payload.hex(), "qos": qos, "retain": retain}
        return self.request({"publish": body})["taken"]

    def deliver(self, client: str, topic: str, payload: bytes, qos: int = 0) -> bool:
        """Send to one client that need not have subscribed; False when it is not there."""
        body = {"client": client, "topic": topic, "hex": payload.hex(), "qos": qos}
        return self.request({"deliver": body})["delivered"]

    def redeliver(self, client: str) -> int:
        """Send everything once more that a client has not acknowledged; returns how many."""
        return self.request({"redeliver": client})["redelivered"]

    def certificate(self, which: str, status: str) -> None:
        """Set the status of a certificate, named by id, start of the id, or thing."""
        self.request({"certificate": {"id": which, "status": status}})

    def forget(self, which: str) -> None:
        """Take a certificate out of the registry, named as for `certificate`."""
        self.request({"forget": which})

    def set(self, **values) -> None:
        """Change settings (`settings.Settings`)."""
        self.request({"set": values})

    def sntp(self, **values) -> None:
        """Change the time server: `mode`, `offset` in seconds."""
        self.request({"sntp": values})
