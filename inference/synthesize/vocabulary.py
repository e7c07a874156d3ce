"""A vocabulary of a model's true size, made up of syllables, that really tokenises.

    kind      cut and merged as        tokens
    llama-3   byte-level BPE           256 bytes, words, 256 specials
    gpt-neox  byte-level BPE           <|endoftext|> <|padding|>, 256 bytes, words
    llama-2   SentencePiece BPE        <unk> <s> </s>, 256 bytes, words, characters, specials
    rwkv      longest match in a trie  end of text, 256 bytes, words, padding

Words are joined from syllables, the frequent ones first (the product of their ranks, as Zipf's law
has it), so any text can be encoded, and generated text can be pronounced. Every way to cut a token
into two tokens is a merge of it, which is about as many merges as the published files have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count, product
from typing import Final, Literal

from ryzanstein.errors import ValidationError

__all__ = ["KINDS", "NORMAL", "Vocabulary", "make_vocabulary"]

NORMAL, UNKNOWN, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6  # GGUF's types of tokens

_ONSETS: Final = "t s r n l d m c p b f h g v w st tr pr ch sh th br gr cl pl fr sp".split()
_NUCLEI: Final = "e a i o u ea ou io ai ee".split()
_CODAS: Final = "n r s t l d m ng nd nt st ck ll y".split()
_NUMBERS: Final = 1000
_SPACES: Final = 16

_WORLD: Final = 65_530  # tokens of the World vocabulary; models pad it
_BLANKS: Final = ("\t\t", "\t\n", "\t ", "\n\t", "\n\n", "\n ")  # its tokens 257 to 262

_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] "
    "+ END }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer's tables.

    Attributes:
        model: GGUF's name of how it works: gpt2 (tokens are spelt in GPT-2's byte alphabet), llama
        (SentencePiece pieces) or rwkv (bytes, with escapes for what is not printable).
        cut: How text is cut before merging, in GGUF's names.
        begins: A prompt begins with `bos`.
        tokens: By id.
        kinds: GGUF's type of each.
        merges: In order of rank.
        bos: Id of the token a prompt begins with, if it begins with one.
        ends: Ids that end a generation, the end of text first.
        chat_template: Jinja2 source.
    """

    model: Literal["gpt2", "llama", "rwkv"]
    cut: str
    begins: bool
    tokens: list[str]
    kinds: list[int]
    merges: list[tuple[str, str]]
    bos: int
    ends: tuple[int, ...]
    chat_template: str

    @property
    def byte_level(self) -> bool:
        """Merges bytes."""
        return self.model == "gpt2"

    @property
    def trie(self) -> bool:
        """Merges nothing: takes the longest token there is."""
        return self.model == "rwkv"

    @property
    def specials(self) -> list[str]:
        """The control tokens, in order of ids."""
        pairs = zip(self.tokens, self.kinds, strict=True)
        return [token for token, kind in pairs if kind == CONTROL]


def make_vocabulary(kind: str, size: int) -> Vocabulary:
    """Makes the vocabulary of a kind with exactly `size` tokens.

    Raises:
        ValidationError: it cannot be so small.
    """
    return _MAKERS[kind](size)


def _llama3(size: int) -> Vocabulary:
    specials = _llama3_specials()
    alphabet = _byte_alphabet()
    words = _take(_words("Ġ"), size - len(alphabet) - len(specials), set(alphabet))
    first = size - len(specials)
    return Vocabulary(
        model="gpt2",
        cut="llama-bpe",
        begins=True,
        tokens=[*alphabet, *words, *specials],
        kinds=[NORMAL] * first + [CONTROL] * len(specials),
        merges=list(_merges(words, {*alphabet, *words})),
        bos=first,
        ends=(first + 1, first + specials.index("<|eot_id|>")),
        chat_template=_TEMPLATE.replace("END", "'<|eot_id|>'"),
    )


def _llama2(size: int) -> Vocabulary:
    fixed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    characters = ["▁", *map(chr, chain(range(33, 127), range(161, 0x17F), range(0x391, 0x450)))]
    added = ["<pad>", "<line>"][: max(0, size - 32_000)]
    room = size - len(fixed) - len(characters) - len(added)
    words = _take(_words("▁"), room, set(characters))
    return Vocabulary(
        model="llama",
        cut="default",
        begins=True,
        tokens=[*fixed, *words, *characters, *added],
        kinds=[
            *(UNKNOWN, CONTROL, CONTROL),
            *[BYTE] * 256,
            *[NORMAL] * (len(words) + len(characters)),
            *[CONTROL] * len(added),
        ],
        merges=list(_merges(words, {*characters, *words})),
        bos=1,
        ends=(2,),
        chat_template=_TEMPLATE.replace("END", "eos_token"),
    )


