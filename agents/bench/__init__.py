"""Measures of what agents do, each with `run(**options) -> dict`."""
