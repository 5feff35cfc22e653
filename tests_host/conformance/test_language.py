"""The tools of this folder: the language of the transcripts, the list of clauses, the report."""

import time
from pathlib import Path

import pytest

from tests_host.conformance import catalogue, report, test_transcripts, transcript
from tests_host.conformance.stage import Mismatch, play

_HERE = Path(__file__).parent


def blocks(tmp_path, text):
    path = tmp_path / "some.txt"
    path.write_text(text)
    return transcript.parse(path)


def test_blocks_and_steps(tmp_path):
    text = "prose\n> prose\n\n## 3.1, Table 2, D5: one\n# no\n> AT\n\n< OK\n## 4: two\n<-\n>\n"
    one, two = blocks(tmp_path, text)
    assert one.clauses == ("3.1", "Table 2", "D5")
    assert one.id == "3.1,Table 2,D5 one"
    assert [(s.mark, s.text, s.line) for s in one.steps] == [(">", "AT", 6), ("<", "OK", 8)]
    assert [(s.mark, s.text) for s in two.steps] == [("<-", ""), (">", "")]


@pytest.mark.parametrize(
    "text",
    [
        "## 3.1 no colon\n< OK\n",
        "## 3.1:\n< OK\n",
        "## X1: no clause\n< OK\n",
        "### 3.1: three\n< OK\n",
        "## 3.1: no step\nAT\n",
        "## 3.1: no step\n<x\n",
        "## 3.1: no step\n<- x\n",
        "## 3.1: nothing is expected\n> AT\n@sleep 1\n",
        "## 3.1: empty\n",
    ],
)
def test_what_is_no_transcript(tmp_path, text):
    with pytest.raises(transcript.TranscriptError, match=r"some.txt:\d+"):
        blocks(tmp_path, text)


def test_braces():
    names = {"thing": b"th.ing"}.__getitem__
    filled = transcript.fill(r"a{0D}{00}\A{x*3}{thing}{SCANRES}{é*2}{no}", names)
    assert filled == b"a\r\0\\Axxxth.ing{SCANRES}" + "éé{no}".encode()
    pattern = transcript.fill_pattern(r"OK \d{2} {thing}", names)
    assert pattern.fullmatch(b"OK 12 th.ing")
    assert not pattern.fullmatch(b"OK 12 th-ing")


WRONG = [
    "> AT\n< OKAY\n",
    "> AT\n< OK \n",
    "> AT\n<-\n",
    "> AT+CONF? TechSpec\n<~ v0.5\n",
    "@patience 0.2\n<~ .*\n",
    "> AT\n< OK\n@event 1\n",
    "> AT\n< OK\n@took 5 6\n",
    "> AT\n< OK\n@state in deep sleep\n",
    "@connect\n@publish other x\n@listen #\n> AT+SEND a b\n< OK\n@arrives {thing}/a c\n",
    "@connect\n@listen #\n> AT+SEND a b\n< OK\n@quiet\n",
    "@connect\n@deliver a b\n@event 1\n@quiet\n",
    "@connect\n@client keep_alive 61\n",
    "> AT+RESET\n< OK\n@restarted\n@restarted\n",
]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_transcript_fails(stage, tmp_path, monkeypatch, text):
    monkeypatch.setattr(stage, "limit_s", 0.5)
    (block,) = blocks(tmp_path, "## 3.1: wrong\n" + text)
    with pytest.raises(Mismatch, match=r"some.txt:\d+: "):
        play(stage, block)


def test_a_reply_too_many_is_noticed(stage):
    stage.module.write(b"AT\n")
    with pytest.raises(Mismatch):
        stage.finish()
    time.sleep(0.1)
    stage.module.flush()


def test_every_clause_has_a_test():
    clauses = catalogue.load()
    named = {number for block in test_transcripts.BLOCKS for number in block.clauses}
    for path in _HERE.glob("test_*.py"):
        module = __import__(f"tests_host.conformance.{path.stem}", fromlist=["x"])
        for value in vars(module).values():
            for mark in getattr(value, "pytestmark", []):
                if mark.name == "clause":
                    named.update(mark.args)
    assert catalogue.unknown(named, clauses) == []
    assert catalogue.gaps(named, clauses) == []


def test_the_list_of_clauses():
    clauses = catalogue.load()
    numbers = list(clauses)
    assert [n for n in numbers if n.startswith("D")] == [f"D{n}" for n in range(1, 41)]
    assert [n for n in numbers if n[0] == "T"] == [f"Table {n}" for n in range(1, 7)]
    for number in numbers:
        if number[0].isdigit() and number.count(".") > 1:
            parent = number.rsplit(".", 1)[0]
            # The guide numbers a few paragraphs without a heading over them.
            assert parent in clauses or parent in ("4.1.1", "5.1.1", "7.1.1", "7.5.1", "9.1")
    # Everything of the guide is built.
    assert not [clause.number for clause in clauses.values() if clause.planned]


@pytest.fixture
def few():
    return {
        "3": catalogue.Clause("3", "tested"),
        "4": catalogue.Clause("4", "impossible", reason="too far"),
        "5": catalogue.Clause("5", "later", planned="updates", deviation="differs"),
        "D1": catalogue.Clause("D1", "decided"),
    }


def test_report_counts_and_judges(few):
    results = [report.Result("f.py::test[3,D1,Table 4 one|two]", ("3", "D1"), "passed")]
    for n in range(2):
        results.append(report.Result(f"f.py::test_some_thing[{n}]", ("D1",), "passed"))
    good = report.Report(few, results)
    assert good.good()
    assert good.gaps() == []
    assert good.summary() == [
        "3 clauses and tables of chapters 3 to 9: 1 not testable, 1 passed, 1 planned",
        "1 decisions: 1 passed",
        "3 tests: 3 passed",
        "0 gaps",
    ]
    text = good.markdown()
    assert "| 3 | tested | passed | 1: one\\|two |" in text
    assert "| D1 | decided | passed | 3: one\\|two; some thing, 2 times |" in text
    assert "| 4 | impossible | not testable | too far |" in text
    assert "- **5** later: differs" in text


@pytest.mark.parametrize(
    ("results", "gaps"),
    [
        ([], ["3", "D1"]),
        ([("3", "passed")], ["D1"]),
        ([("3", "passed"), ("D1", "skipped")], ["D1"]),
        ([("3", "passed"), ("D1", "failed")], []),
    ],
)
def test_report_of_what_is_missing(few, results, gaps):
    made = report.Report(few, [report.Result("x", (n,), outcome) for n, outcome in results])
    assert made.gaps() == gaps
    assert not made.good()


def test_collector_takes_the_worst_of_a_tests_phases():
    class Phase:
        def __init__(self, when, outcome):
            self.nodeid, self.when, self.outcome = "x", when, outcome
            self.user_properties = [("clauses", ["3"])]

    collector = report.Collector()
    for when, outcome in (("setup", "passed"), ("call", "passed"), ("teardown", "failed")):
        collector.pytest_runtest_logreport(Phase(when, outcome))
    assert [r.outcome for r in collector.results] == ["failed"]
