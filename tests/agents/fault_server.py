"""An MCP server over stdio, or HTTP at a port, that dies or hangs when it is told to.

It speaks the protocol by hand, so that it starts in no time, often as the tests start it anew.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

VERSION = "2025-11-25"
TOOLS = ("recall", "remember", "find_experiences", "call_tool")


def recall(query: str, **_: Any) -> dict[str, Any]:
    """Answers, unless the file named in the query is there: then that is removed, and it dies."""
    if Path(query).exists():
        Path(query).unlink()
        os._exit(3)
    return {"memories": [{"text": f"process {os.getpid()}"}]}


def remember(text: str) -> dict[str, Any]:
    """Notes in the file that it was called, and dies."""
    with Path(text).open("a") as file:
        file.write("called\n")
    os._exit(3)


def call_tool(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Dies."""
    os._exit(3)


def find_experiences(**_: Any) -> dict[str, Any]:
    """Never answers."""
    time.sleep(3600)
    return {}


def result(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        return {
            "protocolVersion": VERSION,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "faults", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    if method == "tools/call":
        found = globals()[params["name"]](**params["arguments"])
        text = [{"type": "text", "text": json.dumps(found)}]
        return {"content": text, "structuredContent": found}
    return None


def answer(line: str) -> str | None:
    """The answer to one message; None to a notification."""
    message = json.loads(line)
    if "id" not in message:
        return None
    found = result(message["method"], message.get("params") or {})
    envelope: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    if found is None:
        envelope["error"] = {"code": -32601, "message": "Method not found"}
    else:
        envelope["result"] = found
    return json.dumps(envelope)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self.send_error(405)

    def do_POST(self) -> None:
        text = answer(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(202 if text is None else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write((text or "").encode())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    for line in sys.stdin:
        reply = answer(line)
        if reply is not None:
            print(reply, flush=True)
