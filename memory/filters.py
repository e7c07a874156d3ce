"""What a caller asks for, as SQL conditions that hold before a search, not after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from sqlalchemy import ColumnElement, and_, exists, func, not_, or_, select
from sqlalchemy.orm import aliased

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import (
    checked_moment,
    checked_tags,
    checked_tier,
    checked_value,
)
from ryzanstein.memory.records import MERGED_FROM
from ryzanstein.memory.schema import MemoryLinkRow, MemoryRow, MemoryTagRow

__all__ = ["Filter", "FilterFields"]


class FilterFields(TypedDict, total=False):
    """The fields of Filter, as keywords."""

    agent: str | None
    tags: Iterable[str]
    kind: str | None
    tier: str | Sequence[str] | None
    source: str | None
    conversation: str | None
    task: str | None
    since: datetime | None
    until: datetime | None
    at: datetime | None
    archived: bool | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which memories are meant; what is None does not matter.

    Attributes:
        agent: This agent's memories and those that belong to no agent.
        tags: Memories that have all of these.
        kind: Memories of this kind.
        tier: One tier or several.
        source: Memories from exactly this source.
        conversation: Turns of this conversation.
        task: Working memories of this task, beside the other tiers.
        since: What happened, or else was stored, then or later.
        until: What happened, or else was stored, before then.
        at: What held at that moment; None means whatever the validity.
        archived: Only archived ones, or none of them; None means both.
    """

    agent: str | None = None
    tags: Iterable[str] = ()
    kind: str | None = None
    tier: str | Sequence[str] | None = None
    source: str | None = None
    conversation: str | None = None
    task: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    at: datetime | None = None
    archived: bool | None = None

    def narrowing(self) -> list[ColumnElement[bool]]:
        """Returns what makes the search narrower, to be met before it.

        Raises:
            InvalidRequest: A tag, a tier or a time cannot be one.
        """
        where: list[ColumnElement[bool]] = []
        if self.agent is not None:
            agent = checked_value(self.agent, "agent")
            where.append(or_(MemoryRow.agent == agent, MemoryRow.agent.is_(None)))
        for column, value in (
            (MemoryRow.kind, self.kind),
            (MemoryRow.source, self.source),
            (MemoryRow.conversation, self.conversation),
        ):
            if value is not None:
                where.append(column == checked_value(value, column.key))
        if self.tier is not None:
            if isinstance(self.tier, str) or not isinstance(self.tier, Iterable):
                chosen = [checked_tier(self.tier)]
            else:
                chosen = [checked_tier(tier) for tier in self.tier]
            one = len(chosen) == 1  # an index then gives them in order
            where.append(MemoryRow.tier == chosen[0] if one else MemoryRow.tier.in_(chosen))
        if self.archived:
            where.append(MemoryRow.archived.is_not(None))
        tags = checked_tags(self.tags)
        if tags:
            where.append(_having(tags))
        return where + self._during()

    def standing(self, *, working: bool = False) -> list[ColumnElement[bool]]:
        """Returns what nearly every memory meets, cheaper to test on what was found.

        Args:
            working: Whether working memories of all tasks are meant.
        """
        where: list[ColumnElement[bool]] = []
        if self.at is not None:
            where.append(_held(MemoryRow, checked_moment(self.at, "The moment")))
        if self.archived is False:
            where.append(MemoryRow.archived.is_(None))
        if self.task is not None:
            task = checked_value(self.task, "task")
            where.append(or_(MemoryRow.tier != "working", MemoryRow.task == task))
        elif not working and self.tier is None:
            where.append(MemoryRow.tier != "working")
        return where

    def past(self) -> list[ColumnElement[bool]]:
        """Returns what leaves out a memory that came only later in place of one that held then.

        Its validity does not tell: a merged memory has that of its sources, and a passage of a
        document's later state has none.
        """
        if self.at is None:
            return []
        at = checked_moment(self.at, "The moment")
        older = aliased(MemoryRow)
        held = _held(older, at)
        source = and_(older.row == MemoryLinkRow.to_row, MemoryLinkRow.from_row == MemoryRow.row)
        merged = exists().where(source, MemoryLinkRow.kind == MERGED_FROM, held)
        replaced = exists().where(older.superseded_by == MemoryRow.id, held)
        return [not_(merged), or_(MemoryRow.created <= at, not_(replaced))]

    def _during(self) -> list[ColumnElement[bool]]:
        when = func.coalesce(MemoryRow.happened, MemoryRow.created, type_=MemoryRow.created.type)
        where: list[ColumnElement[bool]] = []
        if self.since is not None:
            where.append(when >= checked_moment(self.since, "`since`"))
        if self.until is not None:
            where.append(when < checked_moment(self.until, "`until`"))
        if self.since and self.until and self.since >= self.until:
            raise InvalidRequest("`since` is not before `until`.", hint="Swap the two times.")
        return where


def _held(memory: type[MemoryRow], at: datetime) -> ColumnElement[bool]:
    return and_(
        or_(memory.valid_from.is_(None), memory.valid_from <= at),
        or_(memory.valid_until.is_(None), memory.valid_until > at),
    )


def _having(tags: Sequence[str]) -> ColumnElement[bool]:
    holding = (
        select(MemoryTagRow.memory_row)
        .where(MemoryTagRow.tag.in_(tags))
        .group_by(MemoryTagRow.memory_row)
        .having(func.count() == len(tags))
    )
    return MemoryRow.row.in_(holding)
