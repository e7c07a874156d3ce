"""Data files: what is read, what SQL cannot reach, and what is no data."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolResult, ToolTimeout, worker
from ryzanstein.tools.families.data import querying

Call = Callable[..., Awaitable[ToolResult]]
SALES = (
    "id,region,amount,day\n1,north,10.5,2024-01-01\n2,south,20,2024-01-02\n"
    "3,north,30,2024-01-03\n4,east,,2024-01-04\n"
)


@pytest.fixture(scope="module", autouse=True)
def workers_end() -> Iterator[None]:
    yield
    worker.close_workers()


@pytest.fixture
def files(root: Path) -> Path:
    (root / "sales.csv").write_text(SALES, encoding="utf-8")
    (root / "sub").mkdir()
    people = [{"id": 1, "name": "Ann", "tags": ["a"]}, {"id": 2, "name": "Bob", "tags": []}]
    (root / "sub/people.json").write_text(json.dumps(people), encoding="utf-8")
    (root / "log.jsonl").write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT region, sum(amount) AS s FROM sales GROUP BY 1 ORDER BY 1 LIMIT 2",
         "region | s\neast | NULL\nnorth | 40.5\n[2 rows]"),
        ("select id from 'sales.csv' limit 1", "id\n1\n[1 row]"),
        ("select id from read_csv_auto('sales.csv', header=true) limit 1", "id\n1\n[1 row]"),
        ("SELECT name, amount FROM people JOIN sales USING (id)",
         "name | amount\nAnn | 10.5\nBob | 20.0\n[2 rows]"),
        ('SELECT tags FROM "sub/people.json"', 'tags\n["a"]\n[]\n[2 rows]'),
        ("SELECT sum(a) AS s FROM log", "s\n3\n[1 row]"),
        ("WITH t AS (SELECT * FROM log) SELECT count(*) AS n FROM t;", "n\n2\n[1 row]"),
        ("PIVOT sales ON region USING count(*) GROUP BY id ORDER BY id LIMIT 1",
         "id | east | north | south\n1 | 0 | 1 | 0\n[1 row]"),
        ("SELECT 'nan'::DOUBLE AS a, DATE '2024-02-03' AS b, 1.50::DECIMAL(5, 2) AS c LIMIT 1",
         "a | b | c\nnan | 2024-02-03 | 1.5\n[1 row]"),
    ],
)  # fmt: skip
async def test_files_are_queried_by_name(call: Call, files: Path, sql: str, text: str) -> None:
    result = await call("query_data", sql)
    assert result.text == text and result.untrusted
    assert json.dumps(result.data)


async def test_the_schema_names_files_columns_and_what_is_broken(call: Call, files: Path) -> None:
    (files / "broken.parquet").write_text("PAR1 nonsense PAR1", encoding="utf-8")
    lines = (await call("query_data", "schema")).text.splitlines()
    assert lines[0] == "log(a BIGINT)"
    assert "sales(id BIGINT, region VARCHAR, amount DOUBLE, day DATE)" in lines
    assert lines[-1].startswith("broken.parquet cannot be read")
    one = await call("query_data", {"sql": "schema", "files": ["log.jsonl"]})
    assert one.text == "log(a BIGINT)"


async def test_rows_are_limited(call: Call, files: Path) -> None:
    found = await call("query_data", {"sql": "SELECT id FROM sales", "limit": 2})
    assert found.text.endswith("[2 rows, the first 2 of more]") and not found.data["complete"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM sales, read_blob('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM parquet_scan('http://127.0.0.1/x.parquet')",
        "SELECT * FROM 'https://127.0.0.1/x.csv'",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM '../secret.csv'",
        "COPY sales TO '{out}'",
        "COPY (SELECT 1) TO '{out}' (FORMAT parquet)",
        "EXPLAIN ANALYZE COPY sales TO '{out}'",
        "EXPORT DATABASE '{out}'",
        "IMPORT DATABASE '{out}'",
        "ATTACH '{out}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "FORCE INSTALL spatial FROM community",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA enable_external_access",
        "CALL pragma_version()",
        "CREATE TABLE t AS SELECT 1",
        "DELETE FROM sales",
        "DROP TABLE sales",
        "SELECT 1; COPY sales TO '{out}'",
        "SELECT * FROM described",
        "SELECT * FROM connection",
        "SELECT getenv('HOME')",
        "SELECT wrong FROM sales",
        "SELEC",
        "SELECT range(100000000)",
    ],
)
async def test_sql_reaches_nothing_but_the_files(
    call: Call, files: Path, tmp_path: Path, sql: str
) -> None:
    secret, out = tmp_path / "secret.csv", tmp_path / "out"
    secret.write_text("word\nhunter2\n", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ToolError) as caught:
        await call("query_data", sql.format(secret=secret, out=out))
    assert caught.value.hint and "hunter2" not in str(caught.value)
    assert "root:" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


async def test_a_query_without_end_is_stopped(
    call: Call, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(querying, "SECONDS", 1.0)
    with pytest.raises(ToolTimeout):
        await call("query_data", "SELECT count(*) FROM range(100000000000)")


async def test_paths_stay_inside(call: Call, files: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("word\nhunter2\n", encoding="utf-8")
    (files / "link.csv").symlink_to(tmp_path / "secret.csv")
    for path in ("../secret.csv", str(tmp_path / "secret.csv"), "link.csv", "missing.csv", "sub"):
        for name, args in (
            ("query_data", {"sql": "SELECT 1", "files": [path]}),
            ("describe_data", {"path": path}),
            ("compute_statistics", {"path": path}),
            ("convert_data", {"path": path, "to": "new.csv"}),
        ):
            with pytest.raises(ToolError) as caught:
                await call(name, args)
            assert "hunter2" not in str(caught.value)
    with pytest.raises(ToolError, match="leaves"):
        await call("convert_data", {"path": "sales.csv", "to": "../new.csv"})
    assert not (tmp_path / "new.csv").exists()


async def test_another_file_under_the_same_name_is_not_read(
    call: Call, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker opens by path: what was put there meanwhile is another file."""
    (tmp_path / "secret.csv").write_text("word\nhunter2\n", encoding="utf-8")
    real = worker.call

    async def swapped(function: str, arguments: Any, *, seconds: float) -> Any:
        (files / "sales.csv").unlink()
        (files / "sales.csv").symlink_to(tmp_path / "secret.csv")
        return await real(function, arguments, seconds=seconds)

    monkeypatch.setattr(worker, "call", swapped)
    with pytest.raises(ToolError, match="changed while it was opened"):
        await call("describe_data", "sales.csv")


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"a,b\n1,2\n3\n", "line 3 has another number of cells"),
        ("x.csv", b'a,b\n1,2\n"3,4\n5\n1,2,3,4\n', "is no table"),
        ("x.csv", os.urandom(3000), "cannot be read|is no table|quotes"),
        ("x.json", b'[{"a": 1},', "ends early"),
        ("x.json", b"{'a': 1}", "cannot be read"),
        ("x.jsonl", b'{"a": 1}\n{"a": \n', "cannot be read"),
        ("x.parquet", b"PAR1 nonsense PAR1", "cannot be read"),
        ("x.parquet", b"PAR1", "cannot be read"),
        ("x.xlsx", b"PK", "no data file known"),
    ],
)
async def test_what_is_no_data_is_said(
    call: Call, root: Path, name: str, raw: bytes, said: str
) -> None:
    (root / name).write_bytes(raw)
    with pytest.raises(ToolError, match=said) as caught:
        await call("describe_data", name)
    assert caught.value.hint and "/dev/fd" not in str(caught.value)


