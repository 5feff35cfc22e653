"""Each block of each transcript is a test, named by the clauses that it shows."""

from pathlib import Path

import pytest

from tests_host.conformance import transcript
from tests_host.conformance.stage import Mismatch, play

BLOCKS = [
    block
    for path in sorted(Path(__file__).parent.glob("*.txt"))
    for block in transcript.parse(path)
]


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, id=b.id, marks=pytest.mark.clause(*b.clauses)) for b in BLOCKS],
)
def test(stage, block):
    # The dialogue says it all; a traceback of this file would not.
    wrong = None
    try:
        play(stage, block)
    except Mismatch as error:
        wrong = str(error)
    if wrong:
        pytest.fail(wrong, pytrace=False)
