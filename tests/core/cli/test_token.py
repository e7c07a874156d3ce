"""`ryzanstein token` and the options that say how servers listen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_the_owners_token_is_shown_again_and_again(run: Run, isolated_home: Path) -> None:
    shown = run("token", "show")
    assert shown.code == 0 and shown.out.startswith("rz_")
    found = run("token", "show", "--json").json
    assert found["token"] == shown.out.strip()
    assert Path(found["file"]) == isolated_home / "data" / "tokens.json"


def test_an_added_token_is_shown_once(run: Run) -> None:
    made = run("token", "add", "ann", "--days", "7", "--admin", "--json").json
    assert made["name"] == "ann" and made["token"].startswith("rz_")
    assert "not shown again" in run("token", "add", "bob").err
    found = {one["name"]: one for one in run("token", "list", "--json").json}
    assert found["ann"]["scopes"] == ["admin"] and found["ann"]["expires"]
    assert found["bob"]["scopes"] == [] and found["bob"]["expires"] is None
    assert made["token"] not in run("token", "list").out
    assert "never" in run("token", "list").out


def test_a_revoked_token_is_gone(run: Run) -> None:
    run("token", "add", "ann")
    assert "worthless" in run("token", "revoke", "ann").out
    assert run("token", "list", "--json").json == []
    done = run("token", "revoke", "ann", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("token", "add", "owner"), 1, "cannot name a token"),
        (("token", "add", "../x"), 1, "cannot name a token"),
        (("token", "add", "x", "--days", "0"), 2, "--days"),
        (("serve", "--host", "0.0.0.0"), 1, "--tls-cert and --tls-key, or --allow-remote"),
        (("serve", "--host", "::", "--no-auth", "--allow-remote"), 1, "never without tokens"),
        (("serve", "--tls-key", "pyproject.toml"), 2, "belong together"),
        (("serve", "--tls-cert", "missing.pem"), 2, "does not exist"),
        (("serve", "--grace", "-1"), 2, "--grace"),
        (("serve", "--port", "70000"), 2, "--port"),
    ],
)
def test_what_cannot_be_is_told(run: Run, arguments: tuple[str, ...], code: int, told: str) -> None:
    done = run(*arguments)
    assert done.code == code
    assert told in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("RATE_LIMIT", "often", "is no rate"),
        ("MAX_REQUESTS", "0", "at least 1"),
        ("OAUTH_ISSUERS", "https://id.example", "needs the URL"),
        ("OAUTH_ISSUERS", "id.example", "needs the URL"),
    ],
)
def test_a_setting_that_does_not_fit_is_told_before_anything_listens(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"RYZANSTEIN_{variable}", value)
    done = run("serve", "--port", "0", "--json")
    assert done.code == 1 and done.json["error"]["code"] == "INVALID_CONFIG"
    assert told in done.err


def test_a_damaged_file_of_tokens_is_told(run: Run, isolated_home: Path) -> None:
    (isolated_home / "data").mkdir(parents=True)
    file = isolated_home / "data" / "tokens.json"
    file.write_text("{")
    file.chmod(0o600)
    for arguments in (("token", "list"), ("token", "show"), ("serve", "--port", "0")):
        done = run(*arguments)
        assert done.code == 1 and "damaged" in done.err
