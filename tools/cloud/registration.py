"""Carries out in the registry what a template asks for: thing, attributes, policies, status."""

from __future__ import annotations

import hashlib

from tools.cloud.policy import PolicyError
from tools.cloud.registry import Registry, RegistryError
from tools.cloud.template_functions import TemplateError
from tools.cloud.templates import MAX_ATTRIBUTES, Plan


class Conflict(TemplateError):
    """The thing exists, and the template's OverrideSettings say FAIL."""


def carry_out(registry: Registry, plan: Plan, certificate_id: str) -> None:
    """Make the thing, attach certificate and policies, set the certificate's status.

    All or nothing. Raises TemplateError (Conflict, for one) when it cannot be done.
    """
    try:
        with registry.transaction():
            if plan.thing is not None:
                _thing(registry, plan)
                registry.attach_thing(plan.thing, certificate_id)
            for name, document in plan.policies:
                registry.attach_policy(name or _inline(registry, document), certificate_id)
            registry.set_status(certificate_id, plan.status)
    except (RegistryError, PolicyError) as error:
        raise TemplateError(str(error)) from error


def _inline(registry: Registry, document: str) -> str:
    """Store a policy that stands in the template; its name is a hash of it, as on AWS."""
    name = hashlib.sha256(document.encode("utf-8")).hexdigest()
    registry.put_policy(name, document)
    return name


def _thing(registry: Registry, plan: Plan) -> None:
    """Rule `provisioning-existing`: what becomes of the attributes of a thing that is there."""
    old = registry.thing(plan.thing)
    attributes = plan.attributes
    if old is None:
        registry.add_thing(plan.thing)
    elif plan.override == "FAIL":
        raise Conflict(f"thing {plan.thing} exists")
    elif plan.override == "DO_NOTHING":
        return
    elif plan.override == "MERGE":
        attributes = {**old["attributes"], **attributes}
        if len(attributes) > MAX_ATTRIBUTES:
            raise TemplateError(f"thing {plan.thing} would have {len(attributes)} attributes")
    registry.set_attributes(plan.thing, attributes)
