"""Reads SMT-LIB 2.6 texts, of which only declarations, definitions and assertions reach z3.

Other commands could open files (`include`, output channels) or take time of their own (`eval`,
nested `check-sat`): what only asks for an answer is left out, the rest refused.
"""

from __future__ import annotations

import re
from typing import Any

import z3

from ryzanstein.errors import ToolError

__all__ = ["is_smtlib", "read_smtlib"]

_KEPT = {
    "assert",
    "declare-const",
    "declare-datatype",
    "declare-datatypes",
    "declare-fun",
    "declare-sort",
    "define-const",
    "define-fun",
    "define-fun-rec",
    "define-funs-rec",
    "define-sort",
}
_LEFT_OUT = {"check-sat", "exit", "get-model", "get-value", "set-info", "set-logic", "set-option"}
_TOKEN = re.compile(r';[^\n]*|"(?:[^"]|"")*"|\|[^|]*\||[()]|[^\s();"|]+')


def is_smtlib(text: str) -> bool:
    """Tells SMT-LIB from the Python-like form."""
    return re.match(r"(\s|;[^\n]*\n)*\(\s*(set-|declare-|define-|assert\b)", text) is not None


def read_smtlib(text: str) -> list[Any]:
    """Returns the assertions.

    Raises:
        ToolError: It is not well formed, or has a command that is not allowed.
    """
    kept = [command for command in _commands(text) if _is_kept(command)]
    try:
        return list(z3.parse_smt2_string("\n".join(kept)))
    except z3.Z3Exception as error:
        said = error.args[0] if error.args else error
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise ToolError(f"z3 says: {said.strip()[:500]}", hint="Correct the SMT-LIB.") from None


def _commands(text: str) -> list[str]:
    """Splits at the top level; strings, quoted symbols and comments are passed over whole."""
    found, depth, start, end = [], 0, 0, 0
    for token in _TOKEN.finditer(text):
        if text[end : token.start()].strip():
            break
        end = token.end()
        if token[0].startswith(";"):
            continue
        if token[0] == "(":
            start = token.start() if depth == 0 else start
            depth += 1
        elif token[0] == ")":
            depth -= 1
            if depth == 0:
                found.append(text[start:end])
        if depth < 0 or (depth == 0 and token[0] != ")"):
            break
    if depth or text[end:].strip():
        raise ToolError("The brackets do not match.", hint="Correct the SMT-LIB.")
    return found


def _is_kept(command: str) -> bool:
    head = next(token[0] for token in _TOKEN.finditer(command[1:]) if token[0][0] != ";")
    if head in _KEPT:
        return True
    if head in _LEFT_OUT:
        return False
    raise ToolError(
        f"The command {head[:60]} is not allowed here.",
        hint="Use declare-const, declare-fun, define-fun, declare-sort and assert.",
    )
