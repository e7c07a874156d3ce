from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ryzanstein.errors import ConfigError, InvalidRequest
from ryzanstein.tokens import Tokens


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path)


def test_the_owners_token_is_made_once(tokens: Tokens) -> None:
    token = tokens.owner()
    assert token.startswith("rz_") and len(token) > 40
    assert Tokens(tokens.path.parent).owner() == token
    found = tokens.find(token)
    assert found is not None and (found.name, found.scopes) == ("", ("admin",))


def test_several_processes_make_one_owners_token(tmp_path: Path) -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(Tokens(tmp_path).owner())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8 and len(set(made)) == 1


def test_of_an_added_token_only_a_digest_is_kept(tokens: Tokens) -> None:
    token = tokens.add("ann", admin=True)
    assert token not in tokens.path.read_text(encoding="utf-8")
    found = tokens.find(token)
    assert found is not None and (found.name, found.scopes) == ("ann", ("admin",))
    assert tokens.find(token[:-1]) is None


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such permissions")
def test_only_its_user_can_read_the_file(tokens: Tokens) -> None:
    tokens.owner()
    assert tokens.path.stat().st_mode & 0o777 == 0o600
    tokens.path.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        Tokens(tokens.path.parent).owner()


@pytest.mark.parametrize("name", ["", "owner", "Ann", "a/b", "../a", "-a", "a" * 65, "a\n"])
def test_a_name_that_is_none_is_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot name a token"):
        tokens.add(name)


def test_a_name_has_one_token(tokens: Tokens) -> None:
    tokens.add("ann")
    with pytest.raises(InvalidRequest, match="a token of ann already"):
        tokens.add("ann")


def test_a_revoked_token_is_gone_and_the_owners_is_made_anew(tokens: Tokens) -> None:
    owner, ann = tokens.owner(), tokens.add("ann")
    tokens.revoke("owner")
    tokens.revoke("ann")
    assert tokens.find(owner) is None and tokens.find(ann) is None
    assert tokens.owner() != owner


@pytest.mark.parametrize("name", ["", "anna", "owner"])
def test_revoking_what_is_not_there_says_what_is(tokens: Tokens, name: str) -> None:
    tokens.add("ann")
    with pytest.raises(InvalidRequest, match="ann"):
        tokens.revoke(name)


def test_an_expired_token_is_not_valid(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tokens.add("ann", days=1)
    assert tokens.find(token) is not None
    monkeypatch.setattr("ryzanstein.tokens.time.time", lambda: 4e9)
    assert tokens.find(token) is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"tokens": [1]}', '{"tokens": [{"name": "a"}]}', "\xff", '{"tokens": null}'],
)
def test_a_damaged_file_is_told_and_not_overwritten(tokens: Tokens, text: str) -> None:
    tokens.path.write_text(text, encoding="latin-1")
    tokens.path.chmod(0o600)
    with pytest.raises(ConfigError, match="it is damaged"):
        tokens.owner()
    assert tokens.path.read_text(encoding="latin-1") == text
