"""What a Device Defender report must look like, in JSON or CBOR, with long or short names.

    report         {header, metrics?, custom_metrics?}, at least one of the last two
    header         {report_id: whole number, version: "major.minor"}
    custom_metrics {name: [{type: value}], …}, one type of `_TYPES`

Pure functions: bytes in, the report with long names out, or a ReportError with the rule's name.
"""

from __future__ import annotations

import ipaddress
import math
import re

from tools.cloud import forms

# Codes of a rejection (rule `defender-codes`).
INVALID = "InvalidPayload"
MISSING_HEADER = "MissingHeader"

_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_VERSION = re.compile(r"\d+\.\d+")

# Long name -> short name, for each kind of object.
_REPORT = {"header": "hed", "metrics": "met", "custom_metrics": "cmet"}
_HEADER = {"report_id": "rid", "version": "v"}
_METRICS = {
    "tcp_connections": "tc",
    "listening_tcp_ports": "tp",
    "listening_udp_ports": "up",
    "network_stats": "ns",
}
_TCP = {"established_connections": "ec"}
_ESTABLISHED = {"connections": "cs", "total": "t"}
_CONNECTION = {"local_interface": "li", "local_port": "lp", "remote_addr": "rad"}
_LISTENING = {"ports": "pts", "total": "t"}
_PORT = {"port": "pt", "interface": "if"}
_NETWORK = {"bytes_in": "bi", "bytes_out": "bo", "packets_in": "pi", "packets_out": "po"}


class ReportError(ValueError):
    """A report that is rejected: `rule` names the rule, `code` is what the answer says."""

    def __init__(self, rule: str, text: str, code: str = INVALID):
        super().__init__(text)
        self.rule = rule
        self.code = code


def decode(form: str, payload: bytes):
    """The value in `payload`; `form` is json or cbor. Raises ReportError for anything else."""
    try:
        return forms.decode(form, payload)
    except forms.FormError as error:
        raise ReportError("defender-report", str(error)) from None


def report_id(value):
    """The report's number as far as it can be read, else None: an answer to a bad report too
    names it."""
    header = value.get("header", value.get("hed")) if isinstance(value, dict) else None
    if not isinstance(header, dict):
        return None
    number = header.get("report_id", header.get("rid"))
    return number if _whole(number) else None


def check(value) -> dict:
    """The report with long names; raises ReportError."""
    report = _members(value, _REPORT, "the report", "defender-report")
    if "header" not in report:
        raise ReportError("defender-header", "the header is missing", MISSING_HEADER)
    header = _members(report["header"], _HEADER, "header", "defender-header")
    if not _whole(header.get("report_id")):
        raise ReportError("defender-header", "report_id takes a whole number")
    version = header.get("version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ReportError("defender-header", "version takes a text such as 1.0")
    result = {"header": header}
    if "metrics" in report:
        result["metrics"] = _metrics(report["metrics"])
    if "custom_metrics" in report:
        result["custom_metrics"] = _custom(report["custom_metrics"])
    if len(result) == 1:
        raise ReportError("defender-report", "neither metrics nor custom_metrics")
    return result


def _members(value, names: dict[str, str], what: str, rule: str) -> dict:
    """The members of an object under their long names (rule `defender-strict`)."""
    if not isinstance(value, dict):
        raise ReportError(rule, f"{what} is no object")
    long = {short: name for name, short in names.items()}
    found = {}
    for key, member in value.items():
        name = long.get(key, key) if isinstance(key, str) else None
        if name not in names:
            raise ReportError("defender-strict", f"{what} has a member that is not known")
        if name in found:
            raise ReportError("defender-strict", f"{what} has {name} under both its names")
        found[name] = member
    return found


def _whole(value) -> bool:
    """A whole number that is not negative and fits 64 bits with a sign."""
    return type(value) is int and 0 <= value < 1 << 63


def _number(value) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _metrics(value) -> dict:
    """The documented device metrics (rule `defender-metrics`)."""
    checks = {
        "tcp_connections": _tcp,
        "listening_tcp_ports": _listening,
        "listening_udp_ports": _listening,
        "network_stats": _network,
    }
    found = _members(value, _METRICS, "metrics", "defender-metrics")
    return {name: checks[name](member, name) for name, member in found.items()}


def _counts(members: dict, names, what: str) -> None:
    for name in names:
        if name in members and not _whole(members[name]):
            raise ReportError("defender-metrics", f"{name} of {what} takes a whole number")


def _entries(members: dict, name: str, names: dict[str, str], needed: str) -> None:
    """Replace the array `name` by one with long names; each entry has the member `needed`."""
    if name not in members:
        return
    if not isinstance(members[name], list):
        raise ReportError("defender-metrics", f"{name} is no array")
    members[name] = [
        _members(entry, names, f"an entry of {name}", "defender-metrics")
        for entry in members[name]
    ]
    for entry in members[name]:
        if needed not in entry:
            raise ReportError("defender-metrics", f"an entry of {name} has no {needed}")
        for port in ("port", "local_port"):
            if port in entry and not (_whole(entry[port]) and entry[port] < 65536):
                raise ReportError("defender-metrics", f"{port} takes a port number")
        for text in ("interface", "local_interface", "remote_addr"):
            if text in entry and not isinstance(entry[text], str):
                raise ReportError("defender-metrics", f"{text} takes a text")


def _tcp(value, what: str) -> dict:
    members = _members(value, _TCP, what, "defender-metrics")
    if "established_connections" in members:
        established = _members(
            members["established_connections"], _ESTABLISHED, what, "defender-metrics"
        )
        _counts(established, ("total",), what)
        _entries(established, "connections", _CONNECTION, "remote_addr")
        members["established_connections"] = established
    return members


def _listening(value, what: str) -> dict:
    members = _members(value, _LISTENING, what, "defender-metrics")
    _counts(members, ("total",), what)
    _entries(members, "ports", _PORT, "port")
    return members


def _network(value, what: str) -> dict:
    members = _members(value, _NETWORK, what, "defender-metrics")
    _counts(members, _NETWORK, what)
    return members


def _ip(value) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return isinstance(value, str)


def _list_of(check):
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


_TYPES = {
    "number": _number,
    "number_list": _list_of(_number),
    "string_list": _list_of(lambda value: isinstance(value, str)),
    "ip_list": _list_of(_ip),
}


def _custom(value) -> dict:
    """Rules `defender-custom` and `defender-custom-name`."""
    if not isinstance(value, dict):
        raise ReportError("defender-custom", "custom_metrics is no object")
    for name, entries in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("aws:"):
            raise ReportError("defender-custom-name", "a custom metric's name is not allowed")
        if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
            raise ReportError("defender-custom", f"{name} is no array of one object")
        if len(entries[0]) != 1:
            raise ReportError("defender-custom", f"{name} needs one type and its value")
        ((kind, held),) = entries[0].items()
        if kind not in _TYPES:
            raise ReportError("defender-custom", f"{name} has a type that is not known")
        if not _TYPES[kind](held):
            raise ReportError("defender-custom", f"{name} holds no {kind}")
    return value
