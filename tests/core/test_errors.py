"""Every error has a wire code of the contract, and survives the wire."""

from __future__ import annotations

import pytest

from ryzanstein import errors
from ryzanstein.errors import RyzansteinError, from_wire

CODES = set(
    "CONNECTION_FAILED TIMEOUT SERVER_UNAVAILABLE MODEL_NOT_FOUND MODEL_LOAD_FAILED "
    "INFERENCE_FAILED AGENT_NOT_FOUND TOOL_NOT_FOUND AGENT_INVOCATION_FAILED INVALID_CONFIG "
    "CONFIG_SAVE_FAILED INTERNAL_ERROR INVALID_REQUEST".split()
)
KINDS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, RyzansteinError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_its_code_over_the_wire(kind: type[RyzansteinError]) -> None:
    error = kind("It broke.", hint="Mend it.")
    assert error.code in CODES
    back = from_wire(**error.to_wire())
    assert back.to_wire() == error.to_wire()
    assert issubclass(kind, type(back)) or isinstance(back, kind) or back.code == kind.code


def test_every_code_is_raised_by_some_error() -> None:
    assert {kind.code for kind in KINDS} == CODES


def test_an_unknown_code_is_an_internal_error() -> None:
    assert from_wire("SOMETHING_NEW", "It broke.").code == "INTERNAL_ERROR"


def test_the_tree_in_the_docstring_names_every_error() -> None:
    drawn = errors.__doc__ or ""
    missing = [kind.__name__ for kind in KINDS if kind.__name__ not in drawn]
    assert not missing
