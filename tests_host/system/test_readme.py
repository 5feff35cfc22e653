"""The session in the README, line for line."""

import re
import time
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def transcript():
    """[(sent, expected)] of the README's session."""
    (block,) = re.findall(r"```transcript\n(.*?)```", README.read_text(), re.S)
    lines = block.splitlines()
    assert len(lines) >= 20
    sent, answered = lines[0::2], lines[1::2]
    assert all(line.startswith("> ") for line in sent)
    assert all(line.startswith("< ") for line in answered)
    return [(a[2:].encode(), b[2:].encode()) for a, b in zip(sent, answered, strict=True)]


def test_the_session(make_module):
    module = make_module()
    for line, expected in transcript():
        until = time.monotonic() + 5
        # A person is slower than the message that comes back.
        while line == b"AT+EVENT?" and not module.event() and time.monotonic() < until:
            time.sleep(0.01)
        assert module.command(line, timeout=120) == expected