async def test_other_encodings_and_odd_names_are_read(call: Call, root: Path) -> None:
    (root / "a *b'.csv").write_bytes("name;n\nJürgen;1\n".encode("latin-1"))
    (root / "other.csv").write_text("name;n\nx;2\n", encoding="utf-8")
    found = await call("sample_rows", "a *b'.csv")
    assert found.data["rows"] == [["Jürgen", 1]]


async def test_a_file_is_described_and_sampled(call: Call, files: Path) -> None:
    described = await call("describe_data", "sales.csv")
    assert described.text.splitlines()[0] == "sales.csv: 4 rows"
    amount = described.data["columns"][2]
    assert (amount["name"], amount["empty"], amount["min"], amount["max"]) == (
        "amount", 1, "10.5", "30.0",
    )  # fmt: skip
    first = await call("sample_rows", {"path": "sales.csv", "rows": 2})
    assert [row[0] for row in first.data["rows"]] == [1, 2] and "[2 rows of 4]" in first.text
    drawn = [
        (await call("sample_rows", {"path": "sales.csv", "rows": 2, "seed": 5})).data["rows"]
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 2


async def test_statistics_are_those_of_the_textbook(call: Call, files: Path) -> None:
    found = await call("compute_statistics", {"values": [2, 4, 4, 4, 5, 5, 7, 9]})
    one = found.data["statistics"][0]
    assert (one["mean"], one["q0.5"], one["mode"], one["sum"]) == (5, 4.5, 4, 40)
    assert one["sd"] == pytest.approx(2.13808993529939)
    both = await call("compute_statistics", {"path": "sales.csv", "quantiles": [0.9]})
    assert both.data["correlations"][0]["r"] == pytest.approx(0.999890441, rel=1e-6)
    assert both.data["statistics"][1]["q0.9"] == pytest.approx(28)
    by = {"path": "sales.csv", "columns": ["amount"], "group": "region"}
    means = {
        one["region"]: one["mean"]
        for one in (await call("compute_statistics", by)).data["statistics"]
    }
    assert means == {"east": None, "north": 20.25, "south": 20}
    for wrong, said in (
        ({"path": "sales.csv", "columns": ["region"]}, "Not a column of numbers: region"),
        ({"path": "sales.csv", "group": "city"}, "no column 'city'"),
        ({}, "either path or values"),
        ({"path": "sales.csv", "values": [1]}, "either path or values"),
    ):
        with pytest.raises(ToolError, match=said):
            await call("compute_statistics", wrong)


async def test_files_are_converted_there_and_back(call: Call, files: Path) -> None:
    for source, target in (
        ("sales.csv", "out/a.parquet"),
        ("out/a.parquet", "b.json"),
        ("b.json", "c.jsonl"),
        ("c.jsonl", "d.tsv"),
        ("d.tsv", "e.csv"),
    ):
        done = await call("convert_data", {"path": source, "to": target})
        assert done.data["rows"] == 4 and done.data["path"] == target
    assert (files / "e.csv").read_text(encoding="utf-8") == SALES.replace(",20,", ",20.0,").replace(
        ",30,", ",30.0,"
    )
    with pytest.raises(ToolError, match="exists already"):
        await call("convert_data", {"path": "b.json", "to": "e.csv"})
    with pytest.raises(ToolError, match="only reading"):
        await call("convert_data", {"path": "b.json", "to": "f.csv"}, read_only=True)


RULES = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}}}


