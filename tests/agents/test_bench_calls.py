"""The measure of tool calls: the leaderboard's files read, its log gone on with, clear refusals."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer

from ryzanstein.agents.bench import bfcl
from ryzanstein.agents.bench.calls import run
from ryzanstein.errors import InvalidRequest
from ryzanstein.registry import Registry

# The package's own checker, as far as these tasks go: it is not installed where the tests run.
CHECKER = """
from bfcl_eval.constants.model_config import MODEL_CONFIG_MAPPING

def ast_checker(described, made, answers, language, category, model):
    assert not MODEL_CONFIG_MAPPING[model].underscore_to_dot and language == "python"
    if made == [{name: {k: v[0] for k, v in given.items()}} for a in answers
                for name, given in a.items()]:
        return {"valid": True}
    return {"valid": False, "error": ["no"], "error_type": "value_error:others"}
"""
ADD = {
    "name": "math.add",
    "description": "Adds.",
    "parameters": {
        "type": "dict",
        "properties": {"a": {"type": "integer"}, "b": {"type": "float"}},
        "required": ["a", "b"],
    },
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "bfcl" / "bfcl_eval"
    for name in ("", "constants", "eval_checker", "eval_checker/ast_eval"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "__init__.py").touch()
    (root / "constants" / "enums.py").write_text('class Language:\n    PYTHON = "python"\n')
    (root / "constants" / "model_config.py").write_text("import no_such_client\n")
    (root / "eval_checker" / "ast_eval" / "ast_checker.py").write_text(CHECKER)
    (root / "data" / "possible_answer").mkdir(parents=True)
    tasks, answers = [], []
    for number in range(4):
        question = [[{"role": "user", "content": f"Add {number} and 2."}]]
        tasks.append({"id": f"simple_{number}", "question": question, "function": [ADD]})
        truth = [{"math.add": {"a": [number], "b": [2.0]}}]
        answers.append({"id": f"simple_{number}", "ground_truth": truth})
    name = "BFCL_v4_simple_python.json"
    (root / "data" / name).write_text("\n".join(map(json.dumps, tasks)))
    (root / "data" / "possible_answer" / name).write_text("\n".join(map(json.dumps, answers)))
    yield root.parent
    for module in [one for one in sys.modules if one.partition(".")[0] == "bfcl_eval"]:
        del sys.modules[module]


class Inference:
    """An inference server whose model adds everything right but threes."""

    def __init__(self) -> None:
        self.asked = 0
        self.server = MCPServer("inference")
        self.server.add_tool(self.chat)

    def chat(
        self,
        messages: list[dict[str, str]],
        json_schema: dict[str, Any],
        max_tokens: int,
        answer_prefix: str = "",
        model: str | None = None,
    ) -> dict[str, Any]:
        """Answers."""
        self.asked += 1
        first = int(messages[-1]["content"].split()[1])
        call = {"name": "math.add", "arguments": {"a": first, "b": 2 if first != 3 else 7}}
        text = json.dumps(call) if first != 0 else "no"
        told = {"prompt_tokens": 50, "cached_tokens": 0, "tokens": 20, "seconds": 0.5}
        return {"text": text, "model": "scripted", "finish_reason": "stop", **told}


def test_each_answer_is_judged_once_and_kept(
    package: Path, declared: Registry, tmp_path: Path
) -> None:
    model, log = Inference(), tmp_path / "log.jsonl"
    options: dict[str, Any] = {
        "suite": "simple",
        "registry": declared,
        "bfcl": package,
        "log": log,
        "servers": {"inference": model.server},
    }
    assert run(**options, limit=2)["problems"] == 2
    before = model.asked
    found = run(**options)
    assert model.asked - before == 2
    assert (found["problems"], found["right"], found["accuracy"]) == (4, 2, 50.0)
    assert found["well_formed"] == 75.0
    assert found["faults"] == {"no_call": 1, "value_error:others": 1}
    assert found["interval"][0] < 50 < found["interval"][1]
    assert found["cost"] == {
        "calls": 3,
        "tokens_per_call": 20.0,
        "seconds_per_call": 0.5,
        "prompt_tokens": 37.5,
    }
    with pytest.raises(InvalidRequest, match="another suite, model or way"):
        run(**{**options, "way": "stepwise"})


def test_without_the_package_the_error_says_how_to_get_it(
    package: Path, declared: Registry, tmp_path: Path
) -> None:
    for folder in (None, tmp_path / "nowhere"):
        with pytest.raises(InvalidRequest, match="bfcl-eval") as caught:
            run(suite="simple", registry=declared, bfcl=folder)
        assert "pip install --no-deps" in caught.value.hint
    with pytest.raises(InvalidRequest, match="There is no file"):
        run(suite="multiple", registry=declared, bfcl=package)


def test_a_task_without_an_answer_is_an_error(package: Path) -> None:
    name = "BFCL_v4_simple_python.json"
    (package / "bfcl_eval" / "data" / "possible_answer" / name).write_text("")
    with pytest.raises(InvalidRequest, match="no answer to simple_0"):
        bfcl.load("simple", package, None)
    shutil.rmtree(package / "bfcl_eval" / "data")
    with pytest.raises(InvalidRequest, match="does not hold the package"):
        bfcl.load("simple", package, None)
