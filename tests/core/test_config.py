"""Settings: environment over file over defaults, and clear faults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ryzanstein.config import load_settings
from ryzanstein.errors import ConfigError


def settings_from(tmp_path: Path, text: str = "", **environ: str) -> object:
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    return load_settings({"RYZANSTEIN_CONFIG_DIR": str(tmp_path), **environ})


def test_defaults_need_nothing() -> None:
    settings = load_settings({})
    assert settings.data_dir.name == "ryzanstein"
    assert settings.database.startswith("sqlite:///")
    assert settings.tool_roots == (Path.cwd(),)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    text = 'default_model = "from-file"\nthreads = 3\n'
    settings = settings_from(tmp_path, text, RYZANSTEIN_DEFAULT_MODEL="from-environment")
    assert (settings.default_model, settings.threads) == ("from-environment", 3)


def test_roots_are_a_list_in_either_place(tmp_path: Path) -> None:
    listed = os.pathsep.join(["/a", "/b"])
    assert settings_from(tmp_path, RYZANSTEIN_ROOTS=listed).roots == (Path("/a"), Path("/b"))
    assert settings_from(tmp_path, 'roots = ["/a"]').roots == (Path("/a"),)


def test_home_is_expanded(tmp_path: Path) -> None:
    settings = settings_from(tmp_path, RYZANSTEIN_DATA_DIR="~/here")
    assert settings.data_dir == Path.home() / "here"


@pytest.mark.parametrize(
    ("text", "environ", "told"),
    [
        ("not toml", {}, "config.toml"),
        ("thread = 2", {}, "unknown setting thread"),
        ("threads = 0", {}, "at least 1"),
        ("threads = [1]", {}, "threads"),
        ("read_only = 'maybe'", {}, "true or false"),
        ("log_level = 'loud'", {}, "loud"),
        ("default_model = 3", {}, "expected text"),
        ("", {"RYZANSTEIN_THREADS": "many"}, "RYZANSTEIN_THREADS"),
        ("", {"RYZANSTEIN_MODEL_DIR": "/x"}, "RYZANSTEIN_MODEL_DIR"),
    ],
)
def test_a_fault_names_its_place(
    tmp_path: Path, text: str, environ: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        settings_from(tmp_path, text, **environ)


def test_an_unknown_setting_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from(tmp_path, "thread = 2")
    assert "threads" in caught.value.hint
