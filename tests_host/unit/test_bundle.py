"""Certificates kept one behind the other."""

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from firmware.config.bundle import split
from tests_host.unit.test_sim_factory import DEVICE


def test_split():
    der = DEVICE.public_bytes(serialization.Encoding.DER)
    assert split(b"") == []
    assert split(der) == [der]
    assert split(der * 3) == [der] * 3


def test_split_refuses_what_does_not_fit():
    der = DEVICE.public_bytes(serialization.Encoding.DER)
    for bad in (der[:-1], der + b"0", der + b"\0\0\0\0", b"\x31" + der[1:]):
        with pytest.raises(ValueError):
            split(bad)


@given(st.binary(max_size=40))
def test_split_gives_all_or_nothing(data):
    try:
        values = split(data)
    except ValueError:
        return
    assert b"".join(values) == data
