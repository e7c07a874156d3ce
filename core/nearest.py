"""Nearest names, for errors that say what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

__all__ = ["did_you_mean", "nearest"]


def nearest(name: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """Returns at most n of the choices, most similar first, letter case ignored."""
    wanted = name.casefold()
    scored = (
        (SequenceMatcher(None, wanted, choice.casefold()).ratio(), choice) for choice in choices
    )
    likely = sorted((-score, choice) for score, choice in scored if score >= 0.4)
    return [choice for _, choice in likely[:n]]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Returns "Did you mean A, B or C?", or an empty string where nothing is near."""
    found = nearest(name, choices)
    if not found:
        return ""
    listed = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"
    return f"Did you mean {listed}?"
