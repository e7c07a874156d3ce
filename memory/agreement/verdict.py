"""Whether two texts that mean nearly the same really say the same: plain rules over words.

Embeddings put "the port is 8080" beside "the port is 9090" and "the dog chased the cat" beside
"the cat chased the dog". These rules tell them apart, and rather keep two records than join two
that differ:

    same         every term of one stands in the other, with the same part, in the same order, and
                 both are meant alike (denied, past, possible, asked)
    contradicts  they speak of the same and exclude each other: one denies it, opposites, another
                 value where there can be only one, or what used to be
    differs      everything else

English only: in other languages nothing but the same words in the same order is "same", and
contradictions are not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ryzanstein.memory.agreement.lexicon import (
    canonical,
    is_called,
    is_colour,
    is_state,
    opposed,
)
from ryzanstein.memory.agreement.statement import Statement, Term, parse

__all__ = ["MAX_COMPARED", "Agreement", "Verdict", "agree"]

Verdict = Literal["same", "differs", "contradicts"]
# Records are sentences; of longer texts only the very same are the same.
MAX_COMPARED = 4_000
_FEW_WORDS = 12
_SHARED = 0.4
_FORMERLY = "formerly"
_ORDER = "the same words in another order"
_MARKED = {
    "question": "one is a question",
    "was": "one speaks of the past",
    "will": "one speaks of the future",
    "several": "one speaks of several",
}
_SAID_BY = {
    "number": "numbers", "date": "dates", "name": "names", "code": "identifiers",
    "person": "persons", "word": "words",
}  # fmt: skip
_VALUES = ("number", "date", "name", "code")
_PLACED = ("", "in", "on", "at", "from")
_FAVOURITE = canonical("favourite")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a comparison found, and why.

    Attributes:
        verdict: same, differs or contradicts.
        reasons: In words, at least one; with words of the texts after a colon.
    """

    verdict: Verdict
    reasons: tuple[str, ...]

    @property
    def brief(self) -> str:
        """The reasons without a word of the texts."""
        return "; ".join(reason.split(":")[0] for reason in self.reasons)


def agree(one: str, other: str) -> Agreement:
    """Compares two texts; their order makes no difference to the verdict."""
    if one.split() == other.split():
        return Agreement("same", ("the same text",))
    if max(len(one), len(other)) > MAX_COMPARED:
        return Agreement("differs", ("too long to compare, and not the same text",))
    if max(len(one), len(other)) > 3 * min(len(one), len(other)) + 100:
        return Agreement("differs", ("one says much more",))
    words, others = ({*text.casefold().split()} for text in (one, other))
    if len(words ^ others) > max(_FEW_WORDS, _SHARED * (len(words) + len(others))):
        # Seen at a hundredth of the cost of reading them; most neighbours are such.
        return Agreement("differs", ("most words differ",))
    return compare(parse(one), parse(other))


def compare(one: Statement, other: Statement) -> Agreement:
    """Compares two parsed texts."""
    if not one.terms or not other.terms:
        return Agreement("differs", ("nothing in them that can be compared",))
    match = _Match(one.terms, other.terms)
    standing = _standing(one, other, match)
    if standing or not match.in_order:
        return Agreement("differs", (*standing, *match.differences()) or (_ORDER,))
    if one.markers["question"] and (match.left or match.opposed or match.denials()):
        # A question states nothing that another could exclude.
        return Agreement("differs", match.differences() or ("they ask different things",))
    flips = (*match.opposites(), *match.denials(), *_outdated(one, other))
    if match.left or match.right:
        value = None if flips else match.other_value(one.markers)
        return value or Agreement("differs", match.differences())
    if not flips:
        return Agreement("same", ("the same words, numbers and names, meant alike",))
    return Agreement("contradicts" if len(flips) % 2 else "differs", flips)


class _Match:
    """Terms of two texts, paired.

    Attributes:
        pairs: Positions of the same term in both.
        opposed: Positions of two terms in the same place that exclude each other.
        left: Positions in the first text without a partner.
        right: Positions in the second.
    """

    def __init__(self, one: Sequence[Term], other: Sequence[Term]) -> None:
        self._one, self._other = one, other
        waiting: dict[tuple[str, str], list[int]] = {}
        for at, term in enumerate(other):
            waiting.setdefault((term.key, term.role), []).append(at)
        self.pairs: list[tuple[int, int]] = []
        alone: list[int] = []
        for at, term in enumerate(one):
            places = waiting.get((term.key, term.role))
            if places:
                self.pairs.append((at, places.pop(0)))
            else:
                alone.append(at)
        rest = sorted(at for places in waiting.values() for at in places)
        self.opposed = [at for at in alone if at in rest and _exclude(one[at], other[at])]
        self.left = [at for at in alone if at not in self.opposed]
        self.right = [at for at in rest if at not in self.opposed]

    @property
    def in_order(self) -> bool:
        """Whether the terms that both have stand in the same order."""
        shared = [at for at, _ in self.pairs]
        partners = {at for _, at in self.pairs}
        one = [self._one[at] for at in shared]
        other = [term for at, term in enumerate(self._other) if at in partners]
        return _same_order(one, other)

    def both(self) -> list[tuple[Term, Term]]:
        """Terms that are in both texts."""
        return [(self._one[at], self._other[to]) for at, to in self.pairs]

    def opposites(self) -> list[str]:
        """Words for each pair of opposites."""
        pairs = [(self._one[at], self._other[at]) for at in self.opposed]
        return [f"opposites: {_said(one)} / {_said(other)}" for one, other in pairs]

    def denials(self) -> list[str]:
        """Words for each term that only one of them denies; "not hot" is not "cold"."""
        pairs = [*self.both(), *((self._one[at], self._other[at]) for at in self.opposed)]
        return [f"one denies: {a.text}" for a, b in pairs if a.denied != b.denied]

    def differences(self) -> tuple[str, ...]:
        """Words for what only one of them says."""
        found = []
        left = [self._one[at] for at in self.left]
        right = [self._other[at] for at in self.right]
        for kind, name in _SAID_BY.items():
            ours = [_said(term) for term in left if term.kind == kind]
            theirs = [_said(term) for term in right if term.kind == kind]
            if ours and theirs:
                found.append(f"{name} differ: {', '.join(ours)} / {', '.join(theirs)}")
            elif ours or theirs:
                found.append(f"only one says: {', '.join(ours or theirs)}")
        return tuple(found)

    def other_value(self, markers: Counter[str]) -> Agreement | None:
        """Says that one thing has two values where it can have only one."""
        if self.left != self.right or len(self.left) != 1 or self.opposed or markers["was"]:
            return None
        at = self.left[0]
        one, other = self._one[at], self._other[at]
        if at and one.role == other.role and _single_valued(self._one[:at], one, other):
            return Agreement("contradicts", (f"another value: {_said(one)} / {_said(other)}",))
        return None


