"""An OpenAI-compatible server on loopback that fails in every way one can.

    with BackendServer("hang") as server: ...     server.url, server.requests

A mode is a name of MODES, or a list of them, one a request, the last one for all that follow.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["MODES", "BackendServer"]

Answer = Callable[["_Handler"], None]


class BackendServer:
    """Serves until it is closed.

    Args:
        mode: How it answers chats.
        text: What it says where it says something; a function of the request's body, or texts in
            turn.
    """

    def __init__(
        self,
        mode: str | Sequence[str] = "good",
        text: str | Sequence[str] | Callable[[Mapping[str, Any]], str] = "It is blue.",
    ) -> None:
        self.modes = [mode] if isinstance(mode, str) else list(mode)
        self.texts = text
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def next_mode(self) -> str:
        return self.modes.pop(0) if len(self.modes) > 1 else self.modes[0]

    def next_text(self, body: Mapping[str, Any]) -> str:
        if callable(self.texts):
            return self.texts(body)
        if isinstance(self.texts, str):
            return self.texts
        turn = min(len(self.requests), len(self.texts)) - 1
        return self.texts[turn]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: BackendServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    @property
    def owner(self) -> BackendServer:
        return self.server.owner

    def do_GET(self) -> None:
        if self.owner.modes[0] in {"500", "hang", "rubbish"}:
            MODES[self.owner.modes[0]](self)
            return
        self.send("application/json", json.dumps({"data": [{"id": "stand-in"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.requests.append(body)
        self.owner.headers.append(dict(self.headers))
        self.text = self.owner.next_text(body)
        MODES[self.owner.next_mode()](self)

    def send(self, kind: str, text: str, status: int = 200, **headers: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def event(self, data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    def piece(self, text: str, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        self.event({"model": "stand-in", "choices": [choice]})

    def wait(self, seconds: float = 60.0) -> None:
        self.owner.closing.wait(seconds)


def good(handler: _Handler) -> None:
    handler.begin_stream()
    for at, word in enumerate(handler.text.split(" ")):
        handler.piece(f" {word}" if at else word)
    handler.piece("", "stop")
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    handler.event({"model": "stand-in", "choices": [], "usage": usage})
    handler.event("[DONE]")


def plain(handler: _Handler) -> None:
    message = {"role": "assistant", "content": handler.text}
    answer = {"model": "stand-in", "choices": [{"message": message, "finish_reason": "stop"}]}
    handler.send("application/json", json.dumps(answer))


def hang(handler: _Handler) -> None:
    handler.wait()
    handler.close_connection = True


def slow(handler: _Handler) -> None:
    handler.wait(0.8)
    good(handler)


def steady(handler: _Handler) -> None:
    """Takes its time, with a comment now and then that says it lives."""
    handler.begin_stream()
    for _ in range(5):
        handler.wfile.write(b": still here\n\n")
        handler.wfile.flush()
        handler.wait(0.1)
    handler.piece("It is blue.", "stop")
    handler.event("[DONE]")


def dies(handler: _Handler) -> None:
    handler.begin_stream()
    handler.piece("It is")
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def ends_early(handler: _Handler) -> None:
    handler.begin_stream()
    handler.piece("It is")


def hangs_within(handler: _Handler) -> None:
    handler.begin_stream()
    handler.piece("It is")
    handler.wait()


def endless(handler: _Handler) -> None:
    handler.begin_stream()
    while not handler.owner.closing.is_set():
        handler.piece("very ")


def endless_line(handler: _Handler) -> None:
    handler.begin_stream()
    while not handler.owner.closing.is_set():
        handler.wfile.write(b"x" * 65536)


def huge(handler: _Handler) -> None:
    handler.send("application/json", json.dumps({"text": "x" * (5 << 20)}))


def failing_within(handler: _Handler) -> None:
    handler.begin_stream()
    handler.piece("It is")
    handler.event({"error": {"message": "out of memory"}})


def status(code: int, message: str = "no", **headers: str) -> Answer:
    def answer(handler: _Handler) -> None:
        error = {"error": {"message": message, "type": "error"}}
        handler.send("application/json", json.dumps(error), code, **headers)

    return answer


def text(kind: str, body: str) -> Answer:
    def answer(handler: _Handler) -> None:
        handler.send(kind, body)

    return answer


def stream_of(*events: Any) -> Answer:
    def answer(handler: _Handler) -> None:
        handler.begin_stream()
        for event in events:
            handler.event(event)

    return answer


def no_schema(handler: _Handler) -> None:
    """Refuses response_format, as older servers do."""
    if "response_format" in handler.owner.requests[-1]:
        status(400, "response_format is not supported")(handler)
    else:
        good(handler)


MODES: dict[str, Answer] = {
    "good": good,
    "plain": plain,
    "slow": slow,
    "steady": steady,
    "hang": hang,
    "dies": dies,
    "ends early": ends_early,
    "hangs within": hangs_within,
    "endless": endless,
    "endless line": endless_line,
    "huge": huge,
    "fails within": failing_within,
    "rubbish": text("application/json", "<<<not JSON>>>"),
    "wrong JSON": text("application/json", '{"weather": "fine"}'),
    "a list": text("application/json", "[1, 2]"),
    "wrong type": text("text/html", "<html>Sign in</html>"),
    "rubbish stream": stream_of("{oops"),
    "wrong stream": stream_of({"weather": "fine"}),
    "numbers": stream_of({"choices": [{"delta": {"content": 7}}]}),
    "500": status(500, "broken"),
    "429": status(429, "busy", Retry_After="0.05"),
    "429 long": status(429, "busy", Retry_After="3600"),
    "401": status(401, "bad key"),
    "404": status(404, "no such model"),
    "400": status(400, "too long"),
    "302": status(302, "elsewhere", Location="http://127.0.0.1:9/"),
    "no schema": no_schema,
}
