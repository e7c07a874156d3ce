from __future__ import annotations

import pytest

from ryzanstein.errors import ValidationError
from ryzanstein.inference.synthesize.vocabulary import KINDS, make_vocabulary


@pytest.mark.parametrize(("kind", "size"), [(kind, 4000) for kind in KINDS])
def test_a_vocabulary_has_exactly_its_size_and_no_token_twice(kind: str, size: int) -> None:
    made = make_vocabulary(kind, size)
    assert len(made.tokens) == len(set(made.tokens)) == len(made.kinds) == size
    known = set(made.tokens)
    assert all({left, right, left + right} <= known for left, right in made.merges)
    assert made.kinds[made.bos] == 3 and made.kinds[made.ends[0]] == 3
    assert made.tokens == make_vocabulary(kind, size).tokens


def test_the_published_sizes_are_reached_with_the_published_special_tokens() -> None:
    made = make_vocabulary("llama-3", 128_256)
    assert len(set(made.tokens)) == 128_256
    assert made.tokens[128_000] == "<|begin_of_text|>" and made.tokens[128_009] == "<|eot_id|>"
    assert made.tokens[-1] == "<|reserved_special_token_250|>"
    older = make_vocabulary("llama-2", 32_002)
    assert older.tokens[:3] == ["<unk>", "<s>", "</s>"] and older.tokens[-2:] == ["<pad>", "<line>"]
    assert older.tokens[3:259] == [f"<0x{byte:02X}>" for byte in range(256)]


def test_the_world_vocabulary_has_its_end_of_text_bytes_and_blanks_where_they_are() -> None:
    made = make_vocabulary("rwkv", 65_536)
    assert made.tokens[0] == "<s>" and made.kinds[0] == 3 and made.ends == (0, 261)
    assert made.tokens[1] == r"\x00" and made.tokens[98] == "a" and made.tokens[256] == r"\xff"
    assert made.tokens[261] == r"\n\n" and made.tokens[-1] == "[PAD65535]"
    assert made.kinds.count(5) == 6 and not made.merges
    older = make_vocabulary("gpt-neox", 50_280)
    assert older.tokens[:2] == ["<|endoftext|>", "<|padding|>"] and not older.begins


def test_too_small_a_vocabulary_is_refused() -> None:
    for kind in KINDS:
        with pytest.raises(ValidationError, match="too small"):
            make_vocabulary(kind, 257)
