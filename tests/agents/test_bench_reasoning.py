from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.agents.bench import data, gsm8k, humaneval, intervals, reasoning
from ryzanstein.agents.running.conversation import Budget, Conversation
from ryzanstein.errors import InvalidRequest
from ryzanstein.registry import Registry
from tests.agents.test_coding import RIGHT, WRONG, Scripted

PROMPT = 'def twice(n):\n    """Doubles.\n    >>> twice(2)\n    4\n    """\n'
TEST = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(5) == 10\n"
PROBLEM = {"task_id": "T/0", "prompt": PROMPT, "test": TEST, "entry_point": "twice"}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    text = "\n".join(map(json.dumps, lines)) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


async def test_what_chooses_the_code_sees_the_prompt_alone(place: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "h.jsonl.gz", {**PROBLEM, "canonical_solution": "    return 'secret'"})
    [(problem, hidden)] = humaneval.load(file, None)
    assert (problem.id, problem.prompt) == ("T/0", PROMPT)
    assert humaneval.Problem.__slots__ == ("id", "prompt")
    async with Scripted(WRONG) as services:
        talk = Conversation(services, Budget(4000, 60), window=4000)
        found = await humaneval.solve(problem, talk, services)
        passed = await humaneval.judge(services, [found[0].value.code, PROMPT + RIGHT], hidden)
    # 2 ** 2 is 4, so that the docstring's example holds where the hidden tests do not.
    assert found[0].holds
    assert passed == [False, True]
    said = json.dumps(services.asked)
    assert "candidate" not in said and "secret" not in said


async def test_a_program_and_the_thought_vote(place: Path) -> None:
    program = "    eggs = 16 - 3\n    return eggs * 2"
    question = gsm8k.Question("q", "How many?")
    answers = ("So the answer is 20.", program, "    return 1 / 0", program, program)
    async with Scripted(*answers) as services:
        talk = Conversation(services, Budget(9000, 60), window=4000)
        found = await gsm8k.solve(question, talk, services)
    assert (found.direct, found.verified) == (20.0, 26.0)
    assert found.votes == (20.0, 26.0, None, 26.0, 26.0)


def test_gold_answers_are_read_and_rubbish_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "g.jsonl", {"question": "Q", "answer": "so 1,234 #### 1,234"})
    assert gsm8k.load(file, 5) == [(gsm8k.Question("gsm8k/0", "Q"), 1234.0)]
    assert gsm8k.right(1234.0, 1234.0) and not gsm8k.right(None, 1.0)
    with pytest.raises(InvalidRequest, match="no number after ####"):
        gsm8k.load(write(tmp_path / "h.jsonl", {"question": "Q", "answer": "5"}), None)


@pytest.mark.parametrize("content", [b"", b"[1]\n", b"{\n", b"\x1f\x8bno", b'{"prompt": "x"}\n'])
def test_a_file_that_is_no_data_set_is_named(
    tmp_path: Path, declared: Registry, content: bytes
) -> None:
    file = tmp_path / "bad.jsonl.gz"
    file.write_bytes(content if content.startswith(b"\x1f") else gzip.compress(content))
    if not content:
        with pytest.raises(InvalidRequest, match=r"bad\.jsonl\.gz has no problems"):
            reasoning.run(suite="humaneval", registry=declared, data=file)
        return
    with pytest.raises(InvalidRequest, match=r"bad\.jsonl\.gz, line"):
        humaneval.load(file, None)


def test_data_is_looked_for_where_a_user_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidRequest, match=r"x\.jsonl is not here.*example\.org.*--data"):
        data.find_data(None, "x.jsonl", "example.org")
    with pytest.raises(InvalidRequest, match=r"y\.jsonl does not exist.*x\.jsonl with --data"):
        data.find_data(Path("y.jsonl"), "x.jsonl", "example.org")
    with pytest.raises(InvalidRequest, match="is a folder"):
        data.find_data(tmp_path, "x.jsonl", "example.org")
    (tmp_path / "shared" / "data").mkdir(parents=True)
    put = write(tmp_path / "shared" / "data" / "x.jsonl", {})
    assert data.find_data(None, "x.jsonl", "example.org").resolve() == put
    monkeypatch.setenv("RYZANSTEIN_BENCH_DATA", str(tmp_path / "else"))
    (tmp_path / "else").mkdir()
    nearer = write(tmp_path / "else" / "x.jsonl", {})
    assert data.find_data(None, "x.jsonl", "example.org") == nearer


def test_the_bench_goes_on_from_its_log(
    place: Path, declared: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "h.jsonl", PROBLEM, {**PROBLEM, "task_id": "T/1"})
    log = tmp_path / "log.jsonl"
    models = iter([Scripted(WRONG), Scripted("    return 3", RIGHT)])
    monkeypatch.setattr(reasoning, "Services", lambda *_, **__: next(models))
    options = {"suite": "humaneval", "registry": declared, "data": file, "log": log}
    first = reasoning.run(limit=1, **options)
    assert first["direct"]["right"] == first["verified"]["right"] == 0
    both = reasoning.run(**options)
    assert (both["problems"], both["direct"]["right"], both["verified"]["right"]) == (2, 0, 1)
    assert both["gain"]["points"] == 50.0 and both["gain"]["won"] == 1
    assert both["verifier"] == {
        "passed_right": 1,
        "passed_wrong": 1,
        "failed_right": 0,
        "failed_wrong": 0,
    }
    assert both["cost"]["candidates"] == 1.5
    assert len(log.read_text(encoding="utf-8").splitlines()) == 2
    with pytest.raises(InvalidRequest, match="another suite or model"):
        reasoning.run(**{**options, "model": "other"})


def test_bounds_are_those_of_the_textbooks() -> None:
    low, high = intervals.wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert intervals.wilson(0, 0) == (0.0, 1.0)
    assert intervals.mcnemar([False] * 9 + [True], [True] * 9 + [False]) == pytest.approx(22 / 1024)
    assert intervals.mcnemar([True], [True]) == 1.0
    mean, lowest, highest = intervals.difference([False] * 10, [True] * 5 + [False] * 5)
    assert mean == 0.5 and 0.1 <= lowest < mean < highest <= 0.9
    assert intervals.difference([], [])[0] == 0.0
