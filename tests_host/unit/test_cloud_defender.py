"""What the local cloud takes for a Device Defender report, and what it says of the others."""

import copy
import json

import cbor2
import pytest

from tools.cloud.defender_report import ReportError, check, decode, report_id
from tools.cloud.forms import encode
from tools.cloud.rules import RULES

LONG = {
    "header": {"report_id": 1700000000, "version": "1.0"},
    "metrics": {
        "tcp_connections": {
            "established_connections": {
                "connections": [
                    {
                        "local_interface": "wl0",
                        "local_port": 50000,
                        "remote_addr": "192.0.2.1:8883",
                    }
                ],
                "total": 1,
            }
        },
        "listening_tcp_ports": {"ports": [{"port": 22, "interface": "wl0"}], "total": 1},
        "listening_udp_ports": {"ports": [], "total": 0},
        "network_stats": {"bytes_in": 1, "bytes_out": 2, "packets_in": 3, "packets_out": 4},
    },
    "custom_metrics": {
        "MyNum": [{"number": 1}],
        "My-Nums:2": [{"number_list": [1, -2, 3.5]}],
        "My_Str": [{"string_list": ["a", ""]}],
        "MyIp": [{"ip_list": ["192.0.2.1", "2001:db8::1"]}],
    },
}
SHORT = {
    "hed": {"rid": 1700000000, "v": "1.0"},
    "met": {
        "tc": {"ec": {"cs": [{"li": "wl0", "lp": 50000, "rad": "192.0.2.1:8883"}], "t": 1}},
        "tp": {"pts": [{"pt": 22, "if": "wl0"}], "t": 1},
        "up": {"pts": [], "t": 0},
        "ns": {"bi": 1, "bo": 2, "pi": 3, "po": 4},
    },
    "cmet": LONG["custom_metrics"],
}


@pytest.mark.parametrize("form", ["json", "cbor"])
@pytest.mark.parametrize("report", [LONG, SHORT])
def test_long_and_short_names_in_both_forms(form, report):
    assert check(decode(form, encode(form, report))) == LONG


def test_metrics_or_custom_metrics_are_enough():
    for kind in ("metrics", "custom_metrics"):
        report = {"header": LONG["header"], kind: LONG[kind]}
        assert check(report) == report


def changed(path, value):
    """LONG with the member at `path` replaced, or removed when `value` is None."""
    report = copy.deepcopy(LONG)
    holder = report
    for step in path[:-1]:
        holder = holder[step]
    if value is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return report


def custom(name, value):
    return changed(("custom_metrics", name), value)


BAD = [
    ([], "defender-report"),
    ({"header": LONG["header"]}, "defender-report"),
    (changed(("header",), None), "defender-header"),
    (changed(("header",), 1), "defender-header"),
    (changed(("header", "report_id"), None), "defender-header"),
    (changed(("header", "report_id"), "1700000000"), "defender-header"),
    (changed(("header", "report_id"), True), "defender-header"),
    (changed(("header", "report_id"), 1.5), "defender-header"),
    (changed(("header", "report_id"), -1), "defender-header"),
    (changed(("header", "report_id"), 1 << 63), "defender-header"),
    (changed(("header", "version"), None), "defender-header"),
    (changed(("header", "version"), 1), "defender-header"),
    (changed(("header", "version"), "one"), "defender-header"),
    (changed(("header", "extra"), 1), "defender-strict"),
    (changed(("header", "rid"), 1700000001), "defender-strict"),
    (changed(("custom_metric",), {}), "defender-strict"),
    (changed(("metrics",), []), "defender-metrics"),
    (changed(("metrics", "cpu"), 1), "defender-strict"),
    (changed(("metrics", "network_stats", "bytes_in"), -1), "defender-metrics"),
    (changed(("metrics", "network_stats", "bytes_in"), "1"), "defender-metrics"),
    (changed(("metrics", "listening_tcp_ports", "total"), 0.5), "defender-metrics"),
    (changed(("metrics", "listening_tcp_ports", "ports"), {}), "defender-metrics"),
    (changed(("metrics", "listening_tcp_ports", "ports"), [{}]), "defender-metrics"),
    (changed(("metrics", "listening_tcp_ports", "ports"), [{"port": 65536}]), "defender-metrics"),
    (
        changed(("metrics", "tcp_connections", "established_connections"), []),
        "defender-metrics",
    ),
    (custom("X", {"number": 1}), "defender-custom"),
    (custom("X", 1), "defender-custom"),
    (custom("X", []), "defender-custom"),
    (custom("X", [{"number": 1}, {"number": 2}]), "defender-custom"),
    (custom("X", [{"number": 1, "ip_list": []}]), "defender-custom"),
    (custom("X", [{}]), "defender-custom"),
    (custom("X", [{"number-list": [1]}]), "defender-custom"),
    (custom("X", [{"number": "1"}]), "defender-custom"),
    (custom("X", [{"number": True}]), "defender-custom"),
    (custom("X", [{"number_list": 1}]), "defender-custom"),
    (custom("X", [{"number_list": [1, "2"]}]), "defender-custom"),
    (custom("X", [{"string_list": ["a", 1]}]), "defender-custom"),
    (custom("X", [{"ip_list": ["192.0.2.256"]}]), "defender-custom"),
    (custom("X", [{"ip_list": [1]}]), "defender-custom"),
    (custom("", [{"number": 1}]), "defender-custom-name"),
    (custom("a b", [{"number": 1}]), "defender-custom-name"),
    (custom("aws:x", [{"number": 1}]), "defender-custom-name"),
    (custom("x" * 129, [{"number": 1}]), "defender-custom-name"),
    (changed(("custom_metrics",), []), "defender-custom"),
]


@pytest.mark.parametrize(("report", "rule"), BAD)
def test_bad_reports_name_their_rule(report, rule):
    assert rule in RULES
    with pytest.raises(ReportError) as caught:
        check(report)
    assert caught.value.rule == rule
    missing = isinstance(report, dict) and "header" not in report
    assert caught.value.code == ("MissingHeader" if missing else "InvalidPayload")


@pytest.mark.parametrize(
    ("form", "payload"),
    [
        ("json", b""),
        ("json", b"{"),
        ("json", b"\xff"),
        ("json", b'{"a":NaN}'),
        ("json", b"[" * 100000),
        ("cbor", b""),
        ("cbor", b"\xa1"),
        ("cbor", b"\xff"),
        ("cbor", b"\x81" * 5000),
        ("cbor", cbor2.dumps(LONG) + b"\x00"),
    ],
)
def test_what_cannot_be_read(form, payload):
    with pytest.raises(ReportError) as caught:
        decode(form, payload)
    assert caught.value.rule == "defender-report"


def test_numbers_of_cbor_that_json_has_not():
    for value in (float("nan"), float("inf"), b"1"):
        report = decode("cbor", cbor2.dumps(custom("X", [{"number": value}])))
        with pytest.raises(ReportError):
            check(report)


def test_the_number_of_a_bad_report_is_found_where_it_can_be():
    assert report_id({"header": {"report_id": 7}}) == 7
    assert report_id({"hed": {"rid": 7}}) == 7
    for value in (None, [], {}, {"header": 1}, {"header": {}}, {"header": {"report_id": "7"}}):
        assert report_id(value) is None


def test_answers_are_compact_enough_for_a_device():
    answer = {"thingName": "t" * 128, "reportId": 1 << 62, "status": "ACCEPTED", "timestamp": 1}
    assert json.loads(encode("json", answer)) == answer
    assert len(encode("json", answer)) < 512
