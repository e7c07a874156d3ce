"""`ryzanstein bench`: measures, whose last line on stdout is one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ryzanstein.cli._bench_memory import SUITES, memory_suite
from ryzanstein.cli._group import command, group
from ryzanstein.cli._output import Output
from ryzanstein.errors import InvalidRequest

__all__ = ["bench"]

bench = group(
    "bench",
    "Measurements on this machine; the last line of stdout is JSON.",
    "ryzanstein bench inference --model smollm2-135m --threads 2",
    "ryzanstein bench routing",
    "ryzanstein bench mcp",
)


@bench.add
@command(
    "inference",
    "ryzanstein bench inference --model qwen2.5-coder-0.5b --threads 2 --peer llama-cpp",
    "ryzanstein bench inference --suite perplexity --model smollm2-135m --data wikitext2-test.txt",
    "ryzanstein bench inference --suite perplexity --precision ternary --data wikitext2-test.txt",
)
@click.option("--model", metavar="NAME|PATH", help="Another model than the default.")
@click.option("--threads", type=click.IntRange(1, 1024), help="All CPUs without it.")
@click.option("--prompt-tokens", type=click.IntRange(1), default=512, show_default=True)
@click.option("--new-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option(
    "--peer", type=click.Choice(["llama-cpp"]), help="Measure this one too, on the same file."
)
@click.option(
    "--suite", type=click.Choice(["speed", "perplexity"]), default="speed", show_default=True
)
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Text for the perplexity.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float", "int8", "int4", "ternary"]),
    default="auto",
    show_default=True,
    help="Of the weights; ternary shows what rounding a model so costs it.",
)
@click.option("--windows", type=click.IntRange(1), default=32, show_default=True)
@click.option("--window-tokens", type=click.IntRange(2), default=512, show_default=True)
def inference(out: Output, suite: str, data: Path | None, **options: Any) -> None:
    """Measure the engine: speed of reading and writing, or perplexity of a text."""
    from ryzanstein.cli._bench import inference_speed, perplexity

    if suite == "speed":
        emit(out, inference_speed(**options))
    elif data is None:
        raise InvalidRequest("The perplexity needs a text.", hint="Give one with --data FILE.")
    else:
        emit(out, perplexity(data=data, **options))


@bench.add
@command(
    "memory",
    "ryzanstein bench memory --records 2000",
    "ryzanstein bench memory --suite locomo --data locomo10.json --embedding minilm",
    "ryzanstein bench memory --suite vectors --data wikitext2-test.txt --sizes 10000,100000",
    "ryzanstein bench memory --suite imports --data wikitext2-test.txt",
    "ryzanstein bench memory --suite scale --data wikitext2-test.txt --records 1000000",
)
@click.option(
    "--suite",
    type=click.Choice(list(SUITES)),
    default="speed",
    show_default=True,
    help="Storing and recalling; finding evidence; forms of vectors; files in and out; "
    "what is merged; index and store at a million.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Conversations in LoCoMo's format, or a text to cut passages from.",
)
@click.option("--embedding", metavar="NAME", help="Another embedding than the default: minilm.")
@click.option("--records", type=click.IntRange(10, 10_000_000), help="Of speed, imports and scale.")
@click.option("--queries", type=click.IntRange(1, 100_000), default=200, show_default=True)
@click.option("--sizes", metavar="N,N,…", help="Of vectors and merging.")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["index", "store"]),
    help="Of scale; both without it.",
)
def memory(out: Output, suite: str, **options: Any) -> None:
    """Measure the memory, in stores of its own that are thrown away."""
    measures = memory_suite(suite, **options)
    if suite == "vectors" and not out.as_json:
        from ryzanstein.memory.bench.vectors import table

        print(table(measures))
    emit(out, measures)


@bench.add
@command(
    "routing",
    "ryzanstein bench routing",
    "ryzanstein bench routing --data clinc150.json --embedding minilm",
    "ryzanstein bench routing --data tasks.csv --labels labels.csv",
)
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with columns task, label, split (train, test), or CLINC150's JSON; "
    "the registry's own tasks without it.",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with columns label, description; the registry's agents without it.",
)
@click.option("--embedding", metavar="NAME", help="Another embedding than the configured: minilm.")
def routing(out: Output, **options: Any) -> None:
    """Measure how often a task finds its agent: by descriptions, and with 2 to 50 examples."""
    from ryzanstein.cli._bench import routing_quality

    emit(out, routing_quality(**options))


@bench.add
@command(
    "reasoning",
    "ryzanstein bench reasoning --suite humaneval --limit 60 --model qwen2.5-coder-0.5b",
    "ryzanstein bench reasoning --suite gsm8k --limit 50 --data gsm8k-test.jsonl --log run.jsonl",
)
@click.option(
    "--suite",
    type=click.Choice(["humaneval", "gsm8k"]),
    default="humaneval",
    show_default=True,
    help="Functions with hidden tests; word problems with a number for an answer.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many problems.")
@click.option("--model", metavar="NAME|PATH", help="Another model than the default.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="HumanEval.jsonl.gz or gsm8k-test.jsonl; looked for here and in ./data without it.",
)
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A line for each problem; a run that was stopped goes on from it.",
)
def reasoning(out: Output, model: str | None, **options: Any) -> None:
    """Measure one greedy answer against answers that are checked, on public problems."""
    from ryzanstein.agents.bench.reasoning import data_of, run
    from ryzanstein.cli.ask import bring_model
    from ryzanstein.mcp_servers._shared import shared

    # Before a model is brought, which takes long.
    options["data"] = data_of(options["suite"], options["data"])
    bring_model(model)
    chosen = model or shared().catalogue.default()
    emit(out, run(model=chosen, registry=shared().registry, **options))


@bench.add
@command(
    "calls",
    "ryzanstein bench calls --suite simple --model qwen2.5-coder-1.5b --bfcl bfcl --limit 60",
    "ryzanstein bench calls --suite parallel --bfcl bfcl --log parallel.jsonl",
)
@click.option(
    "--suite",
    type=click.Choice(["simple", "multiple", "parallel"]),
    default="simple",
    show_default=True,
    help="One function; one of several; one called several times.",
)
@click.option("--limit", type=click.IntRange(1), help="So many tasks, spread evenly over the set.")
@click.option("--model", metavar="NAME|PATH", help="Another model than the default.")
@click.option(
    "--bfcl",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that `pip install --no-deps --target FOLDER bfcl-eval` made.",
)
@click.option(
    "--way",
    type=click.Choice(["joint", "stepwise"]),
    default="joint",
    show_default=True,
    help="Whole calls in one decode, or name and arguments apart.",
)
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A line for each task; a run that was stopped goes on from it.",
)
def calls(out: Output, model: str | None, **options: Any) -> None:
    """Measure tool calls on the Berkeley Function Calling Leaderboard, by its own checker."""
    from ryzanstein.agents.bench.calls import run
    from ryzanstein.cli.ask import bring_model
    from ryzanstein.mcp_servers._shared import shared

    bring_model(model)
    chosen = model or shared().catalogue.default()
    emit(out, run(model=chosen, registry=shared().registry, **options))


@bench.add
@command(
    "teams",
    "ryzanstein bench teams --model qwen2.5-coder-1.5b",
    "ryzanstein bench teams --limit 5",
)
@click.option("--model", metavar="NAME|PATH", help="Another model than the default.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many tasks.")
@click.option("--seconds", type=click.FloatRange(1), default=600, show_default=True)
def teams(out: Output, model: str | None, limit: int | None, seconds: float) -> None:
    """Measure teams against one agent on tasks of several parts, each part checked."""
    from ryzanstein.cli._bench_teams import teams as measured
    from ryzanstein.cli.ask import bring_model

    emit(out, measured(bring_model(model), limit, seconds))


@bench.add
@command("injection", "ryzanstein bench injection", "ryzanstein bench injection --json")
def injection(out: Output) -> None:
    """Have a model that obeys every text it reads attack this platform, and show what holds."""
    from ryzanstein.agents.bench.injection import run

    emit(out, run())


@bench.add
@command("mcp", "ryzanstein bench mcp --runs 5")
@click.option("--runs", type=click.IntRange(1, 100), default=3, show_default=True)
def mcp(out: Output, runs: int) -> None:
    """Measure each server's start over stdio, to its answer to tools/list."""
    from ryzanstein.cli._bench import server_starts

    emit(out, server_starts(runs))


def emit(out: Output, measures: dict[str, Any]) -> None:
    """Prints the measures, for people one a line, and always as one last line of JSON."""
    if not out.as_json:
        for name, value in measures.items():
            if not isinstance(value, list | dict):
                print(f"{name:<24}{value}")
    print(json.dumps(measures, ensure_ascii=False, default=str))
