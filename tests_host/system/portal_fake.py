"""A module's portal as a script: answers what a test has put in, keeps what it was asked."""

from __future__ import annotations

import gzip
import json
import runpy
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tools.portal import build

# The firmware's own; read as a file, since the package around it is MicroPython's.
_MADE = runpy.run_path(str(build.TARGET))
PAGE, POLICY = _MADE["PAGE"], _MADE["POLICY"]

NETWORKS = [
    {"ssid": "Lab", "rssi": -48, "secure": True},
    {"ssid": "Guests", "rssi": -61, "secure": False},
    {"ssid": "A rather long network name, 32 B", "rssi": -72, "secure": True},
    {"ssid": "<img src=x onerror=hacked()>", "rssi": -80, "secure": True},
    {"hex": "436166e920ff00", "rssi": -85, "secure": True},
    {"ssid": "\u202eesreveR \u05e9\u05dc\u05d5\u05dd", "rssi": -90, "secure": True},
]


class FakePortal:
    """The API of docs/portal.md over HTTP on 127.0.0.1, in threads of this process.

    `page`, `policy`: what is served, at first the firmware's own. `state`, `networks`: what the
    two GETs answer. `joins`: answers to POST /api/join in their order, each (status, JSON object
    or None, headers); the default is 202 with the state set to `trying`. `token` is asked of every
    POST. `gone`: connections are dropped without a byte. `delay`: seconds before each answer.
    `ready`: an event without which the API does not answer. `asked`: (method, path, JSON body or
    None), all of them.
    """

    def __init__(self):
        self.page = gzip.decompress(PAGE)
        self.policy = POLICY.decode()
        self.token = "0" * 32
        self.state = {"state": "idle"}
        self.name = "ExpressLink-ab12cd"
        self.open = False
        self.endpoint = "localhost:28883"
        self.networks = (200, {"networks": NETWORKS})
        self.joins = []
        self.gone = False
        self.delay = 0.0
        self.ready = threading.Event()
        self.ready.set()
        self.asked = []
        portal = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                portal._answer(self, None)

            def do_POST(self):
                size = int(self.headers["Content-Length"])
                portal._answer(self, json.loads(self.rfile.read(size)))

            def log_message(self, *_):
                """Nothing: what was asked is in `asked`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self):
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def bodies(self, path):
        """What was posted to a path until now, in order."""
        return [body for method, asked, body in self.asked if method == "POST" and asked == path]

    def posted(self, path, count=1, seconds=5):
        """The same, once there are `count`."""
        until = time.monotonic() + seconds
        while len(self.bodies(path)) < count:
            assert time.monotonic() < until, f"{len(self.bodies(path))} of {count} to {path}"
            time.sleep(0.01)
        return self.bodies(path)

    def _answer(self, handler, body):
        self.asked.append((handler.command, handler.path, body))
        gone = self.gone
        time.sleep(self.delay)
        if handler.path != "/":
            self.ready.wait(30)
        if gone:
            handler.close_connection = True
            return
        status, data, headers = self._route(handler.command, handler.path, body)
        content = data if isinstance(data, bytes) else json.dumps(data).encode()
        try:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)
        except ConnectionError:
            # The page was closed, or did not want to wait: that is a browser's right.
            handler.close_connection = True

    def _route(self, method, path, body):
        if method == "POST":
            if body["token"] != self.token:
                return 403, {}, {}
            if path == "/api/done":
                return 200, {}, {}
            assert path == "/api/join"
            if self.joins:
                return self.joins.pop(0)
            self.state = {"state": "trying"}
            self.state.update({k: v for k, v in body.items() if k in ("ssid", "hex")})
            return 202, {"state": "trying"}, {}
        if path == "/api/state":
            fixed = {"token": self.token, "name": self.name, "open": self.open}
            return 200, {**fixed, "endpoint": self.endpoint, **self.state}, {}
        if path == "/api/networks":
            return *self.networks, {}
        if path == "/":
            headers = {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": self.policy,
                "Cache-Control": "no-store",
            }
            return 200, self.page, headers
        return 404, {}, {}
