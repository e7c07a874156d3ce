"""Starts the server that the user of the bundle chose, with what they allowed.

    main.py SERVER [FOLDER …]     and settings as variables of the environment

What was left empty arrives as "" or as the name of its place, "${user_config.…}".
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Runs `ryzanstein mcp` in this process."""
    from ryzanstein.cli import main as run
    from ryzanstein.config import load_settings

    for name in [name for name in os.environ if name.startswith("RYZANSTEIN_")]:
        if not given(os.environ[name]):
            del os.environ[name]
    words = [word for word in sys.argv[1:] if given(word)]
    server, folders = (words or ["orchestrator"])[0], [Path(word) for word in words[1:]]
    roots = [folder for folder in folders if folder.is_dir()]
    for folder in folders:
        if folder not in roots:
            print(f"{folder} is no folder: tools do without it.", file=sys.stderr)
    if not roots:  # clients start servers in the root of the disk
        own = load_settings().data_dir / "files"
        own.mkdir(parents=True, exist_ok=True)
        roots = [own]
    run(["mcp", server, *(text for root in roots for text in ("--root", str(root)))])


def given(text: str) -> bool:
    """Says whether the user filled this in."""
    return bool(text.strip()) and not text.startswith("${")


if __name__ == "__main__":
    main()
