"""What happens during a run, as one small record that every stage emits."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Event", "EventSink", "new_id"]


def new_id(kind: str) -> str:
    """Returns a new id such as run-3f0c…, unguessable and sortable by nothing."""
    return f"{kind}-{uuid.uuid4().hex[:16]}"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a run.

    Attributes:
        run_id: The run it belongs to.
        trace_id: The same for every event of one task, also across servers.
        stage: route, recall, think, act, observe, reflect, verify, answer, remember,
            breakthrough, failure, load or generate.
        message: One line for people.
        done: Work done so far, in the stage's own unit.
        total: All the work of the stage, or None where nobody knows.
        data: What a program may want to know besides.
        at: Seconds since the epoch.
    """

    run_id: str
    trace_id: str
    stage: str
    message: str
    done: float = 0.0
    total: float | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)


EventSink = Callable[[Event], Awaitable[None]]
