"""Programs: attention against NumPy, tokens cut in any way, and the pool's behaviour."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from ryzanstein.errors import InferenceError
from ryzanstein.inference.kernels._linear import available_isas
from ryzanstein.inference.kernels._program import PAGE, Program, aligned
from ryzanstein.inference.kernels.pack import PackedMatrix, pack

ISAS = available_isas()
Array = np.ndarray


def dense(values: Array) -> PackedMatrix:
    rows, cols = values.shape
    return pack("F32", values.astype(np.float32).reshape(-1).view(np.uint8), rows, cols, "float")


class OneLayer:
    """Tokens are looked up as queries, keys and values; their attention output is the logits."""

    def __init__(self, heads: int, kv_heads: int, dim: int, **options: object) -> None:
        self.heads, self.kv_heads, self.dim = heads, kv_heads, dim
        settings = {"threads": 2, "half_cache": False} | options
        self.program = Program(
            chunk=512,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=dim,
            layers=1,
            **settings,  # type: ignore[arg-type]
        )
        width, self.vocabulary = (heads + 2 * kv_heads) * dim, heads * dim
        rng = np.random.default_rng(5)
        self.table = rng.standard_normal((self.vocabulary, width)).astype(np.float32)
        together = self.program.buffer(width, whole=True)
        out = self.program.buffer(heads * dim, whole=True)
        self.program.embed(dense(self.table), together)
        angles = np.zeros(dim // 2, np.float32)
        rope = self.program.rope(angles)
        self.program.attention(together, out, layer=0, rope=rope, scale=dim**-0.5)
        self.program.finish(out, dense(np.eye(heads * dim)))

    def run(self, tokens: Array, cuts: list[int]) -> Array:
        """Attention outputs of all tokens, given to the program in pieces of these lengths."""
        count = -(-len(tokens) // PAGE)
        pages = [aligned(self.program.page_bytes) for _ in range(count)]
        addresses = np.array([page.ctypes.data for page in pages], np.uintp)
        logits = np.empty((len(tokens), self.vocabulary), np.float32)
        at = 0
        for cut in cuts:
            piece = tokens[at : at + cut]
            self.program.run(piece, at, addresses, logits[at : at + cut], all_logits=True)
            at += cut
        assert at == len(tokens)
        return logits

    def reference(self, tokens: Array) -> Array:
        rows = self.table[tokens].astype(np.float64).reshape(len(tokens), -1, self.dim)
        queries, keys, values = np.split(rows, [self.heads, self.heads + self.kv_heads], axis=1)
        group = self.heads // self.kv_heads
        keys, values = np.repeat(keys, group, axis=1), np.repeat(values, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", queries, keys) * self.dim**-0.5
        scores += np.triu(np.full((len(tokens), len(tokens)), -np.inf), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("hqk,khd->qhd", weights, values).reshape(len(tokens), -1)


def tokens(count: int, vocabulary: int) -> Array:
    return np.random.default_rng(1).integers(0, vocabulary, count).astype(np.int32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"),
    [(4, 2, 16), (9, 3, 64), (14, 2, 64), (5, 1, 20), (3, 3, 8), (6, 2, 128), (2, 1, 80)],
)
def test_attention_equals_numpy_for_one_token_few_and_many(
    isa: str, heads: int, kv_heads: int, dim: int
) -> None:
    layer = OneLayer(heads, kv_heads, dim, isa=isa)
    ids = tokens(200, layer.vocabulary)
    want = layer.reference(ids)
    for cuts in ([200], [1] * 200, [7] * 28 + [4], [130, 1, 69]):
        np.testing.assert_allclose(layer.run(ids, cuts), want, atol=2e-5)


def test_fp16_cache_is_close_to_float() -> None:
    layer = OneLayer(4, 2, 64, half_cache=True)
    ids = tokens(150, layer.vocabulary)
    for cuts in ([150], [1] * 150):
        np.testing.assert_allclose(layer.run(ids, cuts), layer.reference(ids), atol=4e-3)


def test_a_long_context_is_cut_into_parts_of_several_pages() -> None:
    layer = OneLayer(2, 1, 16)
    count = PAGE * 40 + 9
    ids = tokens(count, layer.vocabulary)
    prefill = [400] * (count // 400)
    cuts = [*prefill, *[1] * (count - sum(prefill))]
    np.testing.assert_allclose(layer.run(ids, cuts), layer.reference(ids), atol=2e-5)


@pytest.mark.parametrize("cuts", [[300], [1] * 300, [10] * 30])
def test_results_do_not_depend_on_the_number_of_threads(cuts: list[int]) -> None:
    results = []
    for threads in (1, 2, 4, 7):
        layer = OneLayer(9, 3, 32, threads=threads)
        results.append(layer.run(tokens(300, layer.vocabulary), cuts))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_cancelling_stops_a_run_and_says_so() -> None:
    layer = OneLayer(4, 2, 16)
    pages = [aligned(layer.program.page_bytes) for _ in range(8)]
    addresses = np.array([page.ctypes.data for page in pages], np.uintp)
    cancel = threading.Event()
    cancel.set()
    assert layer.program.run(tokens(400, 64), 0, addresses, cancel=cancel) is False
    assert layer.program.run(tokens(400, 64), 0, addresses, cancel=threading.Event()) is True


def test_an_error_in_the_cancel_flag_reaches_the_caller() -> None:
    class Broken:
        def is_set(self) -> bool:
            raise KeyboardInterrupt

    layer = OneLayer(4, 2, 16)
    pages = [aligned(layer.program.page_bytes) for _ in range(8)]
    addresses = np.array([page.ctypes.data for page in pages], np.uintp)
    with pytest.raises(KeyboardInterrupt):
        layer.program.run(tokens(400, 64), 0, addresses, cancel=Broken())


def test_a_closed_program_refuses_to_run() -> None:
    layer = OneLayer(4, 2, 16)
    layer.program.close()
    layer.program.close()
    with pytest.raises(InferenceError, match="closed"):
        layer.run(tokens(3, 64), [3])


@pytest.mark.parametrize(
    ("ids", "pages"),
    [([], 1), ([-1], 1), ([64], 1), ([1] * 65, 1), ([1] * 600, 10)],
    ids=[
        "none",
        "negative",
        "beyond the vocabulary",
        "more than the pages hold",
        "a chunk too many",
    ],
)
def test_tokens_and_pages_are_checked(ids: list[int], pages: int) -> None:
    layer = OneLayer(4, 2, 16)
    held = [aligned(layer.program.page_bytes) for _ in range(pages)]
    addresses = np.array([page.ctypes.data for page in held], np.uintp)
    with pytest.raises(ValueError, match=r"wrong size|out of range"):
        layer.program.run(np.array(ids, np.int32), 0, addresses)


def test_operators_that_do_not_fit_their_buffers_are_refused() -> None:
    program = Program(threads=1, heads=2, kv_heads=1, head_dim=8, layers=1, half_cache=True)
    wide, narrow = program.buffer(32, whole=True), program.buffer(16)
    with pytest.raises(ValueError, match="no buffer"):
        program.linear(7, [dense(np.ones((16, 32)))], narrow)
    with pytest.raises(ValueError, match="columns"):
        program.linear(wide, [dense(np.ones((16, 31)))], narrow)
    with pytest.raises(ValueError, match="rows do not fill"):
        program.linear(wide, [dense(np.ones((15, 32)))], narrow)
    with pytest.raises(ValueError, match="a vector of 32"):
        program.linear(wide, [dense(np.ones((16, 32)))], narrow, norm=np.ones(31, np.float32))
    pair = [dense(np.ones((16, 32))), dense(np.ones((15, 32)))]
    with pytest.raises(ValueError, match="two matrices with the same rows"):
        program.linear(wide, pair, narrow, gated=True)
    with pytest.raises(ValueError, match="inner norm follows"):
        program.linear(wide, pair[:1], narrow, inner_norms=[np.ones(32, np.float32)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_its_own_threads() -> None:
    layer = OneLayer(9, 3, 32, threads=3)
    ids = tokens(120, layer.vocabulary)
    want = layer.run(ids, [120])
    child = os.fork()
    if child == 0:
        same = np.array_equal(layer.run(ids, [120]), want)
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_two_callers_at_once_get_their_own_results() -> None:
    layer = OneLayer(4, 2, 16)
    inputs = [tokens(100, 64), tokens(100, 64)[::-1].copy()]
    want = [layer.run(ids, [100]) for ids in inputs]
    got: dict[int, Array] = {}

    def work(index: int) -> None:
        for _ in range(20):
            got[index] = layer.run(inputs[index], [50, 50])

    callers = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for index in range(2):
        np.testing.assert_allclose(got[index], want[index], atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("half_cache", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(9, 3, 64), (14, 2, 64), (5, 1, 20)])
def test_one_token_gets_the_same_bits_alone_and_among_others(
    isa: str, half_cache: bool, heads: int, kv_heads: int, dim: int
) -> None:
    layer = OneLayer(heads, kv_heads, dim, isa=isa, half_cache=half_cache)
    ids = tokens(200, layer.vocabulary)
    want = layer.run(ids, [200])
    for cuts in ([1] * 200, [7] * 28 + [4], [130, 1, 69]):
        np.testing.assert_array_equal(layer.run(ids, cuts), want)


@pytest.mark.parametrize("half_cache", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(6, 2, 64), (3, 1, 20), (4, 1, 48)])
def test_instruction_sets_agree_to_the_last_bit(
    half_cache: bool, heads: int, kv_heads: int, dim: int
) -> None:
    """Over several pages, so that earlier sums decay."""
    results = []
    for isa in ISAS:
        layer = OneLayer(heads, kv_heads, dim, isa=isa, half_cache=half_cache)
        ids = tokens(150, layer.vocabulary)
        results.append(layer.run(ids, [130, 1, 1, 18]))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def stack(threads: int) -> Program:
    """Token -> rows of 256, through twelve layers of three matrices each, the first two joined."""
    rng = np.random.default_rng(3)
    program = Program(threads=threads)
    x, left, right = (program.buffer(256, whole=True) for _ in range(3))
    program.embed(dense(rng.standard_normal((64, 256))), x)
    for layer in range(12):
        one, two, back = (
            pack("F32", values.reshape(-1).view(np.uint8), 256, 256, "int8")
            for values in (rng.standard_normal((3, 256, 256)) / 16).astype(np.float32)
        )
        program.linear(x, [one], left, activated="tanh")
        program.linear(x, [two], right, activated="sigmoid", joined=True)
        program.linear(left if layer % 2 else right, [back], x, accumulate=True)
    program.finish(x, dense(np.eye(256, dtype=np.float32)))
    return program


@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_whoever_computes_a_panel_it_is_computed_once(threads: int, count: int) -> None:
    tokens = np.arange(count, dtype=np.int32)
    pages, want, got = np.empty(0, np.uintp), np.empty((1, 256), np.float32), {b""}
    stack(1).run(tokens, 0, pages, want)
    program = stack(threads)
    program.set_width("varies")
    for _ in range(100):
        logits = np.empty((1, 256), np.float32)
        program.run(tokens, 0, pages, logits)
        got.add(logits.tobytes())
    assert got == {b"", want.tobytes()}
