"""Tool calls decoded under a grammar of the tools' own schemas, whoever wrote them."""
