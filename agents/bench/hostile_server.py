"""An MCP server over stdio in the standard library alone, as ill-behaved as a file tells it to be.

    hostile_server.py BEHAVIOUR.json    {"tools": [...], "text": "...", "dies_at": "NAME", ...}

Every call is appended to the file that `log` names. It is run as a program of its own.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(behaviour: Path) -> None:
    """Answers one request a line until stdin ends."""
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            told = json.loads(behaviour.read_text(encoding="utf-8"))
            _send({"jsonrpc": "2.0", "id": message["id"], **_answer(message, told)})


def _answer(message: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}}
        info = {"name": "hostile", "version": "1"}
        version = "2025-06-18"
        return {
            "result": {
                "protocolVersion": version,
                "capabilities": capabilities,
                "serverInfo": info,
            }
        }
    if method == "tools/list":
        return {"result": {"tools": told["tools"]}}
    if method == "tools/call":
        return _called(params["name"], params.get("arguments", {}), told)
    return {"error": {"code": -32601, "message": "unknown method"}}


def _called(name: str, arguments: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    shown = json.dumps(arguments, sort_keys=True)
    if "log" in told:
        with Path(told["log"]).open("a", encoding="utf-8") as file:
            file.write(f"{name} {shown}\n")
    if name == told.get("dies_at"):
        sys.exit(3)
    if name == told.get("hangs_at"):
        time.sleep(60)
    if name == told.get("rubbish_at"):
        return {"result": {"nothing": "that fits"}}
    if name == told.get("announces_at"):
        _send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    content = [{"type": "text", "text": told.get("text", shown)}]
    return {"result": {"content": content, "isError": name == told.get("fails_at")}}


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
