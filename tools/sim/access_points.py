"""The access points on the virtual air, kept as a file that the VM reads when it changes."""

import hashlib
import json
import os

DEFAULT = ("sim-ap", "sim-passphrase")


def _point(ssid, passphrase):
    digest = hashlib.sha256(ssid.encode()).hexdigest()
    return {
        "ssid": ssid,
        "passphrase": passphrase,
        "rssi": -50,
        "channel": 1 + int(digest[:2], 16) % 11,
        # Locally administered, and the same at each start.
        "bssid": "02" + digest[:10],
        "up": True,
    }


class AccessPoints:
    """pairs: (SSID, passphrase) of each; an empty passphrase is an open network."""

    def __init__(self, path, registers, pairs):
        self._path = path
        self._registers = registers
        self.points = {ssid: _point(ssid, passphrase) for ssid, passphrase in pairs}
        self._save()

    def _save(self):
        temporary = self._path + ".new"
        with open(temporary, "w") as file:
            json.dump(list(self.points.values()), file)
        os.replace(temporary, self._path)
        generation = (self._registers.get("wifi_generation") + 1) & 0xFFFFFFFF
        self._registers.put("wifi_generation", generation)

    def change(self, order):
        """Apply `{"ssid", "up"?, "rssi"?, "passphrase"?}`; a new SSID needs a passphrase.

        Raises ValueError with a sentence when the order is not understood.
        """
        allowed = {"ssid": str, "up": bool, "rssi": int, "passphrase": str}
        for key, value in order.items():
            if key not in allowed:
                raise ValueError(f"unknown field {key!r}; known: {', '.join(allowed)}")
            if type(value) is not allowed[key]:
                raise ValueError(f"{key!r} has to be {allowed[key].__name__}")
        ssid = order.get("ssid")
        if not ssid:
            raise ValueError("the ssid is missing")
        point = self.points.get(ssid)
        if point is None:
            if "passphrase" not in order:
                raise ValueError(f"no access point is called {ssid!r}")
            point = self.points[ssid] = _point(ssid, order["passphrase"])
        point.update(order)
        self._save()
