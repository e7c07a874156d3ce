"""What a run may rely on: the user's words alone; everything else is data.

Caller.quote     puts text from outside between marks that it cannot forge
Caller.tainted   such text has been read; from then on calls reach only where the user pointed
Caller.meta      goes with every tool call, so that the tools server can hold the run to it
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

__all__ = ["META", "Caller", "named_hosts"]

# Before the names of what a request carries beside its arguments.
META = "ryzanstein/"
_URL = re.compile(r"https?://[^\s<>\"'`\\]+", re.I)
# Names without a scheme count where they cannot be file names.
_HOST = re.compile(
    r"(?<![\w@/.-])((?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|io|dev)|www\.[a-z0-9.-]+[a-z])"
    r"(?![\w.-]*@)(?=[/:?#\s,;.!)'\"]|$)",
    re.I,
)
_WORD = re.compile(r"\w+")
# A fact may be put into a sentence, and from the user's "my" into "the user's".
_SMALL_WORDS = frozenset(
    "a an and are as at be by called for from has have he his in is it its my name named of on or "
    "she s that the their they this to user users was were with you your".split()
)
# With the look-alikes of `<` that a tokenizer may read as one.
_MARK = re.compile(r"[<\uff1c\u2039\u3008\ufe64\u276e](?=\s*[/\uff0f\u2044]?\s*data)", re.I)


def named_hosts(task: str) -> frozenset[str]:
    """Returns the hosts that a user names, in lower case, with and without www."""
    found = set()
    for address in (*_URL.findall(task), *(f"http://{name}" for name in _HOST.findall(task))):
        try:
            host = (urlsplit(address.rstrip(".,;:!?)]")).hostname or "").rstrip(".")
        except ValueError:
            continue
        found.add(host.removeprefix("www."))
    found.discard("")
    return frozenset({*found, *(f"www.{host}" for host in found)})


@dataclass
class Caller:
    """On whose behalf tools are called, and what has been read so far.

    Attributes:
        task: What the user asked, in his words.
        agent: Codename of the agent.
        run_id: The run.
        grants: What may be overwritten and deleted, beside what the agent's profile grants.
        tainted: Text from outside was read.
        nonce: Part of the marks of this run, so that no text can close them.
    """

    task: str = ""
    agent: str | None = None
    run_id: str | None = None
    grants: tuple[str, ...] = ()
    tainted: bool = False
    nonce: str = field(default_factory=lambda: secrets.token_hex(3))

    def says(self, text: str) -> bool:
        """Whether a text is made of the user's own words, so that it may be taken for his."""
        own = set(_WORD.findall(self.task.casefold()))
        return set(_WORD.findall(text.casefold())) <= own | _SMALL_WORDS

    def meta(self, grants: Sequence[str] = (), text: str = "") -> dict[str, Any]:
        """Returns what goes with a call.

        Args:
            grants: For this one call.
            text: What it is about to keep.
        """
        every = [*self.grants, *grants]
        said: Mapping[str, Any] = {
            "agent": self.agent,
            "run": self.run_id,
            "grants": every or None,
            "tainted": (self.tainted and self.run_id is not None) or None,
            "hosts": sorted(named_hosts(self.task)) or None,
            "own": (bool(text) and self.says(text)) or None,
        }
        return {f"{META}{key}": value for key, value in said.items() if value is not None}

    def quote(self, text: str, source: str = "", kind: str = "") -> str:
        """Returns text from outside as data, between marks of this run.

        Args:
            text: Anything.
            source: Where it comes from, such as a path.
            kind: What it is.
        """
        origin = "".join(
            f" {name}={_plain(value)!r}"
            for name, value in (("from", source), ("kind", kind))
            if value
        )
        inside = _MARK.sub("&lt;", text)
        return f"<data-{self.nonce}{origin}>\n{inside}\n</data-{self.nonce}>"

    def line(self, text: str) -> str:
        """Returns one line from outside between marks, for the middle of a sentence."""
        inside = _MARK.sub("&lt;", " ".join(text.split()))
        return f"<data-{self.nonce}>{inside}</data-{self.nonce}>"


def _plain(name: str) -> str:
    """A name that stays inside its quotes: a file may be called anything."""
    shown = "".join(letter if letter.isprintable() else " " for letter in name)
    return _MARK.sub("&lt;", shown).replace(">", "&gt;")[:200]
