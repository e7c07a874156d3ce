"""The seven MCP servers."""
