"""What a model remembers of one sequence: pages of keys and values, and one block of fixed size.

    attention         a page holds 64 positions of all layers (`kernels/ops.h` has its layout)
    recurrent layers  one block, as large after a token as after a million; operators own its parts

Either may be absent. Copying a state copies neither: both states share them, and whichever writes
into a shared page or block first copies that. Pages can be cut at any position; a fixed block holds
the whole past at once, so it is continued or begun anew, never cut.

`state_file.py` has the form of a saved one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ValidationError
from ryzanstein.inference.kernels._program import PAGE, aligned
from ryzanstein.inference.state_file import Block, Content, StateShape, read_state, write_state

__all__ = ["State", "StateShape"]


class State:
    """The past of one sequence; made by `Model.new_state`, filled by `Model.forward`.

    Attributes:
        length: tokens it has taken in.
        capacity: tokens that it may ever take in.
    """

    def __init__(self, shape: StateShape, capacity: int) -> None:
        self.length = 0
        self.capacity = capacity
        self._shape = shape
        self._pages: list[Block] = []
        self._shared: list[bool] = []
        self._fixed: Block | None = None  # None: zeros, as before the first token
        self._fixed_shared = False

    @property
    def nbytes(self) -> int:
        """Bytes of the pages in use, shared ones too, and of the fixed block."""
        return len(self._pages) * self._shape.page_bytes + self._shape.fixed_bytes

    @property
    def shape(self) -> StateShape:
        """Says which model it belongs to."""
        return self._shape

    @property
    def recurrent(self) -> bool:
        """Whether it holds something that cannot be cut."""
        return self._shape.fixed_bytes > 0

    @property
    def fixed(self) -> Block | None:
        """The fixed block, for writing: uint8 [fixed_bytes] on a cache line; None without one."""
        if not self._shape.fixed_bytes:
            return None
        if self._fixed is None:
            self._fixed = aligned(self._shape.fixed_bytes)
        elif self._fixed_shared:
            self._fixed = _copied(self._fixed)
        self._fixed_shared = False
        return self._fixed

    def reserve(self, count: int) -> npt.NDArray[np.uintp]:
        """Makes room for `count` more tokens, and returns the pages' addresses.

        Raises:
            ValidationError: the capacity is too small.
        """
        wanted = self.length + count
        if wanted > self.capacity:
            raise ValidationError(
                f"{wanted} tokens do not fit a context of {self.capacity}.",
                hint="Shorten the text, or load the model with a larger context.",
            )
        for index in range(self.length // PAGE, len(self._pages)):
            if self._shared[index]:
                self._pages[index], self._shared[index] = _copied(self._pages[index]), False
        for _ in range(len(self._pages), self._shape.pages(wanted)):
            self._pages.append(aligned(self._shape.page_bytes))
            self._shared.append(False)
        return np.array([page.ctypes.data for page in self._pages], np.uintp)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Leaves the fixed block as it was where what runs inside fails half-way.

        Pages need no guard: what lies in them beyond `length` means nothing.
        """
        before, shared = self._fixed, self._fixed_shared
        self._fixed_shared = True  # so that the first write makes a copy
        try:
            yield
        except BaseException:
            self._fixed, self._fixed_shared = before, shared
            raise

    def truncate(self, length: int) -> None:
        """Forgets every token from `length` on; a recurrent state can only forget all or none.

        Raises:
            ValidationError: it is negative, beyond what is held, or within a recurrent state.
        """
        if not 0 <= length <= self.length:
            raise ValidationError(f"A state of {self.length} tokens cannot be cut to {length}.")
        if self.recurrent and 0 < length < self.length:
            raise ValidationError(
                f"A recurrent state of {self.length} tokens cannot be cut to {length}.",
                hint="Copy it where you may want to come back.",
            )
        self.length = length
        kept = self._shape.pages(length)
        del self._pages[kept:], self._shared[kept:]
        if length == 0:
            self._fixed, self._fixed_shared = None, False

    def copy(self) -> State:
        """Returns an independent state with the same content; a part is copied when written."""
        other = State(self._shape, self.capacity)
        other.length = self.length
        self._shared = [True] * len(self._pages)
        other._pages, other._shared = list(self._pages), list(self._shared)
        self._fixed_shared = other._fixed_shared = self._fixed is not None
        other._fixed = self._fixed
        return other

    def save(self, path: str | Path, ids: Sequence[int] = (), label: str = "") -> None:
        """Writes the state to a file, which appears whole or not at all.

        Args:
            path: The file; one that is there is replaced.
            ids: The tokens it holds, where they are to be saved with it.
            label: What people are to know it by.

        Raises:
            InferenceError: the file cannot be written.
            ValidationError: the ids are not as many as its tokens.
        """
        held = np.asarray(ids, np.int32)
        if len(held) not in (0, self.length):
            raise ValidationError(f"{len(held)} ids cannot name a state of {self.length} tokens.")
        pages = self._pages[: self._shape.pages(self.length)]
        content = Content(self.length, held, self._fixed if self.length else None, pages)
        write_state(Path(path), self._shape, content, label)

    @classmethod
    def load(cls, path: str | Path, shape: StateShape, capacity: int) -> State:
        """Reads a saved state of the model with this shape.

        Raises:
            InferenceError: the file is missing, damaged, or of another model, weight form or
                version of the engine.
        """
        return cls.load_with_ids(path, shape, capacity)[0]

    @classmethod
    def load_with_ids(
        cls, path: str | Path, shape: StateShape, capacity: int
    ) -> tuple[State, npt.NDArray[np.int32]]:
        """Reads like `load`, and returns the ids too; none where they were not saved.

        Raises:
            InferenceError: as of `load`.
        """
        content = read_state(Path(path), shape, capacity)
        state = cls(shape, capacity)
        state.length = content.tokens
        state._fixed, state._pages = content.fixed, content.pages
        state._shared = [False] * len(content.pages)
        return state, content.ids


def _copied(block: Block) -> Block:
    own = aligned(block.nbytes)
    own[:] = block
    return own