def _neox(size: int) -> Vocabulary:
    specials, alphabet = ["<|endoftext|>", "<|padding|>"], _byte_alphabet()
    words = _take(_words("Ġ"), size - len(alphabet) - len(specials), set(alphabet))
    return Vocabulary(
        model="gpt2",
        cut="gpt-2",
        begins=False,
        tokens=[*specials, *alphabet, *words],
        kinds=[CONTROL] * len(specials) + [NORMAL] * (size - len(specials)),
        merges=list(_merges(words, {*alphabet, *words})),
        bos=0,
        ends=(0,),
        chat_template=_TEMPLATE.replace("END", "eos_token"),
    )


def _world(size: int) -> Vocabulary:
    known = [bytes([byte]) for byte in range(256)] + [blank.encode() for blank in _BLANKS]
    room = min(size, _WORLD) - 1 - len(known)
    words = _take(_words(" "), room, {one.decode("latin-1") for one in known})
    texts = [repr(one)[2:-1] for one in (*known, *map(str.encode, words))]
    padding = [f"[PAD{index}]" for index in range(_WORLD, size)]
    return Vocabulary(
        model="rwkv",
        cut="",
        begins=False,
        tokens=["<s>", *texts, *padding],
        kinds=[CONTROL, *[NORMAL] * len(texts), *[UNUSED] * len(padding)],
        merges=[],
        bos=0,
        ends=(0, 1 + known.index(b"\n\n")),
        chat_template=_TEMPLATE.replace("END", "'\\n\\n'"),
    )


def _llama3_specials() -> list[str]:
    named = {0: "begin_of_text", 1: "end_of_text", 6: "start_header_id", 7: "end_header_id"}
    named[9] = "eot_id"
    spare = count()
    reserved = (named.get(place) or f"reserved_special_token_{next(spare)}" for place in range(256))
    return [f"<|{name}|>" for name in reserved]


def _take(candidates: Iterable[str], wanted: int, known: set[str]) -> list[str]:
    """The first `wanted` candidates that are not known and not repeated."""
    if wanted < 1:
        raise ValidationError("The vocabulary is too small for its bytes and special tokens.")
    found: dict[str, None] = {}
    for candidate in candidates:
        if candidate not in known:
            found[candidate] = None
            if len(found) == wanted:
                break
    return list(found)


def _words(space: str) -> Iterator[str]:
    """Words from the shortest and most frequent on, each also with the mark of a space before it.

    What a word is merged from comes before it.
    """
    syllables = _syllables()
    for syllable in syllables:
        for size in range(2, len(syllable) + 1):
            yield from (syllable[at : at + size] for at in range(len(syllable) - size + 1))
        yield from (space + syllable[:size] for size in range(1, len(syllable) + 1))
    yield from (space * size for size in range(2, _SPACES + 1))
    yield from (str(number) for number in range(10, _NUMBERS))
    for words in (2, 3):
        yield from chain.from_iterable((word, space + word) for word in _joined(syllables, words))


def _syllables() -> list[str]:
    """By frequency: the product of the ranks of their parts."""
    parts = [list(enumerate(part, 1)) for part in (["", *_ONSETS], _NUCLEI, ["", *_CODAS])]
    ranked = [
        (one * two * three, onset + nucleus + coda)
        for (one, onset), (two, nucleus), (three, coda) in product(*parts)
    ]
    return list(dict.fromkeys(syllable for _, syllable in sorted(ranked)))


def _joined(syllables: list[str], words: int) -> Iterator[str]:
    """Syllables put together, by the product of their ranks."""
    most = 40_000 if words == 2 else 2_000
    ranked: list[tuple[int, str]] = [(1, "")]
    for _ in range(words):
        ranked = [
            (rank * place, word + syllable)
            for rank, word in ranked
            for place, syllable in enumerate(syllables[: most // rank], 1)
        ]
    return iter(dict.fromkeys(word for _, word in sorted(ranked)))


def _merges(words: Iterable[str], known: set[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        cuts = ((word[:at], word[at:]) for at in range(1, len(word)))
        yield from ((left, right) for left, right in cuts if left in known and right in known)


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, sorted by byte."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = count(256)
    return [chr(byte) if byte in plain else chr(next(spare)) for byte in range(256)]


_MAKERS: Final[Mapping[str, Callable[[int], Vocabulary]]] = {
    "llama-3": _llama3,
    "gpt-neox": _neox,
    "llama-2": _llama2,
    "rwkv": _world,
}
KINDS: Final = tuple(_MAKERS)
