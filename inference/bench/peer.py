"""llama.cpp through llama-cpp-python with its own defaults: only to compare with, never needed.

n_batch and n_ubatch 512, n_threads for prefill and decode alike, memory-mapped, flash attention as
llama.cpp chooses. Only the low-level calls are used, so that nothing of the Python binding is
measured.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ryzanstein.errors import InferenceError, ModelLoadError, ValidationError
from ryzanstein.inference.bench.own import log_probabilities

__all__ = ["LlamaCpp"]

_BATCH: Final = 512


class LlamaCpp:
    """A model in llama.cpp, loaded when it is described."""

    def __init__(self, path: Path, threads: int, context: int) -> None:
        try:
            import llama_cpp
        except ImportError as error:
            hint = "Install it: pip install 'ryzanstein[peer]'"
            raise ValidationError("llama-cpp-python is not installed.", hint=hint) from error
        if path.suffix != ".gguf":
            raise ValidationError(
                "llama.cpp reads .gguf files only.", hint="Give such a file, or no --peer."
            )
        self._api: Any = llama_cpp
        self._path = path
        self._threads = threads
        self._context_tokens = context
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()

    def describe(self) -> dict[str, Any]:
        """Loads the model; returns load_s and the version of the binding."""
        api = self._api
        started = time.perf_counter()
        model = api.llama_model_load_from_file(
            str(self._path).encode(), api.llama_model_default_params()
        )
        if not model:
            raise ModelLoadError(f"llama.cpp cannot load {self._path.name}.")
        options = api.llama_context_default_params()
        options.n_ctx = self._context_tokens
        options.n_batch = options.n_ubatch = _BATCH
        options.n_threads = options.n_threads_batch = self._threads
        self._context = api.llama_init_from_model(model, options)
        if not self._context:
            raise ModelLoadError(
                f"llama.cpp cannot make a context of {self._context_tokens} tokens."
            )
        self._vocabulary = int(api.llama_vocab_n_tokens(api.llama_model_get_vocab(model)))
        return {"load_s": time.perf_counter() - started, "version": str(api.__version__)}

    def speed(self, ids: Sequence[int], new_tokens: int) -> dict[str, float]:
        """Times a prefill and a greedy decode."""
        self._clear()
        started = time.perf_counter()
        for at in range(0, len(ids), _BATCH):
            self._decode(ids[at : at + _BATCH])
        token = int(self._logits(-1).argmax())
        first = time.perf_counter()
        for _ in range(new_tokens):
            self._decode([token])
            token = int(self._logits(-1).argmax())
        return {"prefill": first - started, "decode": time.perf_counter() - first}

    def score(self, ids: Sequence[int], first: int) -> float:
        """Sums the log-probabilities of ids[first:]."""
        api = self._api
        self._clear()
        total = 0.0
        for start in range(0, len(ids) - 1, _BATCH):
            part = ids[start : min(start + _BATCH, len(ids) - 1)]
            batch = api.llama_batch_init(len(part), 0, 1)
            batch.n_tokens = len(part)
            for index, token in enumerate(part):
                batch.token[index] = token
                batch.pos[index] = start + index
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = 0
                batch.logits[index] = start + index >= first - 1
            self._check(api.llama_decode(self._context, batch))
            scored = [index for index in range(len(part)) if start + index >= first - 1]
            for index in scored:
                row = self._logits(index).reshape(1, -1)
                total += log_probabilities(row, [ids[start + index + 1]])
            api.llama_batch_free(batch)
        return total

    def probe(self) -> float:
        """The peer has no probe of its own."""
        raise ValidationError("Only this project's engine probes the memory.")

    def _decode(self, ids: Sequence[int]) -> None:
        array = (ctypes.c_int32 * len(ids))(*ids)
        batch = self._api.llama_batch_get_one(array, len(ids))
        self._check(self._api.llama_decode(self._context, batch))

    def _logits(self, index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        pointer = self._api.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, (self._vocabulary,))

    def _clear(self) -> None:
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)

    def _check(self, status: int) -> None:
        if status:
            raise InferenceError(f"llama.cpp failed with status {status}.")
