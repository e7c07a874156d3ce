"""The analytics server; a shim, since `mcp run` loads this file by itself."""

from ryzanstein.mcp_servers._analytics import mcp

__all__ = ["mcp"]
