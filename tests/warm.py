"""Commands in processes forked from one that has the imports done, which take a second and more.

They end like those of the installed command: same code, same streams, a process each.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PRELOADED = ["ryzanstein.cli", "ryzanstein.mcp_servers._orchestrator", "tests.warm"]
_SECONDS = 100


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, streams: Path
) -> int:
    """Runs a command to its end.

    Args:
        arguments: After the command's name.
        environment: All of it.
        folder: To work in.
        streams: Holds the file `in`, and `out` and `err` afterwards.

    Returns:
        Its exit status.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    child = context.Process(target=_command, args=(arguments, dict(environment), folder, streams))
    child.start()
    child.join(_SECONDS)
    code = child.exitcode
    if code is None:
        child.kill()
        child.join()
        raise TimeoutError(f"{arguments} took longer than {_SECONDS} s")
    child.close()
    return code


def _command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, streams: Path
) -> None:
    from ryzanstein.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    flags = (os.O_RDONLY, *(os.O_WRONLY | os.O_CREAT | os.O_TRUNC,) * 2)
    for number, (name, flag) in enumerate(zip(("in", "out", "err"), flags, strict=True)):
        os.dup2(os.open(streams / name, flag, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", closefd=False)
        for number, mode in enumerate(("r", "w", "w"))
    )
    sys.argv = ["ryzanstein", *arguments]
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
