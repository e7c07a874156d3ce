"""Runs a command and turns whatever it raises into one line and an exit code.

The only place with a broad `except`: no traceback reaches a user without --debug.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from ryzanstein.cli._group import Root
from ryzanstein.cli._output import print_error
from ryzanstein.errors import InvalidRequest, RyzansteinError, StorageError

__all__ = ["main"]

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line of these arguments, or of the process, and exits."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("RYZANSTEIN_DEBUG"))
    _prepare(debug)
    code = _flushed(_run(given, as_json="--json" in given, debug=debug))
    if arguments is None:
        # All is said; an interrupt of the interpreter's own end must not print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


def _prepare(debug: bool) -> None:
    """Output in UTF-8 whatever the locale says, and logging that keeps to itself."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")
    if not debug:
        logging.captureWarnings(True)
    level = logging.DEBUG if debug else logging.CRITICAL
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(levelname)s %(name)s: %(message)s"
    )


def _open_closed_streams() -> None:
    """Takes up the descriptors of streams that the caller closed.

    Another file would get their numbers otherwise. stdin is empty then; writing to stdout fails,
    so that a result is never lost in silence.
    """
    kinds = (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))
    for number, (name, flags) in enumerate(kinds):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, flags)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        mode = "w" if number else "r"
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))


def _run(arguments: list[str], as_json: bool, debug: bool) -> int:
    try:
        texts = [_text(argument) for argument in arguments]
        code = Root.main(args=texts, prog_name="ryzanstein", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.UsageError as error:
        return _usage(error, as_json)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(as_json)
    except click.ClickException as error:
        print_error(InvalidRequest(error.format_message()), as_json)
        return 1
    except BaseException as error:
        return _failed(error, as_json, debug)


def _text(argument: str) -> str:
    """An argument as UTF-8, whatever the locale made of its bytes.

    Raises:
        InvalidRequest: It is not UTF-8.
    """
    try:
        return os.fsencode(argument).decode("utf-8") if not argument.isascii() else argument
    except UnicodeError as error:
        raise InvalidRequest("An argument is not UTF-8.", hint="Check the terminal.") from error


def _usage(error: click.UsageError, as_json: bool) -> int:
    path = error.ctx.command_path if error.ctx else "ryzanstein"
    fault = InvalidRequest(error.format_message(), hint=f"Try: {path} --help")
    print_error(fault, as_json)
    return 2


def _failed(error: BaseException, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    causes = list(_leaves(error))
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
        return _interrupted(as_json)
    if any(isinstance(cause, BrokenPipeError) for cause in causes):
        return 1
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    known = [cause for cause in causes if isinstance(cause, RyzansteinError)]
    print_error(known[0] if known else _unexpected(causes[0]), as_json)
    return 1


def _interrupted(as_json: bool) -> int:
    if sys.stderr.isatty():
        print(file=sys.stderr)  # the terminal shows ^C without an end of line
    print_error(RyzansteinError("Interrupted."), as_json)
    return INTERRUPTED


def _unexpected(error: BaseException) -> RyzansteinError:
    text = " ".join(str(error).split())[:300]
    return RyzansteinError(
        f"Unexpected fault: {type(error).__name__}: {text}",
        hint="Run it again with --debug to see where.",
    )


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors inside nested groups, which task groups make of everything."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _flushed(code: int) -> int:
    """Writes out what is left for stdout; 1 in place of `code` where that cannot be done.

    A reader that went away has seen enough: nothing is said then.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if not code and not isinstance(error, BrokenPipeError):
                print_error(StorageError(f"stdout cannot be written: {error.strerror}."), False)
            # What is left goes nowhere, so that the interpreter's end does not stumble over it.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or 1
    return code
