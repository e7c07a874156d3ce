"""Who runs a model: our engine, a server that speaks OpenAI's API, or the client's own model."""
