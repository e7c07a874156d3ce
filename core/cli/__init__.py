"""The command line: `ryzanstein COMMAND`. `main` is the console script.

    0    done
    1    failed, with one line that says why and what to do (with --json also as JSON on stdout)
    2    wrong usage
    130  interrupted

Every command is a client of the MCP servers; nothing heavy is imported before a command needs it.
"""

from ryzanstein.cli._main import main

__all__ = ["main"]
