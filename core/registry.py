"""The registry: which models, backends, MCP servers, routing rules and agents there are.

The default `registry.yaml` comes with the package; a user's own file adds to it or overrides it by
name, field by field:

    default  <-  CONFIG_DIR/registry.yaml  <-  --registry FILE or the `registry_file` setting

    agents:
      - codename: APEX            # change one field of an agent that exists
        model: qwen2.5-coder-0.5b
      - codename: POET            # or add one; its prompt is a file beside this one
        id: "41"
        …

All that is wrong is reported together, each fault as `path:line: what is wrong; what to do`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from ryzanstein.config import Settings, load_settings
from ryzanstein.errors import ConfigError
from ryzanstein.registry_load import Draft, build
from ryzanstein.registry_models import (
    BUILTIN_SERVERS,
    TIERS,
    AgentProfile,
    BackendSpec,
    FileKind,
    HubSource,
    Limits,
    ModelEntry,
    PackageSource,
    Registry,
    Resilience,
    Routing,
    ServerSpec,
    WheelPackage,
    WheelSource,
)
from ryzanstein.registry_yaml import Fault

__all__ = [
    "BUILTIN_SERVERS",
    "TIERS",
    "AgentProfile",
    "BackendSpec",
    "Fault",
    "FileKind",
    "HubSource",
    "Limits",
    "ModelEntry",
    "PackageSource",
    "Registry",
    "RegistryError",
    "Resilience",
    "Routing",
    "ServerSpec",
    "WheelPackage",
    "WheelSource",
    "check_registry",
    "default_registry",
    "load_registry",
    "prompt_directory",
]


class RegistryError(ConfigError):
    """Registry files that cannot be used; `faults` has everything that is wrong in them."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def load_registry(
    path: str | Path | None = None,
    user: bool = True,
    *,
    tool_names: Iterable[str] | None = None,
    settings: Settings | None = None,
) -> Registry:
    """Reads the default registry and the user's files over it.

    Args:
        path: A further file, in place of the `registry_file` setting.
        user: Whether to read the user's own file and the `registry_file` setting at all.
        tool_names: Known tools (and families), where tool names are to be checked.
        settings: In place of those of the environment.

    Raises:
        RegistryError: Something is wrong; it holds every fault.
    """
    draft = _read(path, user, settings)
    registry = build(draft, tool_names)
    if registry is None:
        raise RegistryError(_in_order(draft))
    return registry


def check_registry(
    path: str | Path | None = None,
    tool_names: Iterable[str] | None = None,
    *,
    user: bool = True,
    settings: Settings | None = None,
) -> list[Fault]:
    """Every fault that `load_registry` would raise for these arguments, by file and line."""
    draft = _read(path, user, settings)
    build(draft, tool_names)
    return _in_order(draft)


def default_registry() -> Path:
    """The registry.yaml that comes with the package."""
    return Path(__file__).with_name("registry.yaml")


def prompt_directory() -> Path:
    """The directory of the prompts that come with the package.

    It belongs to `ryzanstein.agents`, which is found here without being imported.
    """
    spec = importlib.util.find_spec("ryzanstein.agents")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("The package ryzanstein.agents is not there.", hint="Install it again.")
    return Path(spec.submodule_search_locations[0]) / "prompts"


def _read(path: str | Path | None, user: bool, settings: Settings | None) -> Draft:
    draft = Draft(prompts=prompt_directory())
    draft.add(default_registry())
    extra = Path(path).expanduser().absolute() if path is not None else None
    if user:
        settings = settings or load_settings()
        own = settings.config_dir / "registry.yaml"
        if own.is_file() and own != extra:
            draft.add(own)
        extra = extra or settings.registry_file
    if extra is not None:
        draft.add(extra)
    return draft


def _in_order(draft: Draft) -> list[Fault]:
    return sorted(
        dict.fromkeys(draft.faults), key=lambda fault: (draft.files.index(fault.file), fault.line)
    )