def _single_valued(before: Sequence[Term], one: Term, other: Term) -> bool:
    """Says whether what stands before a value allows only one at a time."""
    verb = before[-1]
    if not one.stated and len(before) < 2:
        return False  # "Call Anna first" states nothing
    if is_called(verb.key):
        return True
    if one.stated and any(term.key == _FAVOURITE for term in before):
        return True
    if one.stated and is_colour(one.key) and is_colour(other.key):
        return True
    if one.role not in _PLACED or one.kind not in _VALUES or one.kind != other.kind:
        return False
    stated, left = one.stated, list(before)
    while not stated and len(left) > 1 and left[-1].kind in _VALUES:
        # "is on Monday at 10:00": the verb stands before the other values.
        stated = left.pop().stated
    return stated or (len(left) > 1 and is_state(left[-1].key) and not left[-1].past)


def _exclude(one: Term, other: Term) -> bool:
    if one.key == other.key:
        return opposed(canonical(one.role), canonical(other.role))
    return one.role == other.role and opposed(one.key, other.key)


def _standing(one: Statement, other: Statement, match: _Match) -> list[str]:
    """Words for what makes the same terms mean something else without excluding it."""
    found = [
        _MARKED.get(marker, f"only one says: {marker}")
        for marker in sorted({*one.markers, *other.markers} - {_FORMERLY})
        if one.markers[marker] != other.markers[marker]
    ]
    for first, second in match.both():
        if first.past != second.past and one.markers[_FORMERLY] == other.markers[_FORMERLY]:
            found.append(f"one speaks of the past: {first.text} / {second.text}")
        if _several(first, second) or _several(second, first):
            found.append(f"one speaks of several: {first.text} / {second.text}")
        both_names = first.kind == second.kind == "name"
        if both_names and first.text.casefold() != second.text.casefold():
            found.append(f"names differ: {first.text} / {second.text}")
    return found


def _several(one: Term, other: Term) -> bool:
    """Says whether a term is the other's plural; "likes" is none of "does not like"."""
    if one.helped or other.helped or one.kind != "word" or other.role == "to":
        return False
    many, single = one.text.casefold(), other.text.casefold()
    return many in (f"{single}s", f"{single}es", f"{single.removesuffix('y')}ies")


def _outdated(one: Statement, other: Statement) -> list[str]:
    same = one.markers[_FORMERLY] == other.markers[_FORMERLY]
    return [] if same else ["one says it used to be so"]


def _same_order(one: Sequence[Term], other: Sequence[Term]) -> bool:
    """Says whether terms stand in the same order, but for a phrase that moved to the front.

    "In Paris Anna met Bob" is "Anna met Bob in Paris"; "Bob met Anna in Paris" is not. The only
    date of a text may stand anywhere, and two things joined by "and" may be swapped.
    """
    if sum(term.kind == "date" for term in one) == 1:
        one, other = ([term for term in terms if term.kind != "date"] for terms in (one, other))
    keys, others = ([(term.key, term.role) for term in terms] for terms in (one, other))
    if keys == others:
        return True
    first = next(at for at, key in enumerate(keys) if key != others[at])
    last = next(at for at in reversed(range(len(keys))) if keys[at] != others[at])
    part, moved = keys[first : last + 1], others[first : last + 1]
    for cut in range(1, len(part)):
        if part[cut:] + part[:cut] == moved:
            fronted = first == 0 and bool(one[0].role or other[0].role)
            listed = one[first + cut].joined and other[first + len(part) - cut].joined
            return fronted or (listed and _whole(one, first, last))
    return False


def _whole(terms: Sequence[Term], first: int, last: int) -> bool:
    """Says whether the things of a list are whole: "green tea and coffee" may not be swapped."""
    before, after = terms[:first], terms[last + 1 :]
    if before and not (_is_name(terms[first]) and not _is_name(before[-1])):
        return False
    return not (after and _is_name(after[0]) and not after[0].role and not after[0].joined)


def _is_name(term: Term) -> bool:
    return term.text[:1].isupper()


def _said(term: Term) -> str:
    return " ".join(filter(None, (term.role if term.role != "of" else "", term.text)))
