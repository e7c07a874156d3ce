"""The tools server; a shim, since `mcp run` loads this file by itself."""

from ryzanstein.mcp_servers._tools import mcp

__all__ = ["mcp"]
