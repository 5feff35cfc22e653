"""AWS-style policy documents: which action a certificate may take on which resource.

The part that counts of a resource is what follows `arn:aws:iot:<region>:<account>:`; region and
account are not compared, so that a policy written for AWS can be tried here unchanged. `*` and
`?` are wildcards; MQTT's own `+` and `#` are plain characters, as on AWS. An explicit Deny wins.
`NotResource` is IAM's grammar; the default policy needs it to say "any topic without `$`".
"""

from __future__ import annotations

import json
import re

ARN = "arn:aws:iot:local:000000000000:"
THING_NAME = "${iot:Connection.Thing.ThingName}"
CLIENT_ID = "${iot:ClientId}"
ACTIONS = ("iot:Connect", "iot:Publish", "iot:Subscribe", "iot:Receive", "iot:RetainPublish")
_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "NotResource"}
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class PolicyError(ValueError):
    """The document is not a policy that this evaluator understands whole."""


def _as_list(value, what: str) -> list[str]:
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str) for item in items):
        raise PolicyError(f"{what} must be a string or a list of strings")
    return items


def parse(document: str) -> list[dict]:
    """The statements of a JSON policy document; raises PolicyError for anything unknown.

    Unknown elements (conditions, for one) are refused and not skipped: a skipped condition would
    allow more than its author meant.
    """
    try:
        policy = json.loads(document)
    except ValueError as error:
        raise PolicyError(f"not JSON: {error}") from error
    if not isinstance(policy, dict) or "Statement" not in policy:
        raise PolicyError("no Statement")
    statements = policy["Statement"]
    statements = statements if isinstance(statements, list) else [statements]
    for statement in statements:
        if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
            raise PolicyError("Effect must be Allow or Deny")
        unknown = set(statement) - _ELEMENTS
        if unknown:
            raise PolicyError(f"unknown element {', '.join(sorted(unknown))}")
        if ("Resource" in statement) == ("NotResource" in statement):
            raise PolicyError("one of Resource and NotResource")
        _as_list(statement.get("Action"), "Action")
        _as_list(statement.get("Resource", statement.get("NotResource")), "Resource")
    return statements


def _to_regex(pattern: str) -> str:
    """`pattern` with the wildcards `*` and `?` as a regular expression."""
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)


def _resource_regex(resource: str, variables: dict[str, str]) -> re.Pattern | None:
    """The resource with its variables filled in; None when one of them has no value."""
    if resource.startswith("arn:"):
        parts = resource.split(":", 5)
        if len(parts) != 6 or parts[2] != "iot":
            raise PolicyError(f"not an ARN of AWS IoT: {resource}")
        resource = parts[5]
    out, at = [], 0
    for found in _VARIABLE.finditer(resource):
        value = variables.get(found.group(1))
        if value is None:
            return None
        out += [_to_regex(resource[at : found.start()]), re.escape(value)]
        at = found.end()
    out.append(_to_regex(resource[at:]))
    return re.compile("".join(out), re.DOTALL)


class _Statement:
    """One statement, ready for one connection."""

    def __init__(self, source: dict, variables: dict[str, str]):
        self.allow = source["Effect"] == "Allow"
        actions = _as_list(source["Action"], "Action")
        self._action = re.compile("|".join(_to_regex(action) for action in actions))
        self._negated = "NotResource" in source
        resources = _as_list(source.get("Resource", source.get("NotResource")), "Resource")
        patterns = [_resource_regex(resource, variables) for resource in resources]
        self._patterns = [pattern for pattern in patterns if pattern is not None]

    def covers(self, action: str, resource: str) -> bool:
        if not self._action.fullmatch(action):
            return False
        named = any(pattern.fullmatch(resource) for pattern in self._patterns)
        return named != self._negated


class Evaluator:
    """The policies of one certificate, as they apply to one connection."""

    _CACHE = 2048

    def __init__(self, documents: list[str], client_id: str | None, thing: str | None):
        """`thing`: the name behind ThingName, None when it has no value; raises PolicyError."""
        variables = {}
        if client_id is not None:
            variables["iot:ClientId"] = client_id
        if thing is not None:
            variables["iot:Connection.Thing.ThingName"] = thing
        self._statements = [
            _Statement(statement, variables)
            for document in documents
            for statement in parse(document)
        ]
        self._known: dict[tuple[str, str], bool] = {}

    def allows(self, action: str, resource: str) -> bool:
        """Whether `action` (as `iot:Publish`) on `resource` (as `topic/a`) is allowed."""
        key = (action, resource)
        if key not in self._known:
            if len(self._known) >= self._CACHE:
                self._known.clear()
            hits = [s.allow for s in self._statements if s.covers(action, resource)]
            self._known[key] = bool(hits) and all(hits)
        return self._known[key]


def _document(*statements: dict) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=1)


def _allow(actions: list[str], **resource) -> dict:
    return {"Effect": "Allow", "Action": actions, **resource}


_OWN = f"$aws/things/{THING_NAME}/*"
_TOPIC_ACTIONS = ["iot:Publish", "iot:Receive", "iot:RetainPublish"]

DEFAULT = _document(
    _allow(["iot:Connect"], Resource=[f"{ARN}client/{THING_NAME}"]),
    _allow(_TOPIC_ACTIONS, NotResource=[f"{ARN}topic/$*"]),
    _allow(_TOPIC_ACTIONS, Resource=[f"{ARN}topic/{_OWN}"]),
    _allow(["iot:Subscribe"], NotResource=[f"{ARN}topicfilter/$*"]),
    _allow(["iot:Subscribe"], Resource=[f"{ARN}topicfilter/{_OWN}"]),
)
OPERATOR = _document(_allow(["iot:*"], Resource=["*"]))

_CLAIM_ROOTS = ("$aws/certificates/create*", "$aws/provisioning-templates/*/provision/*")
CLAIM = _document(
    _allow(["iot:Connect"], Resource=[f"{ARN}client/*"]),
    _allow(["iot:Publish", "iot:Receive"], Resource=[f"{ARN}topic/{r}" for r in _CLAIM_ROOTS]),
    _allow(["iot:Subscribe"], Resource=[f"{ARN}topicfilter/{r}" for r in _CLAIM_ROOTS]),
)

BUILT_IN = {"default": DEFAULT, "operator": OPERATOR, "claim": CLAIM}
