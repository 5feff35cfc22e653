"""The device modes: which moves there are."""

import itertools

import pytest

from firmware import mode

LEGAL = {
    ("init", "idle"),
    ("init", "configuration"),
    ("init", "normal"),
    ("configuration", "normal"),
    ("configuration", "idle"),
    ("normal", "idle"),
    ("normal", "configuration"),
    ("normal", "ota"),
    ("ota", "normal"),
}
NAMES = ("init", "idle", "configuration", "normal", "ota")


@pytest.mark.parametrize(("old", "new"), list(itertools.product(NAMES, NAMES)))
def test_moves(old, new):
    state = mode.Mode()
    state.state = NAMES.index(old)
    if (old, new) in LEGAL:
        state.to(NAMES.index(new), b"why")
        assert (state.name(), state.reason) == (new.encode(), b"why")
    else:
        with pytest.raises(RuntimeError, match="mode"):
            state.to(NAMES.index(new))
        assert state.name() == old.encode()
