from __future__ import annotations

import pytest

from ryzanstein.errors import ValidationError
from ryzanstein.inference.synthesize.vocabulary import make_vocabulary


@pytest.mark.parametrize(("kind", "size"), [("llama-3", 4000), ("llama-2", 4000)])
def test_a_vocabulary_has_exactly_its_size_and_no_token_twice(kind: str, size: int) -> None:
    made = make_vocabulary(kind, size)
    assert len(made.tokens) == len(set(made.tokens)) == len(made.kinds) == size
    known = set(made.tokens)
    assert all({left, right, left + right} <= known for left, right in made.merges)
    assert made.kinds[made.bos] == 3 and all(made.kinds[end] == 3 for end in made.ends)
    assert made.tokens == make_vocabulary(kind, size).tokens


def test_the_published_sizes_are_reached_with_the_published_special_tokens() -> None:
    made = make_vocabulary("llama-3", 128_256)
    assert len(set(made.tokens)) == 128_256
    assert made.tokens[128_000] == "<|begin_of_text|>" and made.tokens[128_009] == "<|eot_id|>"
    assert made.tokens[-1] == "<|reserved_special_token_250|>"
    older = make_vocabulary("llama-2", 32_002)
    assert older.tokens[:3] == ["<unk>", "<s>", "</s>"] and older.tokens[-2:] == ["<pad>", "<line>"]
    assert older.tokens[3:259] == [f"<0x{byte:02X}>" for byte in range(256)]


def test_too_small_a_vocabulary_is_refused() -> None:
    for kind in ("llama-3", "llama-2"):
        with pytest.raises(ValidationError, match="too small"):
            make_vocabulary(kind, 512)
