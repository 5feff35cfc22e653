"""The two formats in which services take requests and answer: JSON and CBOR."""

from __future__ import annotations

import io
import json

import cbor2

FORMS = ("json", "cbor")


class FormError(ValueError):
    """The payload is not one value in the format that its topic names."""


def decode(form: str, payload: bytes):
    """The value in `payload`; `form` is json or cbor. Raises FormError for anything else."""
    try:
        if form == "json":
            return json.loads(payload.decode("utf-8"), parse_constant=_no_constant)
        stream = io.BytesIO(payload)
        value = cbor2.load(stream)
        if stream.tell() != len(payload):
            raise ValueError("bytes behind the value")
        return value
    except (ValueError, RecursionError, cbor2.CBORDecodeError) as error:
        # The decoder's words may hold bytes of the payload: its kind says enough.
        raise FormError(f"not {form}: {type(error).__name__}") from None


def encode(form: str, value: dict) -> bytes:
    """An answer's payload."""
    return json.dumps(value).encode() if form == "json" else cbor2.dumps(value)


def _no_constant(name: str):
    raise ValueError(f"{name} is not JSON")
