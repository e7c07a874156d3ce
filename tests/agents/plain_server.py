"""An MCP server over stdio in the standard library alone, as ill-behaved as a file tells it to be.

plain_server.py BEHAVIOUR.json      {"tools": [...], "dies_at": "NAME", "hangs_at": "NAME"}
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

BEHAVIOUR = Path(sys.argv[1])


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            send({"jsonrpc": "2.0", "id": message["id"], **answer(message)})


def answer(message: dict[str, Any]) -> dict[str, Any]:
    behaviour = json.loads(BEHAVIOUR.read_text(encoding="utf-8"))
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        return {
            "result": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": "plain", "version": "1"},
            }
        }
    if method == "tools/list":
        return {"result": {"tools": behaviour["tools"]}}
    if method == "tools/call":
        return called(params["name"], params.get("arguments", {}), behaviour)
    return {"error": {"code": -32601, "message": "unknown method"}}


def called(name: str, arguments: dict[str, Any], behaviour: dict[str, Any]) -> dict[str, Any]:
    if name == behaviour.get("dies_at"):
        sys.exit(3)
    if name == behaviour.get("hangs_at"):
        time.sleep(60)
    if name == behaviour.get("rubbish_at"):
        return {"result": {"nothing": "that fits"}}
    if name == behaviour.get("announces_at"):
        send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    text = behaviour.get("text", json.dumps(arguments, sort_keys=True))
    return {"result": {"content": [{"type": "text", "text": text}]}}


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
