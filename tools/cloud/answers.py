"""How a service answers, and what the fault switches do to an answer on its way."""

from __future__ import annotations

import asyncio
import logging

from tools.cloud import topics

log = logging.getLogger("cloud")


def granted(connection, topic: str) -> int | None:
    """The best QoS at which the client's filters take this topic; None when none does."""
    filters = connection.session.subscriptions.items()
    levels = [qos for pattern, qos in filters if topics.matches(pattern, topic)]
    return max(levels) if levels else None


def reply(broker, connection, service: str, send, foreign=None, **where) -> None:
    """Answer a request: `send()` sends the true answer once.

    Faults at `service` act here: `delay`, `foreign` (with `foreign(fault)`, which sends an answer
    to somebody else's request), `close`, `duplicate`. `where`: further fields that a fault must
    agree with, such as the `request`.
    """
    where["at"] = service
    fault = broker.faults.take("delay", connection, **where)
    if fault is None:
        _reply(broker, connection, where, send, foreign)
    else:
        loop = asyncio.get_running_loop()
        pause = fault.ms / 1000
        loop.call_later(pause, _reply, broker, connection, where, send, foreign)


def _reply(broker, connection, where: dict, send, foreign) -> None:
    service = where["at"]
    if connection.state != "open":
        log.info("not answered: %s has gone, %s", connection.name(), service)
        return
    faults = broker.faults
    if faults.take("close", connection, when="before", **where):
        connection.end("fault", f"closed before the answer of {service}")
        return
    stranger = faults.take("foreign", connection, **where) if foreign is not None else None
    if stranger is not None and stranger.when in ("before", "instead"):
        foreign(stranger)
    if stranger is None or stranger.when != "instead":
        send()
        if faults.take("duplicate", connection, **where):
            send()
    if stranger is not None and stranger.when == "after":
        foreign(stranger)
    if faults.take("close", connection, when="after", **where):
        connection.end("fault", f"closed after the answer of {service}")
