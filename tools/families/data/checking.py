"""Checking data against a schema, and converting files."""

from __future__ import annotations

import os
import tempfile
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import worker
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.data_files import data_file, kind_of
from ryzanstein.tools.families.data import SECONDS, DataPath
from ryzanstein.tools.file_io import given_text, keep_new, require_new
from ryzanstein.tools.toolbox import tool

_LARGEST = 512 << 20


@tool(
    title="Validate data",
    read_only=True,
    example={
        "rules": '{"type": "object", "required": ["name"]}',
        "text": '{"name": "Ann"}',
    },
    main=("rules", "code", "json"),
)
async def validate_data(
    ctx: ToolContext,
    rules: Annotated[
        str, Field(min_length=2, max_length=100_000, description="JSON schema, or a file with it")
    ],
    path: DataPath = "",
    text: Annotated[
        str, Field(max_length=200_000, description="the JSON itself, where there is no file")
    ] = "",
) -> Output:
    """Check JSON, JSON Lines or CSV against a JSON schema.

    Use before data is used or sent on. Each line or row is checked by itself, and each fault is
    named with its place.

    Raises:
        ToolError: The schema or the data cannot be read.
    """
    wanted = rules if rules.lstrip().startswith(("{", "true", "false")) else ""
    wanted = wanted or given_text(ctx, "", rules)
    kind = kind_of(path) if path else "json"
    if kind == "parquet":
        raise ToolError("Parquet cannot be checked so.", hint="Use convert_data to .jsonl first.")
    arguments = {"text": given_text(ctx, text, path), "kind": kind, "schema": wanted}
    found: dict[str, Any] = await worker.call("validate_data", arguments, seconds=SECONDS)
    many = f"{found['checked']:,} document{'s' * (found['checked'] != 1)} checked"
    if not found["faults"]:
        return Output(f"valid: {many}", found)
    lines = [f"- {fault['where']}: {fault['what']}" for fault in found["faults"]]
    lines += [] if found["complete"] else ["[there are more]"]
    return Output("\n".join([f"not valid: {many}", *lines]), found, ok=False)


@tool(
    title="Convert a data file",
    example={"path": "sales.csv", "to": "sales.parquet"},
    main=("to", "json"),
    forms={"path": "line", "to": "line"},
)
async def convert_data(
    ctx: ToolContext,
    path: Annotated[DataPath, Field(min_length=1)],
    to: Annotated[
        str, Field(min_length=1, max_length=4096, description="the new file; its ending says how")
    ],
) -> Output:
    """Convert a data file between CSV, TSV, JSON, JSON Lines and Parquet.

    Use to get the rows of a file in another form. What is there already is never overwritten.

    Raises:
        ToolError: No such file, it cannot be read, or the target exists.
    """
    kind = kind_of(to)
    with data_file(ctx, path) as file, tempfile.TemporaryDirectory(prefix="ryzanstein-") as folder:
        made = os.path.join(folder, "made")
        await anyio.to_thread.run_sync(require_new, ctx, to)
        found = await worker.call(
            "convert_data", {"file": file, "kind": kind, "target": made}, seconds=SECONDS
        )
        with open(made, "rb") as source:
            shown, size = await anyio.to_thread.run_sync(keep_new, ctx, source, to, _LARGEST)
    text = f"wrote {shown}: {found['rows']:,} rows, {size:,} bytes"
    return Output(text, {"path": shown, "bytes": size, **found}, made=(shown,))
