"""Runs as traces in OTLP/JSON, which any OpenTelemetry collector takes in.

A run is a trace: the run itself as its root, and a span for each of its stages, from the event that
began it to the next one. Ids follow from the run's own, so that a run that is exported again is the
same trace. Names of attributes are those of the semantic conventions for generative AI.

    https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ryzanstein import __version__
from ryzanstein.durable import replacing
from ryzanstein.errors import InvalidRequest, StorageError

if TYPE_CHECKING:
    from ryzanstein.memory.records import Run

__all__ = ["MOST_FILES", "keep", "kept", "spans", "trace"]

MOST_FILES: Final = 20
_LONGEST: Final = 1000  # characters of a text among the attributes
_OK, _ERROR, _UNSET = 1, 2, 0
_INTERNAL: Final = 1  # kind of a span: work inside of this process
_STATUS: Final = {"done": _OK, "failed": _ERROR, "interrupted": _ERROR, "cancelled": _UNSET}


def trace(runs: Iterable[Run]) -> dict[str, Any]:
    """Returns an ExportTraceServiceRequest of runs."""
    resource = {"service.name": "ryzanstein", "service.version": __version__}
    scope = {"name": "ryzanstein.mcp_servers", "version": __version__}
    listed = [span for run in runs for span in spans(run)]
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": scope, "spans": listed}],
            }
        ]
    }


def spans(run: Run) -> Iterator[dict[str, Any]]:
    """Yields the span of a run, then those of its stages in order."""
    result, started = run.result, run.created.timestamp()
    ended = max(run.updated.timestamp(), started)
    error = result.get("error") or {}
    root = {
        "traceId": _hex(run.id, 16),
        "spanId": _hex(f"{run.id}:root", 8),
        "name": f"invoke_agent {run.agent}" if run.agent else "invoke_agent",
        "kind": _INTERNAL,
        **_times(started, ended),
        "attributes": _attributes(
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": run.agent,
                "gen_ai.request.model": run.model,
                "gen_ai.usage.output_tokens": result.get("tokens"),
                "ryzanstein.run.id": run.id,
                "ryzanstein.run.status": run.status,
                "ryzanstein.run.verified": result.get("verified"),
                "ryzanstein.task": run.task,
                "error.type": error.get("code"),
            }
        ),
        "status": _status(_STATUS.get(run.status, _UNSET), str(error.get("message", ""))),
    }
    yield root
    events = [one for one in result.get("events", []) if isinstance(one.get("at"), int | float)]
    moments = [max(started, float(one["at"])) for one in events]
    for number, (event, begin) in enumerate(zip(events, moments, strict=True)):
        end = moments[number + 1] if number + 1 < len(moments) else ended
        failed = event.get("stage") == "failure"
        yield {
            "traceId": root["traceId"],
            "spanId": _hex(f"{run.id}:{number}", 8),
            "parentSpanId": root["spanId"],
            "name": str(event.get("stage", "stage")),
            "kind": _INTERNAL,
            **_times(begin, max(begin, end)),
            "attributes": _attributes({"ryzanstein.message": event.get("message")}),
            "status": _status(_ERROR if failed else _UNSET, ""),
        }


def keep(folder: Path, request: Mapping[str, Any]) -> Path:
    """Writes a request to a file that is named by its content; the oldest beyond twenty go.

    Raises:
        StorageError: The disk cannot take it.
    """
    data = json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
    path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(data)
        # Not by its time alone: the clock may have gone back since others were written.
        others = [one for one in folder.glob("*.json") if one != path]
        for old in sorted(others, key=_age, reverse=True)[MOST_FILES - 1 :]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"The traces cannot be written: {error.strerror}.", hint="Is the disk full?"
        ) from error
    return path


def kept(folder: Path, name: str) -> str:
    """Returns a file of traces.

    Raises:
        InvalidRequest: There is none of that name.
    """
    try:
        if name.isalnum() and name.isascii():
            return (folder / f"{name}.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageError(f"The traces cannot be read: {error.strerror}.") from error
    raise InvalidRequest(f"There are no traces {name[:40]!r}.", hint="Call export_traces.")


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process made room
        return 0.0


def _hex(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


def _times(start: float, end: float) -> dict[str, str]:
    return {
        "startTimeUnixNano": str(round(start * 1e9)),
        "endTimeUnixNano": str(round(end * 1e9)),
    }


def _status(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message[:_LONGEST]} if message else {"code": code}


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(one)} for key, one in values.items() if one is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)[:_LONGEST]}
