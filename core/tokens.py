"""Bearer tokens of the HTTP servers: one of the owner, and named ones for others.

tokens.json in the data directory, readable by its user only:

    {"tokens": [{"name": "", "token": "rz_…", "sha256": "…", "scopes": ["admin"], …},   the owner's
                {"name": "ann", "sha256": "…", "scopes": [], "expires": 1795305600, …}]}

The owner's token is kept as it is, since `ryzanstein token show` prints it again; of the others
only a digest is kept. They are random, so a plain SHA-256 is enough. A running server sees a
change of the file with its next request.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ryzanstein.durable import replacing
from ryzanstein.errors import ConfigError, ConfigSaveError, InvalidRequest
from ryzanstein.nearest import did_you_mean

__all__ = ["ADMIN", "OWNER", "Token", "Tokens"]

ADMIN = "admin"
# What the owner's token is called where a name is typed; in the file and on the wire it is "".
OWNER = "owner"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DAY = 24 * 3600
_LOCK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of one token.

    Attributes:
        name: Whose it is; "" is the owner.
        sha256: Of the token, in hexadecimal.
        scopes: What it allows beside one's own data; "admin" is everything.
        created: In seconds since 1970.
        expires: Likewise; None means never.
        token: Itself; the owner's only.
    """

    name: str
    sha256: str
    scopes: tuple[str, ...] = ()
    created: int = 0
    expires: int | None = None
    token: str | None = None

    @property
    def is_valid(self) -> bool:
        """Whether it has not expired."""
        return self.expires is None or time.time() < self.expires


class Tokens:
    """The tokens of a data directory; safe to use from several threads and processes."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "tokens.json"
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._known: tuple[Token, ...] = ()

    def owner(self) -> str:
        """Returns the owner's token, made when it is first asked for.

        Raises:
            ConfigError: The file cannot be read or written.
        """
        with self._changing() as tokens:
            kept = next((one.token for one in tokens if one.name == "" and one.token), None)
            if kept is None:
                kept, made = _made("", (ADMIN,))
                tokens[:] = [made, *(one for one in tokens if one.name)]
        return kept

    def add(self, name: str, *, admin: bool = False, days: int | None = None) -> str:
        """Makes a token for somebody else and returns it; it is not shown again.

        Args:
            name: Whose it is; data are kept by it.
            admin: Allow what concerns everybody: models, caches, metrics.
            days: It expires then.

        Raises:
            InvalidRequest: The name is taken, or is none.
            ConfigError: The file cannot be read or written.
        """
        if not _NAME.fullmatch(name) or name == OWNER:
            raise InvalidRequest(
                f"{name[:80]!r} cannot name a token.",
                hint="Use up to 64 of a-z, 0-9, '.', '_' and '-', and not 'owner'.",
            )
        expires = None if days is None else int(time.time()) + days * _DAY
        token, made = _made(name, (ADMIN,) if admin else (), expires)
        with self._changing() as tokens:
            if any(one.name == name for one in tokens):
                raise InvalidRequest(
                    f"There is a token of {name} already.",
                    hint=f"Revoke it first: ryzanstein token revoke {name}",
                )
            tokens.append(made)
        return token

    def revoke(self, name: str) -> None:
        """Makes a token worthless at once; what it has stored stays.

        Raises:
            InvalidRequest: There is no such token.
            ConfigError: The file cannot be read or written.
        """
        wanted = "" if name == OWNER else name
        with self._changing() as tokens:
            names = [one.name or OWNER for one in tokens]
            if (wanted or OWNER) not in names or not name:
                known = ", ".join(names) or "none"
                raise InvalidRequest(
                    f"There is no token of {name[:80]!r}.",
                    hint=did_you_mean(name, names) or f"There are: {known}.",
                )
            tokens[:] = [one for one in tokens if one.name != wanted]

    def all(self) -> tuple[Token, ...]:
        """Returns what is known of every token, the owner's first.

        Raises:
            ConfigError: The file cannot be read.
        """
        with self._lock:
            seen = self._stamp()
            if seen is None:
                self._seen, self._known = None, ()
            elif seen != self._seen:
                self._known = _read(self.path)
                self._seen = seen
            return self._known

    def find(self, token: str) -> Token | None:
        """Returns what is known of a token, None where it is none of ours or has expired.

        Raises:
            ConfigError: The file cannot be read.
        """
        digest = _digest(token)
        found = None
        for one in self.all():  # to the end, so that time says nothing
            if hmac.compare_digest(one.sha256, digest):
                found = one
        return found if found is not None and found.is_valid else None

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.path, error.strerror or "it cannot be read") from error
        return state.st_mtime_ns, state.st_size, state.st_ino, state.st_mode

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """Gives the tokens to change; writes them where they did."""
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=_LOCK_SECONDS):
                before = self.all()
                tokens = list(before)
                yield tokens
                if tuple(tokens) != before:
                    _write(self.path, tokens)
        except Timeout as error:
            raise ConfigSaveError(
                f"{self.path} is being changed by another process.", hint="Try again."
            ) from error
        except OSError as error:
            raise ConfigSaveError(f"{self.path} cannot be written: {error.strerror}.") from error


def _made(name: str, scopes: tuple[str, ...], expires: int | None = None) -> tuple[str, Token]:
    token = f"rz_{secrets.token_urlsafe(32)}"
    kept = token if name == "" else None
    return token, Token(name, _digest(token), scopes, int(time.time()), expires, kept)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> tuple[Token, ...]:
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigError(
                f"{path} can be read by others.", hint=f"Run `chmod 600 {path}`, or remove it."
            )
        given = json.loads(path.read_text(encoding="utf-8"))
        return tuple(_parsed(one) for one in given["tokens"])
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be read") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, "it is damaged") from error


def _parsed(given: dict[str, Any]) -> Token:
    token = Token(**{**given, "scopes": tuple(given["scopes"])})
    texts = (token.name, token.sha256, *token.scopes)
    times = (token.created, token.expires or 0)
    if not all(isinstance(one, str) for one in texts) or not all(isinstance(t, int) for t in times):
        raise TypeError("a token's fields")
    if token.name and not _NAME.fullmatch(token.name):
        raise ValueError("a token's name")
    return token


def _unreadable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path}: {why}.", hint="Correct it, or remove it for new tokens.")


def _write(path: Path, tokens: list[Token]) -> None:
    document = {"tokens": [asdict(one) for one in tokens]}
    with replacing(path) as file:  # a temporary file of its user only, in the old one's place
        file.write(json.dumps(document, indent=2).encode("utf-8"))
