"""SQL over data files, and looking at them."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import worker
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.data_files import data_file, data_files, listed_files, meant_files
from ryzanstein.tools.families.data import SECONDS, DataPath
from ryzanstein.tools.rows import rows_text
from ryzanstein.tools.toolbox import tool

_MOST_FILES = 20


@tool(
    title="Query data files",
    read_only=True,
    example={"sql": "SELECT region, sum(amount) FROM sales GROUP BY region"},
    main=("sql", "code", "sql"),
)
async def query_data(
    ctx: ToolContext,
    sql: Annotated[
        str,
        Field(
            min_length=1,
            max_length=20_000,
            description='one SELECT; FROM names a file (sales or "sales.csv"); or "schema"',
        ),
    ],
    files: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...],
        Field(max_length=_MOST_FILES, description="the files; those that SQL names are found"),
    ] = (),
    limit: Annotated[int, Field(ge=1, le=1000, description="how many rows at most")] = 100,
) -> Output:
    """Ask CSV, JSON or Parquet files a question in SQL.

    Use to filter, join, group, sum or rank the rows of data files. Send the word schema to see
    which files and columns there are. It only reads.

    Raises:
        ToolError: No such file or column, a statement that is not allowed, or one too slow.
    """
    if sql.strip().strip(";.").lower() in {"schema", "tables"}:
        return await _schema(ctx, files)
    paths = list(files) or await anyio.to_thread.run_sync(meant_files, ctx, sql)
    with data_files(ctx, paths[:_MOST_FILES]) as described:
        found = await worker.call(
            "query_data", {"files": described, "sql": sql, "limit": limit}, seconds=SECONDS
        )
    more = "" if found["complete"] else f", the first {limit} of more"
    return Output(rows_text(found["columns"], found["rows"], more), found)


async def _schema(ctx: ToolContext, files: tuple[str, ...]) -> Output:
    paths = list(files) or await anyio.to_thread.run_sync(listed_files, ctx)
    with data_files(ctx, paths[:_MOST_FILES]) as described:
        found = await worker.call(
            "query_data",
            {"files": described, "sql": "SELECT 1", "limit": 1},
            seconds=SECONDS,
        )
    rest = [f"[and {len(paths) - _MOST_FILES} more files]"] if len(paths) > _MOST_FILES else []
    text = "\n".join([*found["tables"], *found["faults"], *rest]) or "There are no data files here."
    return Output(text, {"tables": found["tables"], "files": paths})


@tool(
    title="Describe a data file",
    read_only=True,
    example={"path": "sales.csv"},
    main=("path", "line"),
)
async def describe_data(ctx: ToolContext, path: Annotated[DataPath, Field(min_length=1)]) -> Output:
    """Show the columns of a data file: types, gaps, distinct values and ranges.

    Use first on a table that you do not know.

    Raises:
        ToolError: No such file, or it cannot be read.
    """
    with data_file(ctx, path) as file:
        found = await worker.call("describe_data", {"file": file}, seconds=SECONDS)
    columns = ("name", "type", "empty", "distinct", "min", "max", "mean")
    rows = [[column[name] for name in columns] for column in found["columns"]]
    text = rows_text(columns, rows).rpartition("\n")[0]
    return Output(f"{file['shown']}: {found['rows']:,} rows\n{text}", {"path": path, **found})


@tool(
    title="Sample rows",
    read_only=True,
    example={"path": "sales.csv", "rows": 5},
    main=("path", "line"),
)
async def sample_rows(
    ctx: ToolContext,
    path: Annotated[DataPath, Field(min_length=1)],
    rows: Annotated[int, Field(ge=1, le=200, description="how many")] = 10,
    seed: Annotated[
        int | None,
        Field(ge=0, le=1_000_000, description="a number for random rows; none: the first rows"),
    ] = None,
) -> Output:
    """Show the first rows of a data file, or random ones.

    Use to see what the values look like.

    Raises:
        ToolError: No such file, or it cannot be read.
    """
    with data_file(ctx, path) as file:
        found = await worker.call(
            "sample_rows", {"file": file, "rows": rows, "seed": seed}, seconds=SECONDS
        )
    return Output(rows_text(found["columns"], found["rows"], f" of {found['total']:,}"), found)


@tool(
    title="Compute statistics",
    read_only=True,
    example={"path": "sales.csv", "columns": ["amount"], "group": "region"},
    main=("path", "line"),
)
async def compute_statistics(
    ctx: ToolContext,
    path: DataPath = "",
    columns: Annotated[
        tuple[Annotated[str, Field(max_length=200)], ...],
        Field(max_length=50, description="columns of numbers; none: all of them"),
    ] = (),
    group: Annotated[str, Field(max_length=200, description="a column to group by")] = "",
    values: Annotated[
        tuple[float, ...],
        Field(max_length=10_000, description="numbers, where there is no file"),
    ] = (),
    quantiles: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], ...],
        Field(max_length=20, description="shares, such as 0.9 for the 90th percentile"),
    ] = (),
) -> Output:
    """Compute mean, median, quantiles, spread and correlations of numbers.

    Use on the columns of a data file, or on a list of values.

    Raises:
        ToolError: No such file or column, no numbers, or it cannot be read.
    """
    if bool(path) == bool(values):
        raise ToolError("Give either path or values.", hint="path is a data file.")
    if values:
        found = await worker.call(
            "describe_values", {"values": values, "quantiles": quantiles}, seconds=SECONDS
        )
    else:
        arguments = {"columns": columns, "group": group, "quantiles": quantiles}
        with data_file(ctx, path) as file:
            found = await worker.call(
                "compute_statistics", {"file": file, **arguments}, seconds=SECONDS
            )
    lines = [_line(each) for each in found["statistics"]]
    lines += [
        f"correlation of {' and '.join(each['columns'])}: {_short(each['r'])}"
        for each in found["correlations"]
    ]
    return Output("\n".join(lines), found)


def _line(each: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in each.items())


def _short(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
