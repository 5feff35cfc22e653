"""Provisioning templates: what one looks like, and what it makes of a device's parameters.

Rules `provisioning-template`, `provisioning-strict` and `provisioning-parameters`.

    Parameters           {name: {"Type": "String", "Default": text?}}
    Mappings             {map: {key: {key: text or list of texts}}}
    Resources            {any name: {"Type", "Properties", "OverrideSettings"?}}
    DeviceConfiguration  {name: text}

Pure: nothing here touches the registry. What is not understood is refused when the template is
stored and not skipped, so that nobody takes a template to AWS that was never tried here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from tools.cloud import policy
from tools.cloud import template_functions as functions
from tools.cloud.template_functions import Scope, TemplateError

MAX_BODY = 10240
CERTIFICATE_ID = "AWS::IoT::Certificate::Id"
THING, CERTIFICATE, POLICY = "AWS::IoT::Thing", "AWS::IoT::Certificate", "AWS::IoT::Policy"
MAX_POLICIES = 10
MAX_ATTRIBUTES = 3  # of a thing without a type

_NAME = re.compile(r"[0-9A-Za-z_-]{1,36}")
_SECTIONS = {"Parameters", "Mappings", "Resources", "DeviceConfiguration"}
_PROPERTIES = {
    THING: {"ThingName", "AttributePayload"},
    CERTIFICATE: {"CertificateId", "Status"},
    POLICY: {"PolicyName", "PolicyDocument"},
}
_OVERRIDES = {
    THING: {"AttributePayload": ("DO_NOTHING", "REPLACE", "FAIL", "MERGE")},
    CERTIFICATE: {"Status": ("DO_NOTHING", "REPLACE", "FAIL")},
    POLICY: {},
}
_STATUSES = ("ACTIVE", "INACTIVE")
_ATTRIBUTE_NAME = re.compile(r"[a-zA-Z0-9_.,@/:#-]{1,128}")
_ATTRIBUTE_VALUE = re.compile(r"[a-zA-Z0-9_.,@/:#-]{0,800}")


@dataclass(frozen=True)
class Plan:
    """What a template asks for, for one device. `thing` is None when it makes no thing; a policy
    is a name, or None and a document."""

    thing: str | None
    attributes: dict[str, str]
    override: str  # of the attributes of a thing that exists
    status: str
    policies: list[tuple[str | None, str | None]]
    configuration: dict[str, str] = field(default_factory=dict)


def check_name(name: str) -> None:
    """Raise TemplateError unless a template may be called that: 1 to 36 of `[0-9A-Za-z_-]`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TemplateError(f"not a template name: {name!r}")


def _object(value, what: str) -> dict:
    if not isinstance(value, dict):
        raise TemplateError(f"{what} must be an object")
    return value


def _only(value: dict, known, what: str) -> None:
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise TemplateError(f"{what}: {', '.join(unknown)} is not imitated or does not exist")


class Template:
    """One template's body, understood."""

    def __init__(self, body: str):
        """Raises TemplateError for a body that is too large or not understood whole."""
        if len(body.encode("utf-8")) > MAX_BODY:
            raise TemplateError(f"the body has more than {MAX_BODY} bytes")
        try:
            parsed = json.loads(body)
            self._read(_object(parsed, "the body"))
        except TemplateError:
            raise
        except (ValueError, RecursionError) as error:
            raise TemplateError(f"not JSON: {type(error).__name__}") from error

    def _read(self, body: dict) -> None:
        _only(body, _SECTIONS, "the body")
        self.defaults = _parameters(body.get("Parameters", {}))
        self._mappings = _mappings(body.get("Mappings", {}))
        self._configuration = _object(body.get("DeviceConfiguration", {}), "DeviceConfiguration")
        resources = _object(body.get("Resources"), "Resources")
        self._by_type: dict[str, list[dict]] = {THING: [], CERTIFICATE: [], POLICY: []}
        for name, resource in resources.items():
            self._by_type[_resource(name, resource)].append(resource)
        if len(self._by_type[THING]) > 1:
            raise TemplateError("more than one thing")
        if len(self._by_type[CERTIFICATE]) != 1:
            raise TemplateError("exactly one certificate is needed")
        if len(self._by_type[POLICY]) > MAX_POLICIES:
            raise TemplateError(f"more than {MAX_POLICIES} policies")
        scope = Scope(dict.fromkeys(self.defaults, ""), self._mappings)
        for expression in self._expressions():
            functions.check(expression, scope)

    def _expressions(self):
        yield from self._configuration.values()
        for resources in self._by_type.values():
            for resource in resources:
                for name, value in resource["Properties"].items():
                    if name == "AttributePayload":
                        yield from value.values()
                    else:
                        yield value

    # -- parameters --
    def check_declared(self, parameters: dict) -> None:
        """Raise TemplateError for a parameter that a device may not send."""
        for name, value in parameters.items():
            if name not in self.defaults or name == CERTIFICATE_ID:
                raise TemplateError(f"parameter {str(name)[:40]!r} is not in the template")
            # JSON can write half of a surrogate pair, which is no text.
            if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
                raise TemplateError(f"parameter {name} is not a string")

    def plan(self, parameters: dict[str, str], certificate_id: str) -> Plan:
        """What to do for these parameters; raises TemplateError when one is missing or the
        result cannot be used."""
        self.check_declared(parameters)
        values = {**self.defaults, **parameters}
        if CERTIFICATE_ID in values:
            values[CERTIFICATE_ID] = certificate_id
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise TemplateError(f"parameter {', '.join(sorted(missing))} is missing")
        scope = Scope(values, self._mappings)
        thing, attributes, override = self._thing(scope)
        certificate = self._by_type[CERTIFICATE][0]["Properties"]
        if functions.text(certificate["CertificateId"], scope) != certificate_id:
            raise TemplateError(f"CertificateId is not {CERTIFICATE_ID}")
        status = functions.text(certificate.get("Status", "ACTIVE"), scope).upper()
        if status not in _STATUSES:
            raise TemplateError("the certificate's Status is Active or Inactive")
        policies = [_policy(resource, scope) for resource in self._by_type[POLICY]]
        configuration = {
            name: functions.text(value, scope) for name, value in self._configuration.items()
        }
        return Plan(thing, attributes, override, status, policies, configuration)

    def _thing(self, scope: Scope) -> tuple[str | None, dict[str, str], str]:
        if not self._by_type[THING]:
            return None, {}, "DO_NOTHING"
        resource = self._by_type[THING][0]
        properties = resource["Properties"]
        attributes = {
            name: functions.text(value, scope)
            for name, value in properties.get("AttributePayload", {}).items()
        }
        for name, value in attributes.items():
            if not _ATTRIBUTE_VALUE.fullmatch(value):
                raise TemplateError(
                    f"the value of attribute {name} has a character that is not "
                    "allowed, or is over 800 long"
                )
        override = resource.get("OverrideSettings", {}).get("AttributePayload", "DO_NOTHING")
        return functions.text(properties["ThingName"], scope), attributes, override


