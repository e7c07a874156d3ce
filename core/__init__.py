"""Ryzanstein: specialist agents, tools and memory on a local model, offered over MCP."""

from __future__ import annotations

__all__ = ["__version__"]

TYPE_CHECKING = False  # as typing has it, without the time its import takes

__version__: str

if not TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        """Finds the version when it is asked for: reading the metadata takes 40 ms."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("ryzanstein")
        except PackageNotFoundError:  # a source tree that was never installed
            return "0.0.0"
