"""The control socket's requests about provisioning and things."""

from __future__ import annotations

from tools.cloud.control_server import ControlServer
from tools.cloud.provisioning import Provisioning
from tools.cloud.template_functions import TemplateError

_FIELDS = {"name", "body", "enabled", "hook"}


def add(control: ControlServer, provisioning: Provisioning, registry) -> None:
    """Serve `put_template`, `template`, `remove_template`, `thing`, and two views."""
    store = provisioning.templates

    def put(body: dict) -> None:
        unknown = set(body) - _FIELDS
        if unknown:
            raise TemplateError(f"put_template takes no {', '.join(sorted(unknown))}")
        given = dict(body)
        store.put(given.pop("name"), **given)

    def get(name: str) -> dict:
        found = store.get(name)
        return {"template": None if found is None else found.as_dict()}

    control.add("put_template", put)
    control.add("template", get)
    control.add("remove_template", store.remove)
    control.add("thing", lambda name: {"thing": registry.thing(name)})
    control.add_view("templates", store.names)
    control.add_view("provisionings", provisioning.provisionings)
