"""The control socket's server: looks into the cloud and changes it while it runs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from pathlib import Path

from tools.cloud import topics
from tools.cloud.registry import RegistryError

log = logging.getLogger("cloud")

_LONGEST = 100  # bytes of a Unix socket's path that every system takes
_LINE = 1 << 20


class ControlServer:
    """Serves `control.sock`. One request is one object with one of the keys in `_VERBS`."""

    def __init__(self, state: Path, broker, sntp, refresh):
        """`refresh()` brings the running cloud up to date after a change of the registry."""
        self._state = Path(state)
        self._broker = broker
        self._sntp = sntp
        self._refresh = refresh
        self._server: asyncio.Server | None = None
        self._folder: str | None = None
        self._path: Path | None = None
        self._views: dict[str, object] = {}
        self._verbs = {
            "get": self._get,
            "fault": lambda body: {"ok": True, "fault": broker.set_fault(body)},
            "clear": lambda body: {"ok": True, "cleared": broker.clear_faults(body)},
            "kick": self._kick,
            "inject": self._inject,
            "publish": self._publish,
            "deliver": self._deliver,
            "redeliver": self._redeliver,
            "certificate": self._certificate,
            "forget": self._forget,
            "set": lambda body: broker.settings.change(body),
            "sntp": lambda body: sntp.change(body),
        }

    def add_view(self, name: str, answer) -> None:
        """Serve one more view of `get`: `answer()` returns its value."""
        self._views[name] = answer

    def add(self, verb: str, answer) -> None:
        """Serve one more verb: `answer(body)` returns the object to answer with."""
        self._verbs[verb] = answer

    async def start(self) -> str:
        """Listen; returns the socket's name for `cloud.json`, relative when it fits."""
        name = "control.sock"
        self._path = (self._state / name).absolute()
        if len(os.fsencode(self._path)) > _LONGEST:
            self._folder = tempfile.mkdtemp(prefix="local-cloud-")
            self._path = Path(self._folder) / name
            name = str(self._path)
        self._path.unlink(missing_ok=True)
        # The mode is set before anybody can connect, not after.
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, str(self._path), limit=_LINE
            )
        finally:
            os.umask(mask)
        return name

    async def stop(self) -> None:
        """Close and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
            if self._folder:
                os.rmdir(self._folder)

    async def _serve(self, reader, writer) -> None:
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:
                    writer.write(b'{"error":"line over 1 MiB"}\n')
                    break
                if not line:
                    break
                writer.write(json.dumps(self.answer(line)).encode() + b"\n")
                await writer.drain()
        except ConnectionError as error:
            log.debug("control: %s", error)
        finally:
            writer.close()

    def answer(self, line: bytes) -> dict:
        """The answer to one line."""
        try:
            request = json.loads(line)
        except ValueError as error:
            return {"error": f"not JSON: {error}"}
        if not isinstance(request, dict) or len(request) != 1:
            return {"error": "one object with one key is expected"}
        (verb, body), *_ = request.items()
        if verb not in self._verbs:
            return {"error": f"no request {verb}: {', '.join(self._verbs)}"}
        try:
            return self._verbs[verb](body) or {"ok": True}
        except KeyError as error:
            return {"error": f"{verb} needs {error.args[0]}"}
        except (ValueError, TypeError, AttributeError, RegistryError) as error:
            return {"error": str(error)}

    # -- verbs --
    def _get(self, name: str) -> dict:
        broker = self._broker
        views = {
            "clients": lambda: [_client(c) for c in broker.connections if c.state == "open"],
            "certificates": broker.registry.certificates,
            "things": broker.registry.things,
            "closings": lambda: list(broker.closings),
            "counters": lambda: {**broker.counters, "sntp": self._sntp.requests},
            "faults": broker.faults.as_list,
            "settings": broker.settings.as_dict,
            "sntp": lambda: {"mode": self._sntp.mode, "offset": self._sntp.offset},
            "retained": lambda: {t: p.hex() for t, (p, _) in broker.retained.items()},
            "sessions": lambda: [_session(s) for s in broker.sessions.values()],
            **self._views,
        }
        if name not in views:
            raise ValueError(f"no view {name}: {', '.join(views)}")
        return {name: views[name]()}

    def _connection(self, client: str):
        connection = self._broker.client(client)
        if connection is None:
            raise ValueError(f"{client} is not connected")
        return connection

    def _kick(self, body: dict) -> None:
        connection = self._connection(body["client"])
        connection.end("server-stop", "kicked", abort=bool(body.get("reset")))

    def _inject(self, body: dict) -> None:
        self._connection(body["client"]).inject(bytes.fromhex(body["hex"]))

    def _publish(self, body: dict) -> dict:
        topic, payload, qos = body["topic"], _payload(body), _qos(body)
        if not topic or topics.has_wildcard(topic):
            raise ValueError(f"not a topic name: {topic!r}")
        taken = self._broker.publish(topic, payload, qos, bool(body.get("retain")))
        return {"ok": True, "taken": taken}

    def _deliver(self, body: dict) -> dict:
        sent = self._broker.deliver(body["client"], body["topic"], _payload(body), _qos(body))
        return {"ok": True, "delivered": sent}

    def _redeliver(self, client: str) -> dict:
        connection = self._connection(client)
        return {"ok": True, "redelivered": connection.session.redeliver()}

    def _certificate(self, body: dict) -> None:
        registry = self._broker.registry
        registry.set_status(registry.find_certificate(body["id"]), body["status"])
        self._refresh()

    def _forget(self, which: str) -> None:
        registry = self._broker.registry
        registry.delete_certificate(registry.find_certificate(which))
        self._refresh()


def _payload(body: dict) -> bytes:
    """A payload given as `text`, `hex`, or `size` (that many zero bytes)."""
    if "hex" in body:
        return bytes.fromhex(body["hex"])
    if "size" in body:
        return bytes(body["size"])
    return body.get("text", "").encode()


def _qos(body: dict) -> int:
    qos = body.get("qos", 0)
    if qos not in (0, 1):
        raise ValueError("qos is 0 or 1")
    return qos


def _client(connection) -> dict:
    return {
        "client": connection.client_id,
        "address": connection.address,
        "certificate": connection.principal.certificate_id,
        "things": list(connection.principal.things),
        "operator": connection.principal.operator,
        "keep_alive": connection.keep_alive,
        "clean": connection.session.clean,
        "subscriptions": connection.session.subscriptions,
        "inflight": len(connection.session.inflight),
        "muted": bool(connection.muted_by),
        "exceeded": connection.meter.exceeded(),
    }


def _session(session) -> dict:
    return {
        "client": session.client_id,
        "clean": session.clean,
        "connected": session.connection is not None,
        "subscriptions": session.subscriptions,
        "backlog": len(session.backlog),
        "waiting": len(session.waiting),
        "inflight": len(session.inflight),
        "lost": session.lost,
    }
