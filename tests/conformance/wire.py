"""Raw lines to a server over stdio, raw bodies to one over HTTP: what no client would send."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2

HERE = Path(__file__).parent
HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "raw", "version": "1"},
}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
}
FIXTURE = f"import sys; sys.path.insert(0, {str(HERE)!r}); from everything import mcp; mcp.run()"
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def request(number: Any, method: str, params: Any = None) -> dict[str, Any]:
    """A request; no params where there are none."""
    given = {} if params is None else {"params": params}
    return {"jsonrpc": "2.0", "id": number, "method": method, **given}


def encoded(message: object) -> bytes:
    """The bytes of a message, or those given."""
    return message if isinstance(message, bytes) else json.dumps(message).encode()


class Stdio:
    """A server as a child process.

    Args:
        command: None starts the fixture of the conformance suite.
    """

    def __init__(self, *command: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            command or (sys.executable, "-c", FIXTURE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self.lines: list[bytes] = []
        self._seen: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._errors: list[bytes] = []
        self._threads = [threading.Thread(target=one) for one in (self._read, self._drain)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Stdio:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.process.poll() is None and kind is not None:
            self.process.kill()
        self.end()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._seen.put(line)
        self._seen.put(b"")

    def _drain(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

    @property
    def errors(self) -> str:
        """What it wrote to stderr until now."""
        return b"".join(self._errors).decode(errors="replace")

    def send(self, *messages: object) -> None:
        """Sends each as a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(encoded(one) + b"\n" for one in messages))
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """The next message, whatever it is."""
        line = self._seen.get(timeout=60)
        assert line, f"the server has ended: {self.errors}"
        return dict(json.loads(line))

    def answer(self, number: Any) -> dict[str, Any]:
        """The answer to a request; others before it are passed over."""
        while (found := self.receive()).get("id") != number:
            pass
        return found

    def initialize(self) -> Stdio:
        """The handshake of 2025."""
        self.send(request("hello", "initialize", HELLO), INITIALIZED)
        assert "result" in self.answer("hello")
        return self

    def end(self) -> int:
        """Ends its input; returns its exit status."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait(60)
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


class Http:
    """A connection to a server over HTTP.

    Args:
        url: Of its endpoint.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.session: dict[str, str] = {}
        self._client = httpx2.Client(timeout=60)

    def post(self, message: object, **headers: str) -> httpx2.Response:
        """Sends one body."""
        common = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        sent = common | self.session | headers
        return self._client.post(self.url, content=encoded(message), headers=sent)

    def answer(self, message: object, **headers: str) -> tuple[int, dict[str, Any]]:
        """Sends one body; returns the status and the message that answers it."""
        found = self.post(message, **headers)
        return found.status_code, read(found)

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def initialize(self) -> Http:
        """The handshake of 2025, with a session."""
        found = self.post(request("hello", "initialize", HELLO))
        self.session = {
            "mcp-session-id": found.headers["mcp-session-id"],
            "mcp-protocol-version": "2025-11-25",
        }
        assert self.post(INITIALIZED).status_code == 202
        return self


def read(found: httpx2.Response) -> dict[str, Any]:
    """The message of a response, of its stream the last one."""
    if not found.headers.get("content-type", "").startswith("text/event-stream"):
        return dict(json.loads(found.content)) if found.content else {}
    events = [line for line in found.text.splitlines() if line.startswith("data: {")]
    return dict(json.loads(events[-1].removeprefix("data: ")))
