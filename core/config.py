"""Settings: environment over configuration file over defaults.

RYZANSTEIN_DATA_DIR=/somewhere      the environment, upper case
data_dir = "/somewhere"             config.toml in the configuration directory
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import platformdirs

from ryzanstein.errors import ConfigError
from ryzanstein.nearest import did_you_mean
from ryzanstein.subject import current, own_folder

__all__ = ["PREFIX", "Settings", "load_settings"]

PREFIX = "RYZANSTEIN_"
_APP = "ryzanstein"
_LEVELS = {"debug", "info", "warning", "error"}
# Read elsewhere, before or besides these settings: not faults.
_OTHER_VARIABLES = {"ISA", "DEBUG"}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a user may configure outside the registry.

    Attributes:
        data_dir: Database, models and generated files.
        config_dir: config.toml and the user's registry.yaml.
        cache_dir: What can be made again.
        models_dir: One directory a model; None means data_dir/models.
        database_url: SQLAlchemy URL; None means SQLite in data_dir.
        embedding: Model of the memory's vectors: wordllama, or minilm where it is installed.
        default_model: Catalogue name or path; None means by available memory.
        threads: Threads of the engine; None means all CPUs of this process.
        pin: Give each of these threads a CPU of its own; on Linux only, ignored elsewhere.
        head: Form of a model's output matrix: auto, int8, scan, int4 or float.
        registry_file: A further registry file, read after the user's own.
        roots: Directories that file tools may touch; empty means the current one.
        read_only: Refuse every tool that changes something.
        search_url: Search engine of search_web: a SearXNG-compatible address with {query} in it.
        search_header: A header that it wants, such as a key: "Name: value".
        grants: Tools and families that may overwrite and delete, also when nobody can be asked;
            separated by commas.
        keep_packed: Keep packed weights beside a model's file, so that it loads at once again.
        tune: Measure how a ternary model's matrices are best multiplied when it is first loaded.
        context_tokens: Largest context, in tokens, the engine makes room for; models whose state
            does not grow with the context have no such limit.
        states_mb: At most so many megabytes of models' states are kept on disk.
        responses_mb: At most so many megabytes of answers are kept for the cache server.
        public_url: The URL by which others reach the HTTP server; its name is then one of ours, and
            OAuth tokens must be made for it.
        allowed_hosts: Further names that the HTTP server is called by, separated by commas.
        rate_limit: Requests that each subject but the owner may make, such as 600/minute.
        max_requests: Requests of one subject under way at once.
        oauth_issuers: OAuth servers whose tokens are accepted over HTTP, separated by commas.
        oauth_jwks_url: Where the issuer's keys are; None means that its metadata say so.
        oauth_introspection_url: Ask there about each token, as oauth_client_id with its secret.
        oauth_client_id: Of this server at the issuer.
        oauth_client_secret: Likewise.
        oauth_scopes: What an OAuth token must allow at least, separated by commas.
        log_level: debug, info, warning or error.
    """

    data_dir: Path
    config_dir: Path
    cache_dir: Path
    models_dir: Path | None = None
    database_url: str | None = None
    embedding: str = "wordllama"
    default_model: str | None = None
    threads: int | None = None
    pin: bool = False
    head: str = "auto"
    registry_file: Path | None = None
    roots: tuple[Path, ...] = ()
    read_only: bool = False
    search_url: str | None = None
    search_header: str | None = None
    grants: tuple[str, ...] = ()
    keep_packed: bool = True
    tune: bool = True
    context_tokens: int = 8192
    states_mb: int = 2048
    responses_mb: int = 256
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    rate_limit: str = "600/minute"
    max_requests: int = 256
    oauth_issuers: tuple[str, ...] = ()
    oauth_jwks_url: str | None = None
    oauth_introspection_url: str | None = None
    oauth_client_id: str | None = None
    oauth_client_secret: str | None = field(default=None, repr=False)
    oauth_scopes: tuple[str, ...] = ()
    log_level: str = "warning"

    @property
    def models_path(self) -> Path:
        """Directory that holds one directory a model."""
        return self.models_dir or self.data_dir / "models"

    @property
    def own_dir(self) -> Path:
        """Directory of what the current subject keeps; data_dir for the owner."""
        return own_folder(self.data_dir)

    @property
    def states_path(self) -> Path:
        """Directory of the states that are kept for the current subject."""
        return self.own_dir / "states"

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the current subject's store: a file, or a schema, of its own."""
        key, url = current().key, self.database_url or ""
        if key and url.startswith("postgres"):
            return f"{url}{'&' if '?' in url else '?'}schema=subject_{key}"
        file = f"sqlite:///{self.own_dir / 'ryzanstein.db'}"
        return file if key else url or file

    @property
    def tool_roots(self) -> tuple[Path, ...]:
        """Directories that file tools may touch for the current subject."""
        if current().key:
            return (self.own_dir / "files",)
        return self.roots or (Path.cwd(),)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings.

    Raises:
        ConfigError: A file that is not TOML, an unknown key, or a value that does not fit.
    """
    environ = os.environ if environ is None else environ
    values = {
        name[len(PREFIX) :].lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and name[len(PREFIX) :] not in _OTHER_VARIABLES
    }
    defaults: dict[str, Any] = {
        "data_dir": platformdirs.user_data_path(_APP),
        "config_dir": platformdirs.user_config_path(_APP),
        "cache_dir": platformdirs.user_cache_path(_APP),
    }
    config_dir = Path(values.get("config_dir", defaults["config_dir"])).expanduser()
    file = config_dir / "config.toml"
    merged = {
        **defaults,
        **_converted(_read_file(file), str(file)),
        **_converted(values, "the environment", prefix=PREFIX),
    }
    return Settings(**merged)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", hint="Correct or remove the file.") from error


def _converted(values: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    hints = get_type_hints(Settings)
    known = {field.name for field in fields(Settings)}
    result = {}
    for key, value in values.items():
        name = f"{prefix}{key.upper()}" if prefix else key
        if key not in known:
            hint = did_you_mean(key, known) or f"Known keys: {', '.join(sorted(known))}."
            raise ConfigError(f"{where}: unknown setting {name}.", hint=hint)
        try:
            result[key] = _convert(value, hints[key])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}: {name}: {error}", hint="Correct the value.") from error
    level = result.get("log_level")
    if level is not None and level not in _LEVELS:
        raise ConfigError(f"{where}: log_level {level!r} is none of {', '.join(sorted(_LEVELS))}.")
    return result


def _convert(value: Any, kind: Any) -> Any:
    options = get_args(kind)
    if kind is bool:
        return _boolean(value)
    if kind is int or int in options:
        return _positive(value)
    if kind is Path or (Path in options and Ellipsis not in options):
        return Path(value).expanduser().absolute()
    if options == (str, Ellipsis):
        names = value.split(",") if isinstance(value, str) else value
        return tuple(str(name).strip() for name in names if str(name).strip())
    if Ellipsis in options:
        parts = value.split(os.pathsep) if isinstance(value, str) else value
        return tuple(Path(part).expanduser().absolute() for part in parts if part)
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError(f"expected true or false, got {value!r}")


def _positive(value: Any) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(f"expected a whole number of at least 1, got {value!r}")
    return number
