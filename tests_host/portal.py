"""A person at CONFMODE's page, without the page: its requests."""

import json
import urllib.error
import urllib.request


class Portal:
    """address: `http://127.0.0.1:N`. Raises urllib.error.HTTPError for what is refused."""

    def __init__(self, address):
        self._address = address

    def _ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self._address + path, data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def state(self):
        """What the page is told: token, name, state …"""
        return self._ask("/api/state")

    def networks(self):
        """The access points found."""
        return self._ask("/api/networks")["networks"]

    def join(self, ssid, passphrase, **more):
        """Enter credentials."""
        body = {"token": self.state()["token"], "ssid": ssid, "passphrase": passphrase, **more}
        return self._ask("/api/join", body)

    def done(self):
        """The result has been seen."""
        return self._ask("/api/done", {"token": self.state()["token"]})
