"""The pre-provisioning hook: may this device be registered? (rule `provisioning-hook`)

A hook is one of

    {"allowProvisioning": true, "parameterOverrides": {…}?, "ms": 0?}   always this answer
    {"command": ["program", "argument", …]}                             a program decides

The program gets what AWS hands to a Lambda, one JSON object, on its standard input, and prints
`{"allowProvisioning": …, "parameterOverrides": …}`.
"""

from __future__ import annotations

import asyncio
import json

from tools.cloud.template_functions import TemplateError

_FIXED = {"allowProvisioning", "parameterOverrides", "ms"}


class HookDenied(Exception):
    """The hook said no, failed, or took too long."""


def check(hook) -> None:
    """Raise TemplateError for something that is no hook."""
    if not isinstance(hook, dict):
        raise TemplateError("a hook is an object")
    if set(hook) == {"command"}:
        words = hook["command"]
        if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
            raise TemplateError("command takes a list of words")
        return
    if not set(hook) <= _FIXED or not isinstance(hook.get("allowProvisioning"), bool):
        raise TemplateError(
            "a hook has allowProvisioning (and parameterOverrides, ms), or command"
        )
    _overrides(hook.get("parameterOverrides"), TemplateError)
    pause = hook.get("ms", 0)
    if type(pause) is not int or pause < 0:
        raise TemplateError("ms takes a whole number from 0")


def _overrides(value, error) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise error("parameterOverrides maps names to strings")
    return value


async def ask(hook: dict | None, event: dict, timeout: float) -> dict[str, str]:
    """The parameters that the hook overrides; raises HookDenied. `timeout` in seconds."""
    if hook is None:
        return {}
    try:
        async with asyncio.timeout(timeout):
            answer = await _answer(hook, event)
    except TimeoutError:
        raise HookDenied(f"no answer of the hook in {timeout:g} s") from None
    if not isinstance(answer, dict) or answer.get("allowProvisioning") is not True:
        raise HookDenied("the pre-provisioning hook does not allow it")
    return _overrides(answer.get("parameterOverrides"), HookDenied)


async def _answer(hook: dict, event: dict):
    if "command" not in hook:
        await asyncio.sleep(hook.get("ms", 0) / 1000)
        return hook
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*hook["command"], stdin=pipe, stdout=pipe)
    except OSError as error:
        raise HookDenied(f"the hook does not start: {error.strerror}") from error
    try:
        out, _ = await process.communicate(json.dumps(event).encode())
    finally:
        # A program that is late would go on for ever.
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise HookDenied(f"the hook ended with {process.returncode}")
    try:
        return json.loads(out)
    except ValueError as error:
        raise HookDenied("the hook printed no JSON") from error
