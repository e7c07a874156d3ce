"""What a task says outright about its agent: a mention, a slash command, a file's name.

@CIPHER is this key long enough?        mention; anywhere in capitals, else at the start
/review src/parser.py                   slash command of routing.commands; at the start
why does vault.sol not compile          file kind of routing.file_kinds
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ryzanstein.registry import Registry

__all__ = ["Cues", "read_cues"]

_MENTION = re.compile(r"(?<![\w@.])@(\w+)")
_COMMAND = re.compile(r"\s*/([a-z0-9][a-z0-9._-]*)(?=\s|$)")
_REMEMBER = re.compile(
    r"\s*(?:(?:please|and|also|ok|okay)[\s,]+)*"
    r"(?:remember|keep in mind|note down|note that|make a note|don't forget|do not forget)\b",
    re.IGNORECASE,
)
_FILE = re.compile(r"(?<![\w.@:])(?:[\w.-]*/)*([\w-]*\.?[\w.-]*\w)")
# Names of frameworks that only look like files.
_NO_FILES = frozenset(
    "node.js vue.js next.js nuxt.js react.js express.js d3.js three.js backbone.js ember.js".split()
)
# A file mentioned in the ten-thousandth word is not what the task is about.
_LOOKED_AT = 4_000
# Folders at the root of a file system, which a task may begin with.
_FOLDERS = frozenset(
    "bin boot data dev etc home lib media mnt opt proc root srv sys tmp usr var".split()
)


@dataclass(frozen=True, slots=True)
class Cues:
    """What was found.

    Attributes:
        task: The task without its mentions and command, for the embedding.
        mentioned: Codenames in the order of their mentions.
        command: Command without its slash and the codename that owns it.
        files: (file name, codenames that such files call for, first one first).
        remember: Whether it orders to remember something, which may be about anything.
        unknown: A mention or command that there is none of, as the user wrote it.
    """

    task: str
    mentioned: tuple[str, ...]
    command: tuple[str, str] | None
    files: tuple[tuple[str, tuple[str, ...]], ...]
    remember: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def decided(self) -> bool:
        """Whether they alone put the task in scope."""
        return bool(self.mentioned or self.command or self.files or self.remember)


def read_cues(task: str, registry: Registry, files: Sequence[str] = ()) -> Cues:
    """Reads mentions, the command and the kinds of files out of a task and the files with it."""
    codenames = {profile.codename for profile in registry.agents}
    mentioned: dict[str, None] = {}
    unknown: dict[str, None] = {}
    rest = task
    for found in _MENTION.finditer(task[:_LOOKED_AT]):
        name = found.group(1)
        at_start = not task[: found.start()].strip()
        if name in codenames or (at_start and name.upper() in codenames):
            mentioned[name.upper()] = None
            rest = rest.replace(found.group(0), " ", 1)
        elif at_start or (name.isupper() and len(name) > 1):
            unknown[found.group(0)] = None
    command = _COMMAND.match(rest)
    owned = None
    if command is not None and command.group(1) not in {*registry.routing.commands, *_FOLDERS}:
        unknown[f"/{command.group(1)}"] = None
    elif command is not None and command.group(1) in registry.routing.commands:
        name = command.group(1)
        owned = (name, registry.routing.commands[name])
        # The command's own word is part of what is asked: "/review this" is about a review.
        rest = f"{name} {rest[command.end() :]}"
    found_files = _files(rest, files, registry)
    remember = _REMEMBER.match(rest) is not None
    text = rest.strip() or task
    return Cues(text, tuple(mentioned), owned, found_files, remember, tuple(unknown))


def _files(
    task: str, beside: Sequence[str], registry: Registry
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, tuple[str, ...]] = {}
    in_text = [match.group(1) for match in _FILE.finditer(task[:_LOOKED_AT])]
    for name in (*(re.split(r"[\\/]", one)[-1] for one in beside), *in_text):
        if name.casefold() in _NO_FILES or name in found:
            continue
        for kind in registry.routing.file_kinds:
            if any(fnmatchcase(name, pattern) for pattern in kind.files):
                found[name] = kind.agents
                break
    return tuple(found.items())
