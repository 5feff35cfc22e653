"""Fault switches: what may go wrong between a client and the cloud, set while it runs.

A fault may be limited to one client (its client id, or the thing of its certificate), to a number
of hits (`count`) and to every n-th occasion (`every`). Operator connections are exempt unless a
fault names them; faults at TCP level come before anybody is known and spare nobody.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

from tools.cloud import packets, pki

# kind -> (fields that it takes besides client, count and every; fields that it must have)
KINDS = {
    "refuse": ({"at", "code", "error", "request"}, {"at"}),
    "silent": ({"at", "request"}, {"at"}),
    "delay": ({"packet", "ms", "at", "request"}, {"ms"}),
    "drop": ({"packet", "direction", "at", "request"}, set()),
    "duplicate": ({"at", "request"}, set()),
    "close": ({"packet", "at", "when", "request", "bytes"}, set()),
    "foreign": ({"at", "when", "error", "request"}, {"at"}),
    "reorder": ({"at"}, {"at"}),
    "flip": ({"at"}, {"at"}),
    "wrong-size": ({"at", "by", "request"}, {"at"}),
    "wrong-length": ({"at", "by"}, {"at"}),
    "stall": ({"at", "bytes", "ms"}, {"at"}),
    "redirect": ({"at", "to", "code"}, {"at"}),
    "dribble": ({"packet", "size", "ms"}, set()),
    "server-certificate": ({"which"}, {"which"}),
    "suback": ({"filter"}, set()),
}
PROVISIONING = ("create", "create-from-csr", "provision")
MQTT_SERVICES = ("defender", *PROVISIONING, "jobs", "streams")
FILES = "files"
SERVICES = (*MQTT_SERVICES, FILES)
# Where it acts: on the way in, on clients that are in, or on the answers of a service. `delay`,
# `drop`, `duplicate` and `close` act on packets when they name no service.
STAGES = {
    "refuse": ("tcp", "connect", *SERVICES),
    "silent": ("tcp", "tls", "connect", "live", *SERVICES),
    "delay": SERVICES,
    "drop": ("jobs", "streams"),
    "duplicate": MQTT_SERVICES,
    "close": SERVICES,
    "foreign": (*PROVISIONING, "jobs", "streams"),
    "reorder": ("streams",),
    "flip": ("streams", FILES),
    "wrong-size": ("streams",),
    "wrong-length": ("streams", FILES),
    "stall": (FILES,),
    "redirect": (FILES,),
}
# Which requests of a service may be named; without one, a fault acts on all.
REQUESTS = {
    "jobs": ("get", "start-next", "describe", "update"),
    "streams": ("describe", "get"),
}
# When it acts, seen from the true answer of a service; the first is the default.
MOMENTS = {"close": ("before", "after"), "foreign": ("before", "after", "instead")}
_COMMON = {"kind", "client", "count", "every"}


@dataclass
class Fault:
    """One switch. `hits` counts how often it acted; with a `count` it rests after that many."""

    id: int
    kind: str
    client: str | None = None
    count: int | None = None
    every: int = 1
    at: str | None = None
    when: str | None = None
    code: int = 3
    error: str | None = None
    packet: str | None = None
    direction: str = "out"
    ms: int = 0
    size: int = 1
    which: str | None = None
    filter: str | None = None
    request: str | None = None
    bytes: int | None = None
    by: int = -1
    to: str | None = None
    seen: int = 0
    hits: int = 0

    def hit(self) -> bool:
        """Count an occasion; whether the fault acts on it."""
        if self.count is not None and self.hits >= self.count:
            return False
        self.seen += 1
        if self.seen % self.every:
            return False
        self.hits += 1
        return True


def _check(values: dict) -> None:
    kind = values.get("kind")
    if kind not in KINDS:
        raise ValueError(f"no fault {kind}: {', '.join(KINDS)}")
    allowed, needed = KINDS[kind]
    for name in values:
        if name not in allowed | _COMMON:
            raise ValueError(f"fault {kind} takes no {name}")
    for name in needed:
        if values.get(name) is None:
            raise ValueError(f"fault {kind} needs {name}")
    place = values.get("at")
    if place is not None and place not in STAGES[kind]:
        raise ValueError(f"{kind} is possible at {', '.join(STAGES[kind])}")
    _check_place(kind, values)
    _check_service(kind, place, values)
    if kind == "server-certificate":
        if values["which"] not in pki.SERVER_CERTIFICATES:
            raise ValueError(f"which: {', '.join(pki.SERVER_CERTIFICATES)}")
        if values.get("client") is not None:
            raise ValueError("the server's certificate is shown before anybody is known")
    for name, least in (("count", 1), ("every", 1), ("ms", 0), ("size", 1), ("bytes", 0)):
        value = values.get(name)
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"{name} takes a whole number from {least}")
    _check_code(kind, place, values.get("code"))
    by = values.get("by")
    if by is not None and (type(by) is not int or by == 0):
        raise ValueError("by takes a whole number that is not 0")


def _check_place(kind: str, values: dict) -> None:
    """Where it acts: on packets, at a service, or on the way in."""
    place, packet = values.get("at"), values.get("packet")
    if place is not None and packet is not None:
        raise ValueError("either at a service, or on a packet")
    if kind in ("close", "drop") and place is None and packet is None:
        raise ValueError(f"fault {kind} needs packet, or at a service")
    if place in ("tcp", FILES) and values.get("client") is not None:
        raise ValueError(f"at {place} nobody is known: no client")
    if packet is not None and packet not in packets.NAMES.values():
        raise ValueError(f"no packet {packet}")
    if values.get("direction", "out") not in ("in", "out"):
        raise ValueError("direction is in or out")
    if place is not None and "direction" in values:
        raise ValueError("direction goes with a packet")


def _check_service(kind: str, place: str | None, values: dict) -> None:
    """What only faults at a service take."""
    when, error = values.get("when"), values.get("error")
    if when is not None and (place is None or when not in MOMENTS[kind]):
        raise ValueError(f"when: {', '.join(MOMENTS[kind])}; it goes with a service")
    if error is not None and (not isinstance(error, str) or place not in MQTT_SERVICES):
        raise ValueError("error takes a text, and goes with a service over MQTT")
    request = values.get("request")
    if request is not None and request not in REQUESTS.get(place, ()):
        known = "; ".join(f"{name}: {', '.join(all_)}" for name, all_ in REQUESTS.items())
        raise ValueError(f"request is possible at {known}")
    if values.get("bytes") is not None and place != FILES:
        raise ValueError(f"bytes goes with {FILES}")
    to = values.get("to")
    if to is not None and not isinstance(to, str):
        raise ValueError("to takes a URL")


def _check_code(kind: str, place: str | None, code) -> None:
    """A return code of CONNACK, or a status of HTTP."""
    if code is None:
        return
    low, high = (300, 399) if kind == "redirect" else (400, 599) if place == FILES else (1, 255)
    if type(code) is not int or not low <= code <= high:
        raise ValueError(f"code takes a whole number from {low} to {high}")


class FaultTable:
    """All faults that are set."""

    def __init__(self):
        self._faults: dict[int, Fault] = {}
        self._ids = itertools.count(1)

    def __bool__(self) -> bool:
        return bool(self._faults)

    def set(self, values: dict) -> Fault:
        """Add a fault from its fields; raises ValueError for one that makes no sense."""
        _check(values)
        given = {name: value for name, value in values.items() if value is not None}
        if given["kind"] == "close":
            # One packet is cut; a client that comes back is served.
            given.setdefault("count", 1)
        if given.get("at") is not None and given["kind"] in MOMENTS:
            given.setdefault("when", MOMENTS[given["kind"]][0])
        if given["kind"] == "redirect":
            given.setdefault("code", 307)
        elif given.get("at") == FILES:
            given.setdefault("code", 403)
        fault = Fault(next(self._ids), **given)
        self._faults[fault.id] = fault
        return fault

    def stands(self, fault: Fault) -> bool:
        """Whether a fault has not been cleared."""
        return fault.id in self._faults

    def clear(self, what) -> list[Fault]:
        """Take faults away: an id, a kind, or `all`; returns what was taken."""
        if what == "all":
            gone = list(self._faults.values())
        elif isinstance(what, str) and what in KINDS:
            gone = [fault for fault in self._faults.values() if fault.kind == what]
        elif what in self._faults:
            gone = [self._faults[what]]
        else:
            raise ValueError(f"no fault {what}")
        for fault in gone:
            del self._faults[fault.id]
        return gone

    def as_list(self) -> list[dict]:
        """The faults, with the fields that their kind takes and their hits."""
        out = []
        for fault in self._faults.values():
            shown = KINDS[fault.kind][0] | _COMMON | {"id", "hits"}
            out.append({name: value for name, value in asdict(fault).items() if name in shown})
        return out

    def take(self, kind: str, who=None, **wanted) -> Fault | None:
        """The fault of this kind that acts now, counted as a hit; None when there is none.

        `who`: the connection (with `client_id` and `principal`), None before anybody is known.
        `wanted`: fields that must agree; a fault whose field is None agrees with everything,
        except that one with a place acts there alone, and one without acts at no service.
        """
        for fault in self._faults.values():
            if fault.kind != kind or fault.at != wanted.get("at") or not _concerns(fault, who):
                continue
            if any(getattr(fault, name) not in (None, value) for name, value in wanted.items()):
                continue
            if fault.hit():
                return fault
        return None


def _concerns(fault: Fault, who) -> bool:
    if who is None:
        return fault.client is None
    principal = who.principal
    if fault.client is None:
        return principal is None or not principal.operator
    things = principal.things if principal is not None else ()
    return fault.client == who.client_id or fault.client in things
