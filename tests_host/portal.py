"""A person at CONFMODE's page, without the page: its requests; and clients that are no person."""

import http.client
import json
import socket
import time

JSON = {"Content-Type": "application/json"}


def open_portal(module, order=b"AT+CONFMODE"):
    """Have a virtual module enter CONFMODE by access point; its `Portal`."""
    assert module.command(order) == b"OK CONFMODE ENABLED"
    return Portal(module.wait_line("portal http").split()[1])


class Portal:
    """address: `http://127.0.0.1:N`, as the virtual module prints it."""

    def __init__(self, address):
        self.address = address
        self.port = int(address.rsplit(":", 1)[1])

    def ask(self, method, path, body=None, headers=None):
        """One request: (status, headers, body)."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            client.request(method, path, body, headers or {})
            answer = client.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            client.close()

    def get(self, path):
        """The JSON at `path`, which must be there."""
        status, _, body = self.ask("GET", path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def post(self, path, **values):
        """An order with the page's token, when none is given: (status, headers, JSON)."""
        values.setdefault("token", self.state()["token"])
        order = json.dumps(values, ensure_ascii=False).encode()
        status, headers, body = self.ask("POST", path, order, JSON)
        return status, headers, json.loads(body)

    def state(self):
        """What the page is told: token, name, state …"""
        return self.get("/api/state")

    def networks(self):
        """The access points found."""
        return self.get("/api/networks")["networks"]

    def enter(self, **values):
        """Enter credentials, which must be taken: ssid or hex, passphrase, endpoint."""
        status, _, answer = self.post("/api/join", **values)
        assert status == 202, (status, answer)

    def result(self, seconds=25):
        """The state that the try on its way leads to."""
        until = time.monotonic() + seconds
        while True:
            state = self.state()
            if state["state"] != "trying":
                return state
            assert time.monotonic() < until, state
            time.sleep(0.05)

    def join(self, **values):
        """`enter`, and the `result` of it."""
        self.enter(**values)
        return self.result()

    def done(self):
        """The result has been seen."""
        status, _, answer = self.post("/api/done")
        assert (status, answer) == (200, {}), (status, answer)

    def raw(self, data, timeout=8):
        """What the server sends until it closes, to a client that sends `data`."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as client:
            return self.rest(client, data)

    @staticmethod
    def rest(client, data=b""):
        """The same on a connection (a socket) that there is already."""
        received = b""
        try:
            if data:
                client.sendall(data)
            while more := client.recv(4096):
                received += more
        except (ConnectionResetError, BrokenPipeError):
            # A server that has heard enough may cut us; what it said before counts.
            return received
        return received

    def gone(self, seconds=5):
        """Wait until nobody listens any more."""
        until = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except ConnectionRefusedError:
                return
            assert time.monotonic() < until, "still listening"
            time.sleep(0.02)
