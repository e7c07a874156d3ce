"""The choice of an instruction set at import."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ryzanstein.inference.kernels import _linear

REPORT = """
from ryzanstein.errors import ConfigError
try:
    from ryzanstein.inference.kernels._linear import chosen_isa
    print(chosen_isa())
except ConfigError as error:
    print(error.code, error)
"""


def report(forced: str) -> str:
    """What a fresh interpreter says under RYZANSTEIN_ISA."""
    environment = {**os.environ, "RYZANSTEIN_ISA": forced}
    command = [sys.executable, "-c", REPORT]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_best_available_set_is_the_default() -> None:
    assert report("") == _linear.available_isas()[-1]


@pytest.mark.parametrize("isa", _linear.available_isas())
def test_the_environment_forces_a_set(isa: str) -> None:
    assert report(isa) == isa


def test_an_unknown_set_is_refused_with_those_available() -> None:
    answer = report("avx9")
    assert answer.startswith("INVALID_CONFIG RYZANSTEIN_ISA=avx9")
    assert "portable" in answer
