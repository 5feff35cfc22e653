"""lib.sntp's reading of an answer: every moment from 1970 to 2100, and bytes of any kind."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from lib.sntp import read_answer

_TO_1970 = 2_208_988_800
# The first moment at which NTP's 32-bit counter has its highest bit set; before it, and from
# 7 February 2036, a counter means the second era.
_FIRST = 2**31 - _TO_1970


def answer(seconds, fraction, first=0x24, stratum=1):
    stamp = struct.pack(">II", (seconds + _TO_1970) & 0xFFFFFFFF, fraction)
    return bytes((first, stratum)) + bytes(38) + stamp


@given(st.integers(0, 4_102_444_800), st.integers(0, 999), st.integers(0, 60_000))
def test_time_over_both_eras(seconds, milliseconds, took):
    fraction = -(-milliseconds * 2**32 // 1000)
    wanted = seconds * 1000 + milliseconds + took // 2
    assert read_answer(answer(seconds, fraction), took) == divmod(wanted, 1000)


@given(st.binary(min_size=48, max_size=48))
def test_any_bytes_give_a_time_or_a_value_error(data):
    try:
        seconds, milliseconds = read_answer(data, 0)
    except ValueError as error:
        assert str(error)
    else:
        assert _FIRST <= seconds < _FIRST + 2**32
        assert 0 <= milliseconds < 1000
        assert data[0] & 7 == 4
        assert 1 <= data[1] <= 15
