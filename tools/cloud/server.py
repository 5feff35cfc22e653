"""The composition root: makes the parts of the local cloud, runs them, ends them."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
from pathlib import Path

from tools.cloud import (
    control_server,
    https,
    identity,
    listening,
    pki,
    provisioning_control,
    tls,
    update_control,
)
from tools.cloud.broker import Broker
from tools.cloud.connection import Connection
from tools.cloud.defender import Defender
from tools.cloud.file_server import FileServer
from tools.cloud.files import FileStore
from tools.cloud.jobs import Jobs
from tools.cloud.provisioning import Provisioning
from tools.cloud.registry import Registry
from tools.cloud.settings import Settings
from tools.cloud.sntp import SntpServer
from tools.cloud.streams import Streams

log = logging.getLogger("cloud")

_WATCH = 0.25  # seconds between looks at the registry for changes by other processes


class AlreadyRunning(RuntimeError):
    """Another cloud works in this folder."""


class Cloud:
    """One local cloud over one folder."""

    def __init__(self, state: Path, port: int, http_port: int, kind: str, settings: Settings):
        """`kind`: rsa or ec, the server chain's keys. Ports: 0 takes a free one."""
        self.state = Path(state)
        self.settings = settings
        self._ports = (port, http_port)
        self._kind = kind
        self._lock = -1

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises AlreadyRunning and listening.PortTaken."""
        self._take_folder()
        mqtt_port, mqtt_sockets = listening.loopback(self._ports[0])
        http_port, http_sockets = listening.loopback(self._ports[1])
        sntp_port, sntp_sockets = self._sntp_sockets()
        store = identity.prepare(self.state)
        self.registry = Registry(self.state)
        self.contexts = tls.Contexts(store, self.registry, self._kind)
        self.broker = Broker(self.registry, self.settings)
        defender = Defender(self.broker)
        provisioning = Provisioning(self.broker, store)
        files = FileStore(self.registry, self.state / "files", store.private / "files.key")
        files.port = http_port
        jobs = Jobs(self.broker, files.fill)
        streams = Streams(self.broker, files)
        self._sweeps = (provisioning.sweep, jobs.engine.sweep)
        sntp = SntpServer()
        web = https.HttpsService(self.broker, self._status)
        downloads = FileServer(self.broker.faults, files, web.application)
        control = control_server.ControlServer(self.state, self.broker, sntp, self.follow)
        control.add("defender", lambda thing: {"defender": defender.reports(thing)})
        provisioning_control.add(control, provisioning, self.registry)
        update_control.add(control, jobs, streams, files, downloads)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self.contexts.get()
        servers = [await loop.create_server(self._new_channel, sock=sock) for sock in mqtt_sockets]
        await sntp.start(sntp_sockets)
        await web.start(http_sockets, https.server_context(self.contexts, self._next_certificate))
        name = await control.start()
        watch = asyncio.create_task(self._watch())
        try:
            self._write_info(mqtt_port, http_port, sntp_port, name)
            print("ready", flush=True)
            await stop.wait()
        finally:
            watch.cancel()
            provisioning.stop()
            for server in servers:
                server.close()
            for connection in list(self.broker.connections):
                connection.end("server-stop")
            sntp.stop()
            await web.stop()
            await control.stop()
            await asyncio.sleep(0)
            self.registry.close()

    def _take_folder(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        # Held open to the end of the process, which gives the lock back however it ends.
        self._lock = os.open(self.state / "cloud.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"a cloud already runs in {self.state}") from None

    def _sntp_sockets(self) -> tuple[int, list[socket.socket]]:
        """The port of the last run when it is free, so that a module's configuration holds."""
        path = self.state / "cloud.json"
        last = json.loads(path.read_text())["sntp"] if path.exists() else 0
        try:
            return listening.loopback(last, socket.SOCK_DGRAM)
        except listening.PortTaken:
            return listening.loopback(0, socket.SOCK_DGRAM)

    def _write_info(self, mqtt: int, http: int, sntp: int, control: str) -> None:
        info = {
            "host": pki.ENDPOINT,
            "endpoint": pki.ENDPOINT,
            "mqtt": mqtt,
            "http": http,
            "sntp": sntp,
            "control": control,
            "pid": os.getpid(),
        }
        temporary = self.state / "cloud.json.new"
        temporary.write_text(json.dumps(info, indent=1) + "\n")
        os.replace(temporary, self.state / "cloud.json")
        log.info("endpoint %s: mqtt %d, https %d, sntp %d", pki.ENDPOINT, mqtt, http, sntp)

    def _new_channel(self) -> tls.Channel:
        return tls.Channel(self._choose_context, Connection(self.broker), self.settings.deadline)

    def _choose_context(self):
        return self.contexts.get(self._next_certificate())

    def _next_certificate(self) -> str:
        """Which server certificate the next handshake shows; the registry is current then."""
        self.follow()
        fault = self.broker.faults.take("server-certificate")
        return fault.which if fault else "valid"

    def follow(self) -> None:
        """Take over what has changed in the registry."""
        if self.registry.changed():
            self.contexts.forget()
            self.broker.refresh()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH)
            for sweep in self._sweeps:
                sweep()
            self.follow()

    def _status(self) -> dict:
        open_now = [c.client_id for c in self.broker.connections if c.state == "open"]
        return {"endpoint": pki.ENDPOINT, "clients": open_now, "counters": self.broker.counters}
