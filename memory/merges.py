"""Merges, contradictions and their undoing: each one transaction, with links and journal.

    merge       a new version with the newest of the texts; supersedes its sources, which stay in
                its history            new ──merged_from──> each source
    contradict  both stay as they are  newer ──contradicts──> older
    unmerge     the sources hold again, the merged version becomes an old one of the kept text

Which rows to join was decided outside the transaction, so every function looks again whether they
still stand as they did: of two processes with the same plan one finds nothing left to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, and_, exists, insert, or_, select, update
from sqlalchemy.orm import aliased

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory import journal, policies
from ryzanstein.memory.facts import new_id
from ryzanstein.memory.records import CONTRADICTS, MERGED_FROM, TIERS, Memory
from ryzanstein.memory.rows import (
    add_tags,
    identity_of,
    insert_memories,
    load_memories,
    load_one,
    save_standing,
    supersede,
)
from ryzanstein.memory.schema import MemoryLinkRow, MemoryRow
from ryzanstein.memory.spaces import MEMORIES
from ryzanstein.memory.tiers import Change
from ryzanstein.memory.vectors.sync import store_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder

__all__ = ["add_link", "contradict", "has_link", "merge", "mergeable", "parted", "unmerge"]


def mergeable(one: Memory, other: Memory) -> bool:
    """Says whether two memories speak of the same time and come from the same mouth."""
    return (
        one.happened == other.happened
        and one.valid_from == other.valid_from
        and one.valid_until == other.valid_until
        and one.speaker == other.speaker
    )


def merge(
    change: Change,
    embedder: Embedder,
    scores: Mapping[int, float],
    vectors: Mapping[int, NDArray[np.float32]],
    why: str,
) -> Memory | None:
    """Joins memories that say the same into a new version that has the newest one's text.

    Args:
        change: The transaction.
        embedder: Whose vectors are kept.
        scores: Cosine to the one that was looked at, by row; 1 for that one.
        vectors: float32 [dimension] by row.
        why: For the journal; holds no text of a memory.

    Returns:
        The merged memory; None where one of them has changed or was parted from another before.
    """
    connection = change.connection
    found = load_memories(connection, _standing(scores))
    if len(found) < len(scores) or parted(connection, list(found)):
        return None
    kept = max(found, key=lambda row: (found[row].created, row))
    merged = _joined(found, kept, change)
    rows = sorted(found)
    supersede(connection, rows, merged.id, change.revision, change.now)
    [row] = insert_memories(connection, [merged], change.revision)
    store_vectors(connection, MEMORIES, embedder, [row], vectors[kept][None, :], change.revision)
    for source in rows:
        add_link(change, row, source, MERGED_FROM, scores[source])
    _inherit_contradictions(change, row, rows)
    ids = ", ".join(found[source].id for source in rows)
    journal.write(connection, rows, "merged", f"into {merged.id}: {why}", change.now)
    journal.write(connection, [row], "merged", f"from {ids}: {why}", change.now)
    change.filled.add(merged.tier)
    return merged


def contradict(change: Change, one: int, other: int, score: float, why: str) -> bool:
    """Marks two memories as contradicting each other; False where that was known or one changed."""
    connection = change.connection
    found = load_memories(connection, _standing((one, other)))
    if len(found) < 2 or has_link(connection, one, other, CONTRADICTS):
        return False
    older, newer = sorted(found, key=lambda row: (found[row].created, row))
    add_link(change, newer, older, CONTRADICTS, score)
    for row, against in ((newer, older), (older, newer)):
        detail = f"contradicts {found[against].id} (similarity {score:.2f}): {why}"
        journal.write(connection, [row], "contradicted", detail, change.now)
    return True


def unmerge(change: Change, id: str) -> list[Memory]:
    """Makes the sources of a merged memory hold again, and never merges them by itself again.

    Returns:
        The sources, oldest first; the newest of them has what was learnt since of the merged one.

    Raises:
        InvalidRequest: There is no such memory, it was replaced, or it was not merged.
    """
    connection = change.connection
    row, merged = load_one(connection, id, current=True)
    links = _sources(connection, row)
    sources = load_memories(connection, [MemoryRow.row.in_(list(links))]) if links else {}
    if not sources:
        raise InvalidRequest(f"{id} was not merged from others.", hint="Nothing to undo.")
    kept = max(sources, key=lambda source: (sources[source].created, source))
    supersede(connection, [row], sources[kept].id, change.revision, change.now)
    restored = {
        source: _restore(change, source, memory, merged) for source, memory in sources.items()
    }
    restored[kept] = _learnt(restored, kept, merged)
    save_standing(connection, restored)
    add_tags(connection, kept, sorted({*restored[kept].tags} - {*sources[kept].tags}))
    change.filled.update(memory.tier for memory in restored.values())
    journal.write(connection, [row], "unmerged", "its sources hold again", change.now)
    journal.write(connection, sorted(sources), "unmerged", f"from {id}", change.now)
    return [restored[source] for source in sorted(restored)]


def parted(connection: Connection, rows: Sequence[int]) -> bool:
    """Says whether two of these current rows were merged once and taken apart again."""
    one, other = aliased(MemoryLinkRow), aliased(MemoryLinkRow)
    pair = (
        select(one.from_row)
        .join(other, and_(other.from_row == one.from_row, other.kind == one.kind))
        .where(
            one.kind == MERGED_FROM,
            one.to_row.in_(rows),
            other.to_row.in_(rows),
            one.to_row < other.to_row,
        )
    )
    return bool(connection.execute(select(pair.exists())).scalar())


def add_link(change: Change, one: int, other: int, kind: str, score: float) -> bool:
    """Links two rows; False where they were linked so already."""
    known = exists().where(
        MemoryLinkRow.from_row == one, MemoryLinkRow.to_row == other, MemoryLinkRow.kind == kind
    )
    if change.connection.execute(select(known)).scalar():
        return False
    values = {"from_row": one, "to_row": other, "kind": kind, "score": score}
    change.connection.execute(insert(MemoryLinkRow).values(**values, created=change.now))
    return True


def has_link(connection: Connection, one: int, other: int, kind: str) -> bool:
    """Says whether two rows are linked, in either direction."""
    link = MemoryLinkRow
    either = or_(
        and_(link.from_row == one, link.to_row == other),
        and_(link.from_row == other, link.to_row == one),
    )
    return bool(connection.execute(select(exists().where(link.kind == kind, either))).scalar())


def _standing(rows: Mapping[int, float] | Sequence[int]) -> list[ColumnElement[bool]]:
    chosen = MemoryRow.row.in_(list(rows))
    return [chosen, MemoryRow.superseded_by.is_(None), MemoryRow.archived.is_(None)]


def _joined(found: Mapping[int, Memory], kept: int, change: Change) -> Memory:
    """Returns the merged record: the text of one of them, and the standing of all."""
    memories = list(found.values())
    uses = sum(memory.uses for memory in memories)
    weights = [max(memory.uses, 1) for memory in memories]
    outcome = sum(w * memory.outcome for w, memory in zip(weights, memories, strict=True))
    used = [memory.last_used for memory in memories if memory.last_used is not None]
    return policies.weighed(
        replace(
            found[kept],
            id=new_id(),
            tier=max((memory.tier for memory in memories), key=TIERS.index),
            tags=tuple(sorted({tag for memory in memories for tag in memory.tags})),
            source=found[kept].source or next((m.source for m in memories if m.source), None),
            mark=max((m.mark for m in memories if m.mark is not None), default=None),
            novelty=max(memory.novelty for memory in memories),
            outcome=outcome / sum(weights),
            uses=uses,
            reinforced=sum(memory.reinforced for memory in memories) + len(memories) - 1,
            created=min(memory.created for memory in memories),
            updated=change.now,
            last_used=max(used, default=None),
        )
    )


def _inherit_contradictions(change: Change, row: int, sources: Sequence[int]) -> None:
    link = MemoryLinkRow
    for mine, other, away in (
        (link.to_row, link.from_row, False),
        (link.from_row, link.to_row, True),
    ):
        query = select(other, link.score).where(link.kind == CONTRADICTS, mine.in_(sources))
        for against, score in change.connection.execute(query).all():
            ends = (row, against) if away else (against, row)
            add_link(change, *ends, CONTRADICTS, score)


def _sources(connection: Connection, row: int) -> list[int]:
    query = select(MemoryLinkRow.to_row).where(
        MemoryLinkRow.from_row == row, MemoryLinkRow.kind == MERGED_FROM
    )
    return list(connection.execute(query).scalars())


def _restore(change: Change, row: int, memory: Memory, merged: Memory) -> Memory:
    """Makes a source current again, or an old version of what has its text by now.

    The next search makes its vector.
    """
    digest = identity_of(memory)
    taken = select(MemoryRow.id).where(MemoryRow.identity == digest)
    by = change.connection.execute(taken).scalar_one_or_none()
    values = {"superseded_by": by, "identity": None if by else digest, "revision": change.revision}
    change.connection.execute(update(MemoryRow).where(MemoryRow.row == row).values(**values))
    # Both had the same validity before the merge ended that of the source.
    ends = memory.valid_until if by else merged.valid_until
    return replace(memory, superseded_by=by, valid_until=ends)


def _learnt(sources: Mapping[int, Memory], kept: int, merged: Memory) -> Memory:
    """Returns the kept source with the uses, mark, outcome and tags the merged one got since."""
    others = [memory for row, memory in sources.items() if row != kept]
    repeated = merged.reinforced - len(others) - sum(memory.reinforced for memory in others)
    tags = {tag for memory in others for tag in memory.tags} - {*sources[kept].tags}
    marks = [memory.mark for memory in sources.values() if memory.mark is not None]
    return policies.weighed(
        replace(
            sources[kept],
            mark=sources[kept].mark if merged.mark == max(marks, default=None) else merged.mark,
            outcome=merged.outcome,
            uses=max(merged.uses - sum(memory.uses for memory in others), 0),
            reinforced=max(repeated, 0),
            last_used=merged.last_used,
            tags=tuple(sorted({*merged.tags} - tags)),
        )
    )
