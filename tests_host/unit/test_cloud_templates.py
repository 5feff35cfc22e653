"""Provisioning templates of the local cloud: what is stored, and what comes out for a device."""

import copy
import json

import pytest

from tools.cloud import template_functions as functions
from tools.cloud.template_functions import Scope, TemplateError
from tools.cloud.templates import BUILT_IN, CERTIFICATE_ID, Template, check_name

MAPS = {"Places": {"lab": {"url": "https://lab", "names": ["a", "b"]}}}
VALUES = {"Serial": "SN1", "Place": "lab", "Path": "a/b/c"}

BODY = {
    "Parameters": {
        "Serial": {"Type": "String"},
        "Place": {"Type": "String", "Default": "lab"},
        CERTIFICATE_ID: {"Type": "String"},
    },
    "Mappings": MAPS,
    "Resources": {
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {
                "ThingName": {"Fn::Join": ["", ["lab_", {"Ref": "Serial"}]]},
                "AttributePayload": {"place": {"Ref": "Place"}},
            },
        },
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}, "Status": "Active"},
        },
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "default"}},
    },
    "DeviceConfiguration": {"FallbackUrl": {"Fn::FindInMap": ["Places", {"Ref": "Place"}, "url"]}},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("plain ${Serial}", "plain ${Serial}"),
        ({"Ref": "Serial"}, "SN1"),
        ({"Fn::Join": ["-", ["x", {"Ref": "Serial"}, "y"]]}, "x-SN1-y"),
        ({"Fn::Join": ["-", {"Fn::Split": ["/", {"Ref": "Path"}]}]}, "a-b-c"),
        ({"Fn::Split": ["/", "one"]}, ["one"]),
        ({"Fn::Select": [1, ["a", "b"]]}, "b"),
        ({"Fn::Select": ["2", {"Fn::Split": ["/", {"Ref": "Path"}]}]}, "c"),
        ({"Fn::FindInMap": ["Places", {"Ref": "Place"}, "url"]}, "https://lab"),
        ({"Fn::Select": [1, {"Fn::FindInMap": ["Places", "lab", "names"]}]}, "b"),
        ({"Fn::Sub": "t/${Serial}/${!iot:ClientId}"}, "t/SN1/${iot:ClientId}"),
        ({"Fn::Sub": ["${a}${Serial}", {"a": {"Ref": "Place"}}]}, "labSN1"),
        # A value is not looked through for variables of its own.
        ({"Fn::Sub": ["${a}", {"a": "${Serial}"}]}, "${Serial}"),
    ],
)
def test_functions(expression, value):
    scope = Scope(VALUES, MAPS)
    functions.check(expression, scope)
    assert functions.evaluate(expression, scope) == value


@pytest.mark.parametrize(
    "expression",
    [
        5,
        None,
        True,
        {},
        {"Ref": "Serial", "Fn::Sub": "x"},
        {"Ref": "Other"},
        {"Ref": ["Serial"]},
        {"Fn::GetAtt": ["a", "b"]},
        {"Fn::Join": ["-"]},
        {"Fn::Join": ["-", "abc"]},
        {"Fn::Join": [["-"], ["a", {"Ref": "Other"}]]},
        {"Fn::Split": "a"},
        {"Fn::Select": [-1, ["a"]]},
        {"Fn::Select": [True, ["a"]]},
        {"Fn::Select": ["x", ["a"]]},
        {"Fn::Select": ["²", ["a"]]},
        {"Fn::FindInMap": ["Places", "lab"]},
        {"Fn::FindInMap": ["Nowhere", "lab", "url"]},
        {"Fn::Sub": "${Other}"},
        {"Fn::Sub": ["${a}"]},
        {"Fn::Sub": ["x", {"a": 5}]},
    ],
)
def test_functions_that_no_parameter_makes_good(expression):
    with pytest.raises(TemplateError):
        functions.check(expression, Scope(VALUES, MAPS))


@pytest.mark.parametrize(
    "expression",
    [
        {"Fn::Select": [3, {"Fn::Split": ["/", {"Ref": "Path"}]}]},
        {"Fn::Select": [0, {"Ref": "Serial"}]},
        {"Fn::Split": ["", {"Ref": "Path"}]},
        {"Fn::FindInMap": ["Places", {"Ref": "Serial"}, "url"]},
        {"Fn::FindInMap": ["Places", "lab", "url", "x"]},
        {"Fn::Join": ["-", {"Ref": "Serial"}]},
        {"Fn::Join": ["-", [["a"]]]},
        {"Fn::Sub": ["${a}", {"a": ["x"]}]},
    ],
)
def test_functions_that_give_nothing(expression):
    with pytest.raises(TemplateError):
        functions.evaluate(expression, Scope(VALUES, MAPS))


