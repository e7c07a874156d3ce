"""Ryzanstein: specialist agents, tools and memory on a local model, offered over MCP."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("ryzanstein")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
