"""The `$` topics that exist, and which way a client may use each (rule `reserved-topic`)."""

from __future__ import annotations

from tools.cloud.topics import matches, overlap

_THING = "$aws/things/+/"
_REQUESTS = (
    _THING + "shadow/get",
    _THING + "shadow/update",
    _THING + "shadow/delete",
    _THING + "shadow/name/+/get",
    _THING + "shadow/name/+/update",
    _THING + "shadow/name/+/delete",
    _THING + "jobs/get",
    _THING + "jobs/start-next",
    _THING + "jobs/+/get",
    _THING + "jobs/+/update",
    _THING + "defender/metrics/json",
    _THING + "defender/metrics/cbor",
    "$aws/certificates/create/json",
    "$aws/certificates/create/cbor",
    "$aws/certificates/create-from-csr/json",
    "$aws/certificates/create-from-csr/cbor",
    "$aws/provisioning-templates/+/provision/json",
    "$aws/provisioning-templates/+/provision/cbor",
)
_STREAM_REQUESTS = tuple(
    _THING + f"streams/+/{verb}/{form}"
    for verb in ("describe", "get")
    for form in ("json", "cbor")
)
_EVENTS = (
    _THING + "shadow/update/delta",
    _THING + "shadow/update/documents",
    _THING + "shadow/name/+/update/delta",
    _THING + "shadow/name/+/update/documents",
    _THING + "jobs/notify",
    _THING + "jobs/notify-next",
    *(
        _THING + f"streams/+/{verb}/{form}"
        for verb in ("description", "data", "rejected")
        for form in ("json", "cbor")
    ),
    "$aws/events/presence/connected/+",
    "$aws/events/presence/disconnected/+",
)
_INGEST = "$aws/rules/#"
_PRIVATE = ("$aws/certificates/#", "$aws/provisioning-templates/#")

PUBLISH = (*_REQUESTS, *_STREAM_REQUESTS, _INGEST)
SUBSCRIBE = (
    *_REQUESTS,
    *_STREAM_REQUESTS,
    *_EVENTS,
    *(topic + answer for topic in _REQUESTS for answer in ("/accepted", "/rejected")),
)


def may_publish(topic: str) -> bool:
    """Whether clients may publish to this name at all; always true for a name without `$`."""
    return not topic.startswith("$") or any(matches(known, topic) for known in PUBLISH)


def may_subscribe(pattern: str) -> bool:
    """Whether the filter can match a topic that clients may listen to."""
    return not pattern.startswith("$") or any(overlap(known, pattern) for known in SUBSCRIBE)


def is_basic_ingest(topic: str) -> bool:
    """Whether a publish goes to a rule of AWS IoT and not to subscribers."""
    return matches(_INGEST, topic)


def is_private(topic: str) -> bool:
    """Whether a publish goes to its service alone (rule `provisioning-private`)."""
    return any(matches(pattern, topic) for pattern in _PRIVATE)
