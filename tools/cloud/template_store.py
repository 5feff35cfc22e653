"""The provisioning templates of a registry: put, get, list, remove.

Like the rest of the registry it may be written to by any process while the cloud runs; the next
request sees the change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tools.cloud import hook as hooks
from tools.cloud import templates
from tools.cloud.registry import Registry, RegistryError
from tools.cloud.template_functions import TemplateError

_KEEP = object()


@dataclass(frozen=True)
class Stored:
    """A template as it is stored; `hook` as `hook.check` takes it, None without one."""

    name: str
    body: str
    enabled: bool
    hook: dict | None

    def as_dict(self) -> dict:
        """For the control socket: the body as the object that it is."""
        return {
            "name": self.name,
            "enabled": self.enabled,
            "hook": self.hook,
            "body": json.loads(self.body),
        }


class TemplateStore:
    """Templates in one open registry. The built-in ones are there from the start."""

    def __init__(self, registry: Registry):
        self._registry = registry
        for name, body in templates.BUILT_IN.items():
            registry.db.execute(
                "INSERT OR IGNORE INTO templates VALUES (?,?,1,NULL)", (name, body)
            )

    def put(self, name: str, body=None, enabled: bool | None = None, hook=_KEEP) -> None:
        """Create a template, or change what is given of one that exists.

        `body`: the JSON text, or the object. `enabled`: a disabled template provisions nobody.
        `hook`: see `hook.check`; None takes it away. Raises TemplateError, and then nothing is
        changed.
        """
        templates.check_name(name)
        old = self.get(name)
        if body is None:
            if old is None:
                raise TemplateError(f"template {name} has no body")
            body = old.body
        text = body if isinstance(body, str) else json.dumps(body)
        templates.Template(text)
        if enabled is None:
            enabled = old.enabled if old else True
        if not isinstance(enabled, bool):
            raise TemplateError("enabled is true or false")
        if hook is _KEEP:
            hook = old.hook if old else None
        if hook is not None:
            hooks.check(hook)
        self._registry.db.execute(
            "INSERT INTO templates VALUES (?,?,?,?) ON CONFLICT (name) DO UPDATE "
            "SET body = excluded.body, enabled = excluded.enabled, hook = excluded.hook",
            (name, text, int(enabled), None if hook is None else json.dumps(hook)),
        )

    def get(self, name: str) -> Stored | None:
        """The template called `name`, or None."""
        row = self._registry.db.execute(
            "SELECT name, body, enabled, hook FROM templates WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            return None
        hook = None if row[3] is None else json.loads(row[3])
        return Stored(row[0], row[1], bool(row[2]), hook)

    def names(self) -> list[str]:
        """The names of all templates."""
        rows = self._registry.db.execute("SELECT name FROM templates ORDER BY name")
        return [row[0] for row in rows]

    def remove(self, name: str) -> None:
        """Remove a template; a built-in one comes back at the next start. Raises
        RegistryError when there is none."""
        done = self._registry.db.execute("DELETE FROM templates WHERE name = ?", (name,))
        if done.rowcount < 1:
            raise RegistryError(f"no template {name}")
