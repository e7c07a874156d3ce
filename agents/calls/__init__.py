"""Tool calls decoded under a grammar: `decode_calls` for any tools that have a JSON schema."""

from __future__ import annotations

from ryzanstein.agents.calls.decode import MOST, Decoded, Way, decode_calls

__all__ = ["MOST", "Decoded", "Way", "decode_calls"]
