"""What the commands print, as JSON others rely on and as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_agents_list_is_an_array_of_forty(run: Run) -> None:
    found = run("agents", "list", "--json").json
    assert len(found) == 40
    assert {"codename", "id", "tier", "domain", "summary"} <= set(found[0])
    assert "OMNISCIENT" in run("agents", "list").out


def test_agents_show_prints_prompt_and_examples(run: Run) -> None:
    found = run("agents", "show", "apex", "--json").json
    text = run("agents", "show", "01").out
    assert found["codename"] == "APEX"
    assert found["examples"][0] in text and found["prompt_text"].strip() in text


def test_agents_check_accepts_the_registry_and_names_every_fault(run: Run, tmp_path: Path) -> None:
    assert run("agents", "check", "--json").json == {"ok": True, "faults": []}
    file = tmp_path / "mine.yaml"
    file.write_text("agents:\n- codename: APEX\n  tier: 99\n- codename: poet\n", encoding="utf-8")
    done = run("agents", "check", "--registry", str(file))
    assert done.code == 1
    assert f"{file}:3" in done.err and f"{file}:4" in done.err
    assert run("agents", "check", "--registry", str(file), "--json").json["error"]["code"] == (
        "INVALID_CONFIG"
    )


def test_route_gives_scores_and_reasons(run: Run) -> None:
    found = run("route", "Find the SQL injection in this handler", "--top-k", "3", "--json").json
    assert set(found) >= {"agents", "ms"}
    assert len(found["agents"]) == 3
    assert set(found["agents"][0]) == {"codename", "score", "reasons"}
    assert found["fits"] and 0.5 < found["scope"] <= 1
    assert found["agents"][0]["codename"] in run("route", "-", stdin=b"SQL injection").out
    assert "No agent fits" in run("route", "order a pizza with mushrooms").out


def test_models_list_says_what_is_here(run: Run, smollm2: Path) -> None:
    found = {model["name"]: model for model in run("models", "list", "--json").json}
    assert {"name", "family", "bytes", "licence", "present"} <= set(found["smollm2-135m"])
    assert found["smollm2-135m"]["present"] is True
    assert "smollm2-135m" in run("models", "list").out
    assert str(smollm2) in run("models", "show", "smollm2-135m").out
    assert run("models", "pull", "smollm2-135m").out.strip() == str(smollm2)


def test_generate_is_deterministic_and_says_what_it_cost(run: Run, smollm2: Path) -> None:
    arguments = ("generate", "--model", "smollm2-135m", "--prompt", "The capital of France is")
    found = run(*arguments, "--max-tokens", "4", "--json").json
    assert {"text", "prompt_tokens", "tokens", "finish_reason", "seconds"} <= set(found)
    assert found["tokens"] == 4
    assert run(*arguments, "--max-tokens", "4").out == found["text"] + "\n"


def test_generate_can_be_held_to_a_schema_and_to_choices(
    run: Run, smollm2: Path, tmp_path: Path
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"type": "integer"}, "maxItems": 2}')
    arguments = ("generate", "--chat", "--model", "smollm2-135m", "--prompt", "Two numbers.")
    assert isinstance(json.loads(run(*arguments, "--json-schema", str(schema)).out), list)
    assert run(*arguments, "--choice", "one", "--choice", "two").out.strip() in {"one", "two"}
    schema.write_text("no json")
    assert run(*arguments, "--json-schema", str(schema)).code == 1


def test_ask_answers_and_finds_the_run_again(
    run: Run, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "smollm2-135m")
    arguments = ("ask", "What is 7 times 6?", "--steps", "1", "--tokens", "120")
    first = run(*arguments, "--json")
    assert set(first.json) >= {
        "run_id",
        "agent",
        "answer",
        "verified",
        "checks",
        "steps",
        "experiences",
        "tokens",
        "seconds",
    }
    assert "route: " in first.err
    second = run(*arguments)
    for word in ("agent ", "steps ", "check ", "tokens ", "time ", "run ", "experience "):
        assert f"\n{word}" in second.out
    assert "used 1 similar past task\n" in second.out


def test_memory_goes_out_and_comes_back(run: Run, tmp_path: Path) -> None:
    kept = run("memory", "add", "The heron nests in March.", "--tag", "birds", "--json").json
    assert run("memory", "search", "when does the heron nest", "--json").json[0]["id"] == kept["id"]
    assert "heron" in run("memory", "show", kept["id"]).out
    file = tmp_path / "memory.jsonl"
    assert run("memory", "export", str(file), "--json").json["records"] == 1
    assert run("memory", "forget", kept["id"]).code == 0
    assert "Nothing like that" in run("memory", "search", "heron").out
    assert run("memory", "import", "-", "--json", stdin=file.read_bytes()).json["memories"] == 1
    assert run("memory", "stats", "--json").json["memories"] == 1
    assert run("memory", "export").out == file.read_text(encoding="utf-8")
    assert run("memory", "add", "-", stdin="Käse".encode()).code == 0


def test_an_import_that_is_wrong_changes_nothing(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text('{"type": "ryzanstein-memory", "version": 1}\n{"type": "memory"}\n')
    done = run("memory", "import", str(file), "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "INVALID_REQUEST")
    assert run("memory", "stats", "--json").json["memories"] == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run: Run, shell: str) -> None:
    assert "_RYZANSTEIN_COMPLETE" in run("completion", shell).out


def test_doctor_says_what_is_missing_and_how_to_get_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZANSTEIN_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "smollm2-135m")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = run("doctor", "--json")
    checks = {check["name"]: check for check in done.json["checks"]}
    assert done.code == 1 and done.json["ok"] is False
    assert checks["model"]["detail"].endswith("ryzanstein models pull smollm2-135m")
    assert checks["registry"]["ok"] and checks["kernels"]["ok"] and "vscode" in checks


def test_bench_inference_ends_in_a_line_of_json_with_every_figure(
    run: Run, smollm2: Path, tmp_path: Path
) -> None:
    arguments = ("--model", "smollm2-135m", "--threads", "1")
    sizes = ("--prompt-tokens", "32", "--new-tokens", "8")
    done = run("bench", "inference", *arguments, *sizes)
    figures = json.loads(done.out.splitlines()[-1])
    wanted = """model threads isa prefill_tok_s decode_tok_s ttft_ms load_s peak_rss_mb
        bytes_per_token bandwidth_gb_s share_of_peak"""
    assert set(wanted.split()) <= set(figures)
    text = tmp_path / "text.txt"
    text.write_text("The heron stands in the water and waits for a fish. " * 20, encoding="utf-8")
    perplexity = ("--suite", "perplexity", "--data", str(text))
    windows = ("--windows", "1", "--window-tokens", "64")
    found = run("bench", "inference", *arguments, *perplexity, *windows, "--json").json
    assert 1 < found["perplexity"] < 1000


def test_bench_routing_and_memory_end_in_a_line_of_json(run: Run) -> None:
    routing = json.loads(run("bench", "routing").out.splitlines()[-1])
    assert routing["labels"] == 40 and routing["top5"] > routing["top1"] > 0.9
    memory = run("bench", "memory", "--records", "50", "--queries", "20", "--json").json
    assert memory["found_itself"] > 0.9


def test_agents_warm_reads_each_prompt_once(run: Run, smollm2: Path) -> None:
    model = ("--model", "smollm2-135m")
    first = run("agents", "warm", "APEX", "cipher", *model, "--json")
    assert (first.code, [one["agent"] for one in first.json]) == (0, ["APEX", "CIPHER"])
    assert "Reading prompts 2 of 2: CIPHER" in first.err
    assert all(one["tokens"] > 100 and one["place"] == "disk" for one in first.json)
    again = run("agents", "warm", "APEX", *model)
    assert "SmolLM2" in again.out and "APEX" in again.out
    assert run("agents", "warm", "APEXX").code == 1
    assert "agents warm APEX CIPHER" in run("agents", "warm", "--help").out
