"""A loaded model: a pure step, forward(tokens, state) -> logits.

model = build_model(open_checkpoint(path), threads=2)
state = model.new_state()
logits = model.forward(token_ids, state)       # float32 [1, vocabulary]; the state has moved on
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, get_args

import numpy as np
import numpy.typing as npt

from ryzanstein import __version__
from ryzanstein.errors import InferenceError, MemoryLimitError, ModelLoadError, ValidationError
from ryzanstein.inference.formats.checkpoint import Checkpoint
from ryzanstein.inference.kernels._linear import PANEL, TERNARY
from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.kernels.choices import Plan
from ryzanstein.inference.kernels.pack import HEADS, Head, Precision
from ryzanstein.inference.models import builder
from ryzanstein.inference.models.footprint import packed_bytes
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.weights import Weights
from ryzanstein.inference.packed_cache import Packing, build_once
from ryzanstein.inference.packed_file import Shelf
from ryzanstein.inference.state import State, StateShape
from ryzanstein.inference.tuning import plan_for
from ryzanstein.machine import available_cpus, available_memory

if TYPE_CHECKING:
    from ryzanstein.inference.tokenizer import Tokenizer

__all__ = ["PRECISIONS", "Cancel", "ForwardCancelled", "Model", "Next", "State", "build_model"]

PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)

Logits = npt.NDArray[np.float32]
Tokens = Sequence[int] | npt.NDArray[np.integer[Any]]
Ids = npt.NDArray[np.int32]
Pages = npt.NDArray[np.uintp]


class Cancel(Protocol):
    """Anything with threading.Event's is_set()."""

    def is_set(self) -> bool:
        """Says whether the caller has given up."""
        ...


class ForwardCancelled(InferenceError):
    """A forward pass was given up; the state holds the chunks of tokens that were finished."""


class Next(NamedTuple):
    """The likeliest next token.

    Attributes:
        token: its id, the lowest of equals.
        logit: the one `Model.forward` gives it.
        computed: rows of the output matrix that were multiplied exactly.
    """

    token: int
    logit: float
    computed: int


