"""Data files (CSV, JSON, JSON Lines, Parquet): SQL, statistics, checks and conversion."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = ["SECONDS", "DataPath"]

SECONDS = 20.0
DataPath = Annotated[
    str, Field(max_length=4096, description="the file: .csv, .tsv, .json, .jsonl or .parquet")
]
