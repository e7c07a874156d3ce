"""What gets installed: one package, every file of the tree, nothing else."""

from __future__ import annotations

import subprocess
from importlib.metadata import Distribution, distributions
from importlib.resources import files as resources
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("core", "inference", "memory", "tools", "agents", "mcp_servers")


def tracked(*patterns: str) -> list[str]:
    command = ["git", "ls-files", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def installed_path(source: str) -> str:
    folder, _, rest = source.partition("/")
    return f"ryzanstein/{rest}" if folder == "core" else f"ryzanstein/{source}"


def test_every_source_file_is_installed() -> None:
    package = resources("ryzanstein")
    patterns = [f"{folder}/*{suffix}" for folder in FOLDERS for suffix in (".py", ".md", ".mako")]
    missing = []
    for source in [*tracked(*patterns), "core/registry.yaml", "core/py.typed"]:
        parts = installed_path(source).split("/")[1:]
        if parts[0] in FOLDERS:
            module = resources(f"ryzanstein.{parts[0]}")
            found = module.joinpath(*parts[1:])
        else:
            found = package.joinpath(*parts)
        if not found.is_file():
            missing.append(source)
    assert not missing


def installed() -> Distribution:
    """The installed distribution; a build leaves an egg-info in the checkout that is none."""
    return next(found for found in distributions(name="ryzanstein") if found.read_text("RECORD"))


def test_the_distribution_owns_one_top_level_name() -> None:
    tops = {path.parts[0] for path in installed().files or ()}
    own = {top for top in tops if not top.startswith(("ryzanstein-", "..", "__editable__"))}
    assert own <= {"ryzanstein", "__pycache__"}


def test_the_metadata_says_what_a_user_needs() -> None:
    told = installed().metadata
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Requires-Python"] == ">=3.11"
    assert "Ryzanstein" in (told.get_payload() or told["Description"] or "")