class Model:
    """A program with its weights, and the states it fills.

    Attributes:
        config: the checkpoint's configuration, under Hugging Face's keys.
        context_tokens: the most positions a state may have.
        nbytes: bytes of all weights, packed.
        weight_bytes_per_token: bytes of weights that one greedily decoded token reads.
        layouts: weights and bytes of them in each packed form.
        fingerprint: tells this model from others, in whatever weight form.
    """

    def __init__(
        self, config: dict[str, Any], program: Program, weights: Weights, context_tokens: int
    ) -> None:
        self.config = config
        self.context_tokens = context_tokens
        self.nbytes = weights.nbytes
        self.weight_bytes_per_token = weights.read_bytes
        self.layouts = weights.layouts
        self.fingerprint = weights.fingerprint
        self._program = program
        self._tokenizer: Tokenizer | None = None
        self._read_tokenizer: Callable[[], Tokenizer] | None = None
        self._reading = Lock()
        self._state_shape = StateShape(
            fingerprint=weights.fingerprint,
            page_bytes=program.page_bytes,
            fixed_bytes=program.state_bytes,
            form=weights.form,
            engine=_engine(program),
            name=weights.name,
        )

    @property
    def threads(self) -> int:
        """Threads that a forward pass uses."""
        return self._program.threads

    @property
    def isa(self) -> str:
        """Instruction set of the kernels."""
        return self._program.isa

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self.config["vocab_size"])

    @property
    def state_shape(self) -> StateShape:
        """What all states of this model have in common."""
        return self._state_shape

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer, where `load_model` found one; read at its first use.

        Raises:
            ModelLoadError: the model came without a tokenizer, or with one that is damaged.
        """
        with self._reading:
            if self._tokenizer is None:
                if self._read_tokenizer is None:
                    raise ModelLoadError("The model came without a tokenizer.")
                self._tokenizer, self._read_tokenizer = self._read_tokenizer(), None
            return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def read_tokenizer_with(self, read: Callable[[], Tokenizer]) -> None:
        """Says how to read the tokenizer when it is first asked for."""
        self._read_tokenizer = read

    def new_state(self, capacity: int | None = None) -> State:
        """Returns an empty state for at most `capacity` positions, by default the whole context.

        Raises:
            ValidationError: the capacity is below 1 or above the model's context.
        """
        wanted = self.context_tokens if capacity is None else capacity
        if not 1 <= wanted <= self.context_tokens:
            raise ValidationError(
                f"A state of {wanted} tokens is outside 1 to {self.context_tokens}."
            )
        return State(self._state_shape, wanted)

    def load_state(self, path: str | Path) -> State:
        """Reads a state that `State.save` wrote.

        Raises:
            InferenceError: it is damaged, or of another model or weight form.
        """
        return State.load(path, self._state_shape, self.context_tokens)

    def forward(
        self,
        token_ids: Tokens,
        state: State,
        all_logits: bool = False,
        cancel: Cancel | None = None,
    ) -> Logits:
        """Runs tokens after those the state already holds, and moves the state on.

        Args:
            token_ids: at least one id below the vocabulary's size.
            state: of this model; changed only by whole chunks of tokens that were finished.
            all_logits: return logits after every token, not the last only.
            cancel: looked at between chunks, and between layers of long ones.

        Returns:
            float32 [1 or len(token_ids), vocabulary].

        Raises:
            ValidationError: no tokens, an id out of range, a full context, a foreign state.
            ForwardCancelled: `cancel` was set.
        """
        tokens = self._checked(token_ids, state)
        count = len(tokens)
        logits = np.empty((count if all_logits else 1, self.vocabulary), np.float32)

        def run(part: Ids, first: int, pages: Pages) -> bool:
            last = first + len(part)
            out = logits[first:last] if all_logits else logits if last == count else None
            return self._program.run(
                part,
                state.length,
                pages,
                out,
                state=state.fixed,
                all_logits=all_logits,
                cancel=cancel,
            )

        self._advance(tokens, state, run, cancel)
        return logits

    def feed(self, token_ids: Tokens, state: State, cancel: Cancel | None = None) -> None:
        """Runs tokens like `forward`, and computes no logits.

        Raises:
            ValidationError, ForwardCancelled: as of `forward`.
        """

        def run(part: Ids, _: int, pages: Pages) -> bool:
            return self._program.run(part, state.length, pages, state=state.fixed, cancel=cancel)

        self._advance(self._checked(token_ids, state), state, run, cancel)

    def next_token(
        self,
        token_ids: Tokens,
        state: State,
        *,
        below: int | None = None,
        cancel: Cancel | None = None,
    ) -> Next:
        """Runs tokens like `forward`, and returns the likeliest one after them.

        It is the argmax of forward's logits. With a scanned head only half of the output matrix is
        read, and the rows that can win; that one is missed has a probability below 1e-8 a token,
        if low nibbles of weights are independent of each other (kernels/isa/linear_scan.h).

        Args:
            token_ids: at least one id below the vocabulary's size.
            state: of this model.
            below: only ids below this one are looked at, by default all.
            cancel: looked at between chunks, and between layers of long ones.

        Raises:
            ValidationError, ForwardCancelled: as of `forward`.
            InferenceError: the logits are not finite.
        """
        limit = self.vocabulary if below is None else below
        if not 0 < limit <= self.vocabulary:
            raise ValidationError(f"A limit of {limit} is outside 1 to {self.vocabulary}.")
        if self._program.scans:
            best = self._scanned(self._checked(token_ids, state), state, limit, cancel)
        else:
            logits = self.forward(token_ids, state, cancel=cancel)[0, :limit]
            token = int(logits.argmax())
            best = Next(token, float(logits[token]), self.vocabulary)
        if not math.isfinite(best.logit):
            raise InferenceError("The model's logits are not finite numbers.")
        return best

    def _scanned(self, tokens: Ids, state: State, limit: int, cancel: Cancel | None) -> Next:
        found = Next(0, math.nan, 0)

        def run(part: Ids, first: int, pages: Pages) -> bool:
            nonlocal found
            if first + len(part) < len(tokens):
                return self._program.run(
                    part, state.length, pages, state=state.fixed, cancel=cancel
                )
            best = self._program.best(
                part, state.length, pages, below=limit, state=state.fixed, cancel=cancel
            )
            if best is not None:
                token, logit, panels = best
                found = Next(token, logit, min(panels * PANEL, self.vocabulary))
            return best is not None

        self._advance(tokens, state, run, cancel)
        return found

    def _advance(
        self,
        tokens: Ids,
        state: State,
        run: Callable[[Ids, int, Pages], bool],
        cancel: Cancel | None,
    ) -> None:
        """Runs tokens chunk by chunk: run(chunk, place of its first token, pages of the cache)."""
        count = len(tokens)
        pages = state.reserve(count)
        chunks = -(-count // self._program.chunk)
        size = -(-count // chunks)
        for first in range(0, count, size):
            part = tokens[first : first + size]
            if cancel is not None and cancel.is_set():
                raise ForwardCancelled("The forward pass was cancelled.")
            # Only what is long is given up half-way, and would leave a fixed block half moved on.
            with state.guarded() if len(part) > 1 else nullcontext():
                if not run(part, first, pages):
                    raise ForwardCancelled("The forward pass was cancelled.")
            state.length += len(part)

    def _checked(self, token_ids: Tokens, state: State) -> Ids:
        if state.shape != self._state_shape:
            raise ValidationError("The state belongs to another model.")
        wide = np.asarray(token_ids)
        if wide.ndim != 1 or wide.size == 0 or not np.issubdtype(wide.dtype, np.integer):
            raise ValidationError("Token ids must be a list of at least one whole number.")
        if wide.min() < 0 or wide.max() >= self.vocabulary:
            raise ValidationError(f"Token ids must lie in 0 to {self.vocabulary - 1}.")
        return np.ascontiguousarray(wide, np.int32)

    def time_operators(self, on: bool) -> None:
        """Switches the clock around every operator on or off, and sets it to zero."""
        self._program.time_operators(on)

    def timings(self) -> list[tuple[str, int, float]]:
        """Returns (name, index, seconds on the first thread) of each operator since then."""
        return self._program.timings()

    def close(self) -> None:
        """Ends the model's threads; a later forward raises InferenceError."""
        self._program.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def build_model(
    checkpoint: Checkpoint,
    *,
    threads: int | None = None,
    precision: str = "auto",
    context_tokens: int | None = None,
    isa: str | None = None,
    ternary: str | None = None,
    tune: bool = False,
    head: str = "auto",
    keep_packed: bool = False,
    pin: bool = False,
) -> Model:
    """Packs a checkpoint's weights and makes a model of them.

    Args:
        checkpoint: an open one; it may be closed afterwards.
        threads: by default as many as this process may use CPUs.
        precision: auto (the nearest packed form of each tensor), int8, int4, or float (dense,
            unquantised, with a float32 cache).
        context_tokens: the longest sequence, by default the model's own.
        isa: instruction set to use instead of the best.
        ternary: form of a BitNet's weights, by default two bits.
        tune: choose that form, and threads where they are not given, by what is best on this CPU,
            which takes some seconds the first time (`tuning`).
        head: form of the output matrix, which is the embedding too in many models: auto (that of
            `precision`, but scan instead of int8), int8, scan (the same numbers, but
            greedy steps read half of it), int4 or float. One that is ternary stays so.
        keep_packed: take the packed weights of a large ternary model from the file beside its
            checkpoint, which is made the first time (`packed_cache`).
        pin: give each thread a CPU of its own, where the system can and has as many.

    Raises:
        ModelLoadError: the architecture, an option or a tensor is not supported.
        MemoryLimitError: the weights do not fit into memory.
        ValidationError: an argument is out of range.
    """
    if precision not in PRECISIONS:
        raise ValidationError(f"The precision {precision!r} is not one of {', '.join(PRECISIONS)}.")
    wanted = available_cpus() if threads is None else threads
    if not 1 <= wanted <= 256:
        raise ValidationError(f"{wanted} threads are outside 1 to 256.")
    if head not in HEADS:
        raise ValidationError(f"The head {head!r} is not one of {', '.join(HEADS)}.")
    if ternary is not None and ternary not in TERNARY:
        raise ValidationError(f"The form {ternary!r} is not one of {', '.join(TERNARY)}.")
    config = dict(checkpoint.config)
    longest = int(config.get("max_position_embeddings", 0) or 0)
    context = min(context_tokens or longest, longest)
    if context < 1:
        raise ValidationError(f"A context of {context} tokens is too small.")
    make = builder(str(config.get("model_type", "")))
    _check_memory(checkpoint, precision, head)
    plan = Plan(ternary or TERNARY[0])
    if tune and isa is None:
        plan = plan_for(checkpoint, threads, ternary)
        wanted = plan.threads or wanted
    options = Options(threads=wanted, half_cache=precision != "float", isa=isa, pin=pin)

    def build(shelf: Shelf | None) -> Model:
        weights = Weights(checkpoint, precision, shelf, plan=plan, head=head)
        return Model(config, make(config, weights, options), weights, context)

    if not keep_packed:
        return build(None)
    return build_once(build, checkpoint, Packing(precision, plan.name, head), wanted)


def _engine(program: Program) -> str:
    """Tells apart what the bytes of states mean: the order of operators, and who runs them."""
    names = [name for name, _, _ in program.timings()]
    digest = hashlib.blake2b(f"{sys.byteorder} {names}".encode(), digest_size=8).hexdigest()
    return f"{__version__}-{digest}"


def _check_memory(checkpoint: Checkpoint, precision: Precision, head: Head) -> None:
    """Refuses what would not fit; a mapped file has to fit as well, or every token reads it."""
    needed, free = packed_bytes(checkpoint, precision, head), available_memory()
    if needed > free:
        raise MemoryLimitError(
            f"The weights take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free.",
            hint="Choose a smaller model, or precision int4.",
        )
