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
        """One of: clients, certificates, closings, counters, faults, retained, sessions,
        provisionings, settings, sntp, templates, things."""
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
