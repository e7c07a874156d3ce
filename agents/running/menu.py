"""Which tools an agent is shown for a task, and what is clear already about their arguments.

At most eight of those its profile allows, best first. What the user names in the task may be read,
so the reading tools for the things named are allowed besides.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ryzanstein.agents.clients.services import Services, ToolSpec
from ryzanstein.agents.running import prompting, telling
from ryzanstein.agents.running.ground import GIT, Named, Surroundings
from ryzanstein.agents.running.step import OTHER, Step

if TYPE_CHECKING:
    from ryzanstein.registry import AgentProfile

__all__ = [
    "COMPUTES",
    "FILE",
    "MOST",
    "allowed_tools",
    "clear_arguments",
    "granted",
    "menu",
    "options",
]

MOST = 8
# These do most of what is asked for, and small models use them well.
GENERAL = frozenset(
    {
        *("run_python", "evaluate_expression", "read_file", "search_files", "list_files"),
        *("query_sqlite", "git_inspect", "write_file", "remember", "recall", "fetch_url"),
        "run_tests",
    }
)
CALCULATES = frozenset({"run_python", "evaluate_expression"})
# What neither of them does as well.
SYMBOLIC = frozenset(
    {
        *("differentiate", "integrate", "compute_limit", "calculate_matrix", "solve_equation"),
        *("simplify_expression", "solve_constraints", "check_satisfiable", "prove_formula"),
        "compute_distribution",
    }
)
# Beside them so many of those that do one thing.
MOST_SPECIAL = 4
# Families of this project; what another server brings was joined to be used.
OWN = frozenset(
    "code data database files git inference logic mathematics memory model system text web".split()
)
# What can be done with a thing that is named.
_FAMILIES = {
    "database": ("database",),
    "repository": ("git",),
}
# What changes something is offered only where the task asks for that change.
_CHANGES = {
    "make_folder": re.compile(r"\b(make|create|add|new)\b[^.?!]*\b(folder|directory)\b", re.I),
    "copy_file": re.compile(r"\b(copy|copies|duplicate|back ?up)\b", re.I),
    "move_file": re.compile(r"\b(move|rename)\b", re.I),
    "delete_file": re.compile(r"\b(delete|remove|erase)\b", re.I),
    "execute_sql": re.compile(r"\b(insert|update|delete|add|create|change|set|drop)\b", re.I),
    "export_query": re.compile(r"\b(export|save|write|store|dump)\b", re.I),
    "convert_data": re.compile(r"\b(convert|turn)\b", re.I),
    "git_commit": re.compile(r"\bcommit (?:all|the|my|these|this|it|them|changes?)\b", re.I),
    "git_branch": re.compile(r"\b(switch|check ?out|create|make|new)\b[^.?!]*\bbranch\b", re.I),
    "git_restore": re.compile(r"\b(restore|revert|undo|discard)\b", re.I),
}
_DATE_TOOLS = ("compare_dates", "shift_date")
# These are for something that a task names, or at least speaks of.
_ONLY_WITH = {
    "query_sqlite": (
        "database",
        re.compile(r"\b(sql|sqlite|database|tables?|query)\b|\.db\b", re.I),
    ),
    "git_inspect": ("repository", GIT),
    # Dates in words are read by a program; a small model copies the year of the tools' examples.
    **{name: ("", re.compile(r"\b\d{4}-\d\d-\d\d\b|\btoday\b|\bago\b")) for name in _DATE_TOOLS},
    "run_tests": ("", re.compile(r"\b(py)?tests?\b", re.I)),
    "fetch_url": ("page", re.compile(r"https?://|\bwww\.|\b(web|page|site|url|online)\b", re.I)),
}
_REQUEST = re.compile(r"\b(please|(can|could|would|will) you)\b", re.I)
FILE = re.compile(r"(?<![\w./@-])(?:[\w-]+/)*[\w-]+\.[A-Za-z]\w{0,5}\b(?!\()")
# What the searching tools say where they found nothing.
_EMPTY = ("[found lines: 0", "[0 files match")
_FILES = re.compile(r"\b(how many|number of) (\w+ ){0,2}files\b", re.I)
MOST_OPTIONS = 60
SHORT = 80
COMPUTES = frozenset(
    {"run_python", "evaluate_expression", "query_sqlite", "search_files", "list_files", "run_tests"}
)
# What there is to work on calls for its own tools, whatever the words of the task are.
_FOR_KIND = {
    "database": ("query_sqlite",),
    "repository": ("git_inspect",),
    "folder": ("search_files", "list_files"),
    "file": ("run_python", "read_file", "search_files"),
}
# A database is no text and a repository's history is in no file: these would only mislead.
_NOT_FOR_KIND = {
    "database": {"read_file", "search_files", "list_files", "run_tests", "run_python"},
    "repository": {"read_file", "search_files", "list_files", "run_python", "run_tests"},
}
# The optional argument of a tool that takes a thing of a kind.
_TAKES = {
    "query_sqlite": ("database", "database"),
    "git_inspect": ("path", "repository"),
    "list_files": ("path", "folder"),
    "search_files": ("path", "folder"),
}


async def allowed_tools(
    profile: AgentProfile, named: Sequence[Named], services: Services
) -> tuple[ToolSpec, ...]:
    """The tools a profile names, by name or family, and those that read what the task names."""
    wanted = {*profile.tools, *(tool for one in named for tool in _FOR_KIND[one.kind])}
    tools = await services.tools()
    return tuple(tool for tool in tools if tool.name in wanted or tool.family in wanted)


async def menu(
    task: str,
    named: Sequence[Named],
    allowed: Sequence[ToolSpec],
    services: Services,
    *,
    computes: bool = False,
) -> list[ToolSpec]:
    """Picks and describes the tools to show, those for the things at hand first.

    Args:
        task: What the user asked.
        named: What the task names.
        allowed: The tools to pick from.
        services: Ranks and describes them.
        computes: The answer is counted or calculated: a file's text alone would not do.
    """
    if prompting.to_remember(task) and any(tool.name == "remember" for tool in allowed):
        return [await services.describe_tool("remember")]
    found = [one.name for one in await services.search_tools(task, limit=50)]
    called_for = telling.spoken_of(task, await services.tools(), found)
    if computes and any(tool.name in CALCULATES for tool in allowed):
        # Measured: small models copy the example of a special tool where a program would do.
        called_for &= SYMBOLIC
    names = {tool.name for tool in allowed if _is_for(tool, named, called_for)}
    order = ["write_file"] if prompting.asks_to_write(task) and "write_file" in names else []
    order += [name for one in named for name in _FOR_KIND[one.kind] if name in names]
    # A tool for this very thing is among the first; a general one may come anywhere.
    order += [name for name in found[:MOST] if name in names - GENERAL][:MOST_SPECIAL]
    order += [name for name in found if name in names & GENERAL]
    order += [tool.name for tool in allowed if tool.name in names & GENERAL]
    useless = _useless(task, named, computes) | _unasked(task, allowed)
    picked = [name for name in dict.fromkeys(order) if name not in useless][:MOST]
    return [await services.describe_tool(name) for name in picked]


def _is_for(tool: ToolSpec, named: Sequence[Named], called_for: set[str]) -> bool:
    """Whether a tool may be shown: a general one, one that is called for, one of another server."""
    if tool.name in GENERAL:
        return True
    families = {family for one in named for family in _FAMILIES.get(one.kind, ())}
    fits = not families or tool.family in families
    return fits and (tool.name in called_for or tool.family not in OWN)


def _unasked(task: str, allowed: Sequence[ToolSpec]) -> set[str]:
    """Tools that would change what nobody asked to be changed: a small model that may, will."""
    only_asks = prompting.only_asks(task)
    return {
        tool.name
        for tool in allowed
        if tool.name in _CHANGES and (only_asks or not _CHANGES[tool.name].search(task))
    }


def granted(task: str, named: Sequence[Named]) -> tuple[str, ...]:
    """What may be overwritten or deleted without asking: the files a task says to do that to.

    A question says nothing of the kind, unless it is a request.
    """
    if task.rstrip().endswith("?") and not _REQUEST.search(task):
        return ()
    files = [one.path for one in named if one.kind == "file"]
    tools = ["write_file", "edit_file"] if prompting.asks_to_write(task) else []
    tools += [name for name in ("delete_file", "move_file") if _CHANGES[name].search(task)]
    # A grant's target is a pattern; a file may be called `*`.
    return tuple(f"{tool}:{glob.escape(path)}" for path in files for tool in tools)


def _useless(task: str, named: Sequence[Named], computes: bool) -> set[str]:
    """Tools that could only mislead here."""
    barred = [_NOT_FOR_KIND.get(one.kind, set()) for one in named]
    useless = set.intersection(*barred) if barred else set()
    kinds = {one.kind for one in named}
    if named:
        # What is remembered about it was recalled already, and a folder's listing is in sight.
        useless |= {"recall"} if computes else {"recall", "list_files"}
    if computes and kinds & {"file", "database"}:
        # What is in there is read by a program or a query, not by an expression or from memory.
        useless |= {"read_file", "evaluate_expression"}
        useless |= set() if prompting.asks_to_count(task) else {"search_files", "list_files"}
    if computes and not named:
        useless |= {"read_file", "search_files", "list_files", "recall"}
    if prompting.asks_to_write(task) and all(one.path == "." for one in named):
        useless |= {"search_files", "list_files", "read_file"}
    if prompting.asks_to_count(task) and _FILES.search(task) and "folder" in kinds:
        useless = (useless | {"search_files"}) - {"list_files"}
    # A small model that may write will: nothing is changed that nobody asked to be changed.
    if not prompting.asks_to_write(task):
        useless |= {"write_file", "edit_file"}
    if computes or prompting.only_asks(task):
        useless |= {"remember"}
    if prompting.is_about_dates(task):
        useless |= {"evaluate_expression"}
    for tool, (kind, words) in _ONLY_WITH.items():
        if kind not in kinds and not words.search(task):
            useless |= {tool}
    return useless


def settles(made: Step) -> bool:
    """Whether a result holds what had to be counted, calculated or kept."""
    short = len(made.observation) <= SHORT and any(char.isdigit() for char in made.observation)
    found_nothing = any(empty in made.observation for empty in _EMPTY)
    found = made.tool in COMPUTES or made.tool == "remember" or short
    return made.ok and found and not found_nothing


def clear_arguments(tool: str, task: str, named: Sequence[Named]) -> dict[str, str]:
    """The argument that says which thing to work on, where the task names just one of its kind."""
    if tool == "write_file":
        files = list(dict.fromkeys(FILE.findall(task)))
        return {"path": files[0]} if len(files) == 1 else {}
    if tool == "remember":
        text = prompting.to_remember(task)
        return {"text": text} if text else {}
    argument, kind = _TAKES.get(tool, ("", ""))
    paths = [one.path for one in named if one.kind == kind]
    return {argument: paths[0]} if len(paths) == 1 else {}


def options(tool: str, around: Surroundings) -> dict[str, list[str]]:
    """The values an argument can take where they are few, with OTHER where more are possible."""
    if tool == "git_inspect":
        return {"command": [*prompting.GIT_COMMANDS, OTHER]}
    if tool != "read_file" or not around.place.complete:
        return {}
    named = [one.path for one in around.named if one.kind == "file"]
    paths = list(dict.fromkeys([*named, *around.place.files]))
    return {"path": paths} if len(paths) <= MOST_OPTIONS else {}
