"""The platform's servers as an agent sees them: MCP clients that may lose their server."""