async def test_data_is_checked_against_a_schema(call: Call, files: Path) -> None:
    rules = json.dumps(RULES)
    rows = await call("validate_data", {"rules": rules, "path": "sales.csv"})
    assert not rows.ok and rows.data["checked"] == 4
    assert rows.data["faults"] == [
        {"where": "line 5 amount", "what": "None is not of type 'number'"}
    ]
    lines = await call("validate_data", {"rules": rules, "path": "log.jsonl"})
    assert [fault["where"] for fault in lines.data["faults"]] == ["line 1", "line 2"]
    assert (await call("validate_data", {"rules": rules, "text": '{"amount": 1}'})).ok
    (files / "rules.json").write_text(rules, encoding="utf-8")
    from_file = await call("validate_data", {"rules": "rules.json", "text": "{}"})
    assert "'amount' is a required property" in from_file.text
    many = "\n".join("{}" for _ in range(100))
    (files / "many.jsonl").write_text(many, encoding="utf-8")
    found = await call("validate_data", {"rules": rules, "path": "many.jsonl"})
    assert len(found.data["faults"]) == 20 and "[there are more]" in found.text


@pytest.mark.parametrize(
    ("rules", "text", "said"),
    [
        ('{"$ref": "http://127.0.0.1:1/x"}', "1", "refers to"),
        ('{"$ref": "file:///etc/passwd"}', "1", "refers to"),
        ('{"$ref": "#"}', "1", "nested too deeply"),
        ('{"type": "nothing"}', "1", "schema is none"),
        ("{]", "1", "schema is no JSON"),
        ("true", "{x", "data is no JSON"),
        ("true", "NaN", "no JSON number"),
        ("true", "[" * 100_000, "nested too deeply"),
        ("true", "", "either text or path"),
    ],
)
async def test_schemas_that_lead_elsewhere_or_nowhere(
    call: Call, rules: str, text: str, said: str
) -> None:
    with pytest.raises(ToolError, match=said) as caught:
        await call("validate_data", {"rules": rules, "text": text})
    assert caught.value.hint
