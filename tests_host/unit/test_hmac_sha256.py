"""HMAC-SHA-256: the vectors of RFC 4231, and CPython's own."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import hmac_sha256

# RFC 4231, 4.2 to 4.8 without 4.6, whose result is cut: key, data, HMAC-SHA-256.
_RFC_4231 = [
    (b"\x0b" * 20, b"Hi There",
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?",
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50,
     "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50,
     "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First",
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
    (b"\xaa" * 131, (b"This is a test using a larger than block-size key and a larger than "
     b"block-size data. The key needs to be hashed before being used by the HMAC algorithm."),
     "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
]  # fmt: skip


@pytest.mark.parametrize("key, data, expected", _RFC_4231)
def test_rfc_4231(key, data, expected):
    assert hmac_sha256.digest(key, data).hex() == expected


@given(st.binary(max_size=200), st.lists(st.binary(max_size=150), max_size=4))
def test_any_key_and_any_parts(key, parts):
    expected = hmac.new(key, b"".join(parts), hashlib.sha256).digest()
    assert hmac_sha256.digest(key, *parts) == expected
    assert hmac_sha256.digest(memoryview(key), *map(bytearray, parts)) == expected


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128])
def test_keys_about_a_block_long(size):
    key = bytes(range(size))
    assert hmac_sha256.digest(key, b"x") == hmac.new(key, b"x", hashlib.sha256).digest()
