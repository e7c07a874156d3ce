"""`ryzanstein serve` as it is run: what it offers to whom, and how it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from ryzanstein.errors import ConfigError, ConnectionFailed, InvalidRequest
from ryzanstein.mcp_servers import _serve, httpd
from ryzanstein.mcp_servers._factory import make_server
from ryzanstein.mcp_servers._serve import Listening, serve
from ryzanstein.tokens import Tokens
from tests.mcp_servers import test_runs_across as across

Answer = Callable[..., Awaitable[dict[str, Any]]]
model = across.model


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    local = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([local]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "box.pem", tmp_path / "box.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture
def served(pair: tuple[Path, Path], model: across.Model) -> Iterator[tuple[str, Any]]:
    """A process that serves everything, encrypted: its URL and itself."""
    line = [sys.executable, "-P", "-m", "ryzanstein.cli", "serve", "--port", "0", "--grace", "0.2"]
    line += ["--tls-cert", str(pair[0]), "--tls-key", str(pair[1])]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = process.stderr.readline().removeprefix("Serving at ").strip()
    yield url, process
    process.kill()
    process.communicate()


async def test_a_server_that_ends_hands_its_runs_back(
    served: tuple[str, Any], pair: tuple[Path, Path], model: across.Model, answer: Answer
) -> None:
    url, process = served
    token = Tokens(_data_dir()).owner()
    assert url.startswith("https://127.0.0.1:")
    trusted = ssl.create_default_context(cafile=str(pair[0]))
    headers = {"authorization": f"Bearer {token}"}
    told: list[Any] = []

    async def run(client: Client) -> None:
        arguments = {"task": across.TASK, "agent": "OMNISCIENT"}
        told.append(await client.call_tool("run_agent", {"codename": "OMNISCIENT", **arguments}))

    async with httpx2.AsyncClient(verify=trusted, timeout=60) as http:
        assert (await http.get(f"{url}/mcp/orchestrator")).status_code == 401
        http.headers.update(headers)
        transport = streamable_http_client(f"{url}/mcp/orchestrator", http_client=http)
        async with Client(transport) as client, anyio.create_task_group() as group:
            group.start_soon(run, client)
            await anyio.to_thread.run_sync(model.reached.wait, 60)
            process.send_signal(signal.SIGTERM)
    assert told[0].is_error and "ryzanstein runs resume" in told[0].content[0].text
    assert await anyio.to_thread.run_sync(process.wait, 20) == 0
    assert process.stderr.read() == "Clients need a token: `ryzanstein token show` prints yours.\n"

    run_id = across.only_run()
    assert (await answer("orchestrator", "get_run", run_id=run_id))["status"] == "interrupted"
    model.let_go.set()
    result = await answer("orchestrator", "run_task", run_id=run_id)
    assert result["answer"] == "The first is 12, the second 30."
    assert model.expressions == ["3 * 4", "5 * 6"]


def _data_dir() -> Path:
    from ryzanstein.config import load_settings

    return load_settings().data_dir


class Ended:
    """A server of this process that can be told to end, as a signal does."""

    def __init__(self) -> None:
        self.entered, self.opened, self.ending = anyio.Event(), anyio.Event(), anyio.Event()
        made = make_server("plain", "Plain", "Nothing.")

        @made.tool()
        async def wait() -> str:
            """Wait."""
            self.entered.set()
            await self.opened.wait()
            return "done"

        how = Listening(grace_seconds=5)
        application = httpd.app({"plain": made}, ending=self.ending)
        config = _serve._configured(application, how, None)
        self.server = _serve._Server(config, self.ending, how.grace_seconds)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/mcp/plain"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_under_way_finishes_and_an_open_stream_does_not_hold_it_up(mode: Any) -> None:
    ended = Ended()
    task = asyncio.create_task(ended.server.serve(sockets=[ended.listener]))
    results: list[Any] = []

    async def wait(client: Client) -> None:
        results.append(await client.call_tool("wait", {}))

    async with Client(ended.url, mode=mode) as client:
        await client.list_tools()  # which it would ask for afterwards, to check the result
        async with anyio.create_task_group() as group:
            group.start_soon(wait, client)
            await ended.entered.wait()
            ended.server.handle_exit(signal.SIGTERM, None)
            await ended.ending.wait()
            ended.opened.set()
        assert results[0].structured_content == {"result": "done"}
        await asyncio.wait_for(task, 4)  # less than the time of grace: nothing was waited for
    assert not ended.server.interrupted


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (Listening(host="0.0.0.0"), "would not be encrypted"),
        (Listening(host="192.0.2.1"), "would not be encrypted"),
        (Listening(host="0.0.0.0", auth=False, allow_remote=True), "never without tokens"),
    ],
)
def test_other_machines_are_not_let_in_by_accident(how: Listening, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        serve(how)
    assert not Tokens(_data_dir()).path.exists()


def test_a_certificate_that_is_none_is_told(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for files in ((pair[0], pair[0]), (pair[1], pair[0]), (pair[0], tmp_path)):
        with pytest.raises(ConfigError, match="cannot be used for TLS"):
            serve(Listening(tls=files))


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConnectionFailed):
        serve(Listening(port=taken.getsockname()[1]), only=make_server("x", "X", "Nothing."))
