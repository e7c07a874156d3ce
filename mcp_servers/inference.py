"""The inference server; a shim, since `mcp run` loads this file by itself."""

from ryzanstein.mcp_servers._inference import mcp

__all__ = ["mcp"]