def _parameters(section) -> dict[str, str | None]:
    """Name -> default, None without one."""
    found: dict[str, str | None] = {}
    for name, entry in _object(section, "Parameters").items():
        _only(_object(entry, f"parameter {name}"), {"Type", "Default"}, f"parameter {name}")
        if entry.get("Type") != "String":
            raise TemplateError(f"parameter {name}: Type must be String")
        default = entry.get("Default")
        if "Default" in entry and not isinstance(default, str):
            raise TemplateError(f"parameter {name}: Default must be a string")
        if name.startswith("AWS::") and (name != CERTIFICATE_ID or "Default" in entry):
            raise TemplateError(f"parameter {name} is not imitated or does not exist")
        found[name] = default
    return found


def _mappings(section) -> dict:
    for name, keys in _object(section, "Mappings").items():
        for key, values in _object(keys, f"mapping {name}").items():
            for value in _object(values, f"mapping {name}, {key}").values():
                items = value if isinstance(value, list) else [value]
                if not all(isinstance(item, str) for item in items):
                    raise TemplateError(f"mapping {name}, {key}: strings, or lists of strings")
    return section


def _resource(name: str, resource) -> str:
    """Check one resource as far as its type goes; returns the type."""
    what = f"resource {name}"
    _only(_object(resource, what), {"Type", "Properties", "OverrideSettings"}, what)
    kind = resource.get("Type")
    if kind not in _PROPERTIES:
        raise TemplateError(f"{what}: no type {kind}")
    properties = _object(resource.get("Properties"), f"{what}: Properties")
    _only(properties, _PROPERTIES[kind], what)
    overrides = _object(resource.get("OverrideSettings", {}), f"{what}: OverrideSettings")
    _only(overrides, _OVERRIDES[kind], f"{what}: OverrideSettings")
    for setting, value in overrides.items():
        if value not in _OVERRIDES[kind][setting]:
            allowed = ", ".join(_OVERRIDES[kind][setting])
            raise TemplateError(f"{what}: {setting} is one of {allowed}")
    needed = {THING: "ThingName", CERTIFICATE: "CertificateId"}.get(kind)
    if needed and needed not in properties:
        raise TemplateError(f"{what} needs {needed}")
    if kind == POLICY:
        _check_policy(properties, what)
    if kind == THING:
        _check_attributes(_object(properties.get("AttributePayload", {}), "AttributePayload"))
    return kind


def _check_policy(properties: dict, what: str) -> None:
    if len(properties) != 1:
        raise TemplateError(f"{what}: either PolicyName or PolicyDocument")
    document = properties.get("PolicyDocument")
    if isinstance(document, str):
        try:
            policy.parse(document)
        except policy.PolicyError as error:
            raise TemplateError(f"{what}: {error}") from error


def _check_attributes(attributes: dict) -> None:
    if len(attributes) > MAX_ATTRIBUTES:
        raise TemplateError(f"a thing without a type has at most {MAX_ATTRIBUTES} attributes")
    for name in attributes:
        if not _ATTRIBUTE_NAME.fullmatch(name):
            raise TemplateError(f"not an attribute name: {name!r}")


def _policy(resource: dict, scope: Scope) -> tuple[str | None, str | None]:
    properties = resource["Properties"]
    if "PolicyName" in properties:
        return functions.text(properties["PolicyName"], scope), None
    return None, functions.text(properties["PolicyDocument"], scope)


def _built_in() -> str:
    def ref(name: str) -> dict:
        return {"Ref": name}

    names = ("SerialNumber", "MAC", "Model")
    body = {
        "Parameters": {name: {"Type": "String"} for name in (*names, CERTIFICATE_ID)},
        "Resources": {
            "thing": {
                "Type": THING,
                "Properties": {
                    "ThingName": {"Fn::Join": ["-", ["expresslink", ref("SerialNumber")]]},
                    "AttributePayload": {name: ref(name) for name in names},
                },
                "OverrideSettings": {"AttributePayload": "MERGE"},
            },
            "certificate": {
                "Type": CERTIFICATE,
                "Properties": {"CertificateId": ref(CERTIFICATE_ID), "Status": "Active"},
            },
            "policy": {"Type": POLICY, "Properties": {"PolicyName": "default"}},
        },
    }
    return json.dumps(body, indent=1)


EXPRESSLINK = "expresslink"
BUILT_IN = {EXPRESSLINK: _built_in()}
