"""Serves the fixture of the conformance suite and the real servers, as `ryzanstein serve` does.

Behind a bearer token, which it puts into the requests itself: the suite has no option for one.

    python tests/conformance/serve.py [NAME …]      prints {"url": "http://…/mcp/", "pid": …}
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from everything import mcp

from ryzanstein.mcp_servers import httpd
from ryzanstein.mcp_servers._auth import Auth, OwnTokens
from ryzanstein.tokens import Tokens


class WithToken:
    """Adds the owner's token to requests, as a client of ours would."""

    def __init__(self, inner: Any, token: str) -> None:
        self._inner = inner
        self._header = (b"authorization", f"Bearer {token}".encode())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes a request on."""
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], self._header]}
        await self._inner(scope, receive, send)


def application(data: Path, names: Sequence[str]) -> WithToken:
    """Makes the fixture and the real servers of these names, behind all guards."""
    servers = {"everything": mcp}
    for name in names:
        servers[name] = importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp
    tokens = Tokens(data)
    return WithToken(httpd.app(servers, auth=Auth(OwnTokens(tokens))), tokens.owner())


def main() -> None:
    """Serves until it is ended."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    with TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        os.environ |= {"RYZANSTEIN_DATA_DIR": folder, "RYZANSTEIN_CONFIG_DIR": folder}
        made = application(Path(folder), sys.argv[1:])
        url = f"http://localhost:{listener.getsockname()[1]}/mcp/"
        print(json.dumps({"url": url, "pid": os.getpid()}), flush=True)
        uvicorn.Server(uvicorn.Config(made, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main()
