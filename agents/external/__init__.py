"""MCP servers of others: their tools join ours, held to the same permissions, limits and audit.

    registry `servers` ── Connection ── Pins ── Tool        named SERVER.tool, family SERVER
                          lazy, reconnects      what was approved, by fingerprint

Nothing a server says of its tools is believed: annotations do not make a tool harmless, names and
descriptions are cut and cleaned, and a definition that changed is out until it is approved again.
"""

from ryzanstein.agents.external.hub import External, ToolState

__all__ = ["External", "ToolState"]