def test_a_plan():
    plan = Template(json.dumps(BODY)).plan({"Serial": "SN1"}, "00ff")
    assert plan.thing == "lab_SN1"
    assert plan.attributes == {"place": "lab"}
    assert (plan.status, plan.override) == ("ACTIVE", "DO_NOTHING")
    assert plan.policies == [("default", None)]
    assert plan.configuration == {"FallbackUrl": "https://lab"}


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({}, "missing"),
        ({"Serial": "1", "Extra": "2"}, "not in the template"),
        ({"Serial": "1", CERTIFICATE_ID: "x"}, "not in the template"),
        ({"Serial": 1}, "not a string"),
        ({"Serial": "\ud800"}, "not a string"),
        ({5: "1"}, "not in the template"),
        ({"Serial": "1", "Place": "elsewhere"}, "FindInMap"),
        ({"Serial": "1", "Place": "a b"}, "not allowed"),
    ],
)
def test_parameters(parameters, text):
    with pytest.raises(TemplateError, match=text):
        Template(json.dumps(BODY)).plan(parameters, "00ff")


def test_a_status():
    for given, status in (("Inactive", "INACTIVE"), ("ACTIVE", "ACTIVE")):
        made = _with("Resources", "certificate", "Properties", "Status", given)
        assert Template(json.dumps(made)).plan({"Serial": "1"}, "00ff").status == status
    made = _with("Resources", "certificate", "Properties", "Status", "Revoked")
    with pytest.raises(TemplateError, match="Status"):
        Template(json.dumps(made)).plan({"Serial": "1"}, "00ff")
    made = _with("Resources", "certificate", "Properties", "CertificateId", "01")
    with pytest.raises(TemplateError, match="CertificateId"):
        Template(json.dumps(made)).plan({"Serial": "1"}, "00ff")


def test_without_a_thing():
    body = copy.deepcopy(BODY)
    del body["Resources"]["thing"]
    assert Template(json.dumps(body)).plan({"Serial": "1"}, "00ff").thing is None


def _with(*path_and_value):
    *path, value = path_and_value
    body = copy.deepcopy(BODY)
    at = body
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return body


_THING = ("Resources", "thing")
_PROPERTIES = (*_THING, "Properties")


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"Parameters": {}},
        _with("Version", "2012"),
        _with("Parameters", "Serial", {"Type": "Number"}),
        _with("Parameters", "Serial", {"Type": "String", "Default": 1}),
        _with("Parameters", "Serial", {"Type": "String", "AllowedValues": []}),
        _with("Parameters", "AWS::IoT::Certificate::CommonName", {"Type": "String"}),
        _with("Parameters", CERTIFICATE_ID, {"Type": "String", "Default": "x"}),
        _with("Mappings", {"a": {"b": "c"}}),
        _with("Mappings", {"a": {"b": {"c": 1}}}),
        _with("Resources", {}),
        _with("Resources", "other", BODY["Resources"]["thing"]),
        _with("Resources", "other", BODY["Resources"]["certificate"]),
        _with("Resources", "other", {"Type": "AWS::IoT::ThingGroup", "Properties": {}}),
        _with(*_PROPERTIES, {}),
        _with(*_PROPERTIES, "ThingGroups", ["g"]),
        _with(*_PROPERTIES, "ThingTypeName", "t"),
        _with(*_PROPERTIES, "ThingName", {"Ref": "Nobody"}),
        _with(*_PROPERTIES, "AttributePayload", {"a b": "x"}),
        _with(*_PROPERTIES, "AttributePayload", dict.fromkeys("abcd", "x")),
        _with(*_THING, "OverrideSettings", {"AttributePayload": "KEEP"}),
        _with(*_THING, "OverrideSettings", {"ThingGroups": "FAIL"}),
        _with("Resources", "policy", "Properties", {"PolicyName": "a", "PolicyDocument": "{}"}),
        _with("Resources", "policy", "Properties", {"PolicyDocument": "{}"}),
        _with("Resources", "policy", "Properties", {"PolicyDocument": {"Statement": []}}),
        _with("DeviceConfiguration", {"a": 5}),
    ],
)
def test_bodies_that_are_refused(body):
    with pytest.raises(TemplateError):
        Template(json.dumps(body))


def test_text_that_is_no_body():
    for text in ("", "{", "[" * 5000, '{"Parameters": NaN}'):
        with pytest.raises(TemplateError):
            Template(text)
    padding = 10240 - len(json.dumps(BODY).encode())
    Template(json.dumps(BODY) + " " * padding)
    with pytest.raises(TemplateError, match="10240"):
        Template(json.dumps(BODY) + " " * (padding + 1))


def test_names():
    check_name("a-Z_0" + "x" * 31)
    for name in ("", "x" * 37, "a b", "a/b", None, "ä", "a\n"):
        with pytest.raises(TemplateError):
            check_name(name)


def test_the_built_in_template():
    parameters = {"SerialNumber": "0123456789ab", "MAC": "01:23:45:67:89:ab", "Model": "X-1"}
    plan = Template(BUILT_IN["expresslink"]).plan(parameters, "00ff")
    assert plan.thing == "expresslink-0123456789ab"
    assert plan.attributes == parameters
    assert plan.policies == [("default", None)]
    for name in parameters:
        with pytest.raises(TemplateError, match=name):
            less = {key: value for key, value in parameters.items() if key != name}
            Template(BUILT_IN["expresslink"]).plan(less, "00ff")
