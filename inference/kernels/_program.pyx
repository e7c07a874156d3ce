"""Builds and runs programs: the Python door to program.h.

A program is described once, operator by operator, then runs without the GIL. It owns its buffers and threads, and
keeps the packed matrices and vectors that its operators point at alive.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uintptr_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset
from cpython.exc cimport PyErr_CheckSignals

import logging
import threading

import numpy as np

from ryzanstein.errors import InferenceError, ValidationError
from ryzanstein.inference.kernels._ops import MAPS

cdef extern from "rz.h":
    ctypedef struct rz_matrix:
        int32_t form, rows, cols, panel_rows, panels, groups
        int64_t panel_bytes
    ctypedef struct rz_linear_kernels:
        pass
    enum:
        RZ_SLACK
        RZ_WORK_BYTES
        RZ_SPLIT8
    const rz_linear_kernels *rz_linear_table_of(int isa)
    const char *rz_isa_name()
    int rz_isa_chosen()

cdef extern from "panel.h":
    int rz_is_ternary(int32_t form)

cdef extern from "pool.h":
    ctypedef struct rz_pool:
        pass
    enum rz_pool_mode:
        RZ_POOL_ADAPTS
        RZ_POOL_FULL
        RZ_POOL_VARIES
    rz_pool *rz_pool_new(int threads, int pin) nogil
    void rz_pool_free(rz_pool *pool) nogil
    int rz_pool_pins(const rz_pool *pool)
    int rz_pool_width(const rz_pool *pool)
    void rz_pool_set_mode(rz_pool *pool, rz_pool_mode mode)

cdef extern from "ops.h":
    enum:
        RZ_PAGE
    ctypedef struct rz_ops_kernels:
        const char *isa
    const rz_ops_kernels *rz_ops_table(const char *isa)
    int64_t rz_attend_floats(int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t rows)

cdef extern from "program.h":
    ctypedef struct rz_operator:
        pass
    enum:
        RZ_MATRICES
        RZ_SLICE
        RZ_TERNARY_SLICE
        RZ_EMBED
        RZ_LINEAR
        RZ_APPEND
        RZ_ATTEND
        RZ_OPERATOR
        RZ_OPERANDS
        RZ_TAKEN
        RZ_GATE_NONE
        RZ_GATE_PAIR
        RZ_GATE_OUTPUT
        RZ_BY_GROUPS
        RZ_BY_TOKENS
    ctypedef struct rz_buffer:
        int32_t cols, whole, past
        int64_t stride
        float *data
    ctypedef struct rz_rope:
        int32_t half, interleaved
        float factor
        float *frequencies
        float *table
    ctypedef struct rz_op:
        int32_t code, input, output
        int32_t matrices, accumulate, gate, activation, quantized, dense
        int32_t layer, rope
        float eps, inner_eps, scale
        const float *norm
        const float *inner
        const rz_matrix **weights
        const float **biases
        int32_t *columns
        int32_t activated, joined
        const rz_operator *kind
        int32_t *buffers
        int32_t *sizes
        const float **vectors
        float *numbers
        int64_t state
        double seconds
    ctypedef struct rz_best:
        float logit
        int32_t token, panels
    ctypedef struct rz_scratch:
        float *normed
        signed char *codes
        float *scales
        int32_t *sums
        float *second
        float *attend
        unsigned char *work
        float *room
        float *workspace
    ctypedef struct rz_program:
        int32_t threads, chunk, block, widest, widest_norm
        int32_t op_count, buffer_count, rope_count, head
        int32_t heads, kv_heads, head_dim, value_dim, half_cache
        int64_t layer_bytes, head_bytes
        int32_t vocabulary, timed, slice
        float *bounds
        rz_op *ops
        rz_buffer *buffers
        rz_rope *ropes
        rz_scratch *scratch
        const rz_linear_kernels *linear
        const rz_ops_kernels *kernels
        rz_pool *pool
        void *next_block
        void *taken
    ctypedef struct rz_call:
        const int32_t *tokens
        int32_t count
        int64_t start
        uint8_t **pages
        float *state
        float *logits
        int32_t all_logits
        rz_best *best
        int32_t below
        int (*poll)(void *argument) noexcept nogil
        void *poll_argument
    int rz_program_run(rz_program *program, const rz_call *call) nogil

cdef extern from "recurrent.h":
    const rz_operator *rz_find_operator(const char *name)
    void rz_choose_kernels(rz_program *program, const char *isa)

PAGE = RZ_PAGE
ISAS = ("portable", "avx2", "avx512", "avx512vnni")
ACTIVATIONS = ("silu", "relu2")  # in the order of enum rz_activation
_ALIGNMENT = 64
MOST_CHUNK = 512  # tokens: every thread has a block, and whole buffers stay a few megabytes
_OP_NAMES = {RZ_EMBED: "embed", RZ_LINEAR: "linear", RZ_APPEND: "append", RZ_ATTEND: "attend"}


def chosen_isa() -> str:
    """Returns the name of the instruction set that programs use unless told otherwise."""
    return (<bytes>rz_isa_name()).decode()


def aligned(nbytes: int):
    """Returns `nbytes` zero bytes that begin on a cache line; untouched pages take no memory."""
    raw = np.zeros(nbytes + _ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % _ALIGNMENT
    return raw[skip : skip + nbytes]


cdef class _Poll:
    """What thread 0 asks now and then: has the caller given up, is there a signal to handle?"""

    cdef object cancel
    cdef object error

    def __cinit__(self, cancel):
        self.cancel = cancel
        self.error = None


cdef int _poll(void *argument) noexcept with gil:
    cdef _Poll self = <_Poll>argument
    try:
        PyErr_CheckSignals()
        return self.cancel is not None and self.cancel.is_set()
    except BaseException as error:
        self.error = error
        return 1


cdef class Program:
    """One model as a list of operators; describe it, then finish(), then run()."""

    cdef rz_program program
    cdef list _kept  # everything the C side points at
    cdef list _names
    cdef object _lock
    cdef int64_t _bytes
    cdef bint _pin
    cdef int _run  # operators joined to each other, so far
    cdef int64_t _workspace

    def __cinit__(self, *, int threads, int heads=0, int kv_heads=0, int head_dim=0, int layers=0,
                  bint half_cache=True, int chunk=0, int block=128, isa=None, bint pin=False):
        memset(&self.program, 0, sizeof(rz_program))
        cdef rz_program *p = &self.program
        chunk = chunk or min(MOST_CHUNK, block * max(2, threads))
        if threads < 1 or block % 8 or chunk < block or (heads % kv_heads if kv_heads else heads):
            raise ValueError("threads, chunk, block or heads cannot be used")
        index = rz_isa_chosen() if isa is None else ISAS.index(isa)
        p.linear = rz_linear_table_of(index)
        if p.linear == NULL:
            raise ValidationError(f"This CPU or this build has no {isa} kernels.")
        name = ISAS[index].encode()
        p.kernels = rz_ops_table(name)
        rz_choose_kernels(p, name)
        p.threads, p.chunk, p.block = threads, chunk, block
        p.heads, p.kv_heads, p.head_dim = heads, kv_heads, head_dim
        p.value_dim = (head_dim + 15) // 16 * 16
        p.half_cache = half_cache
        p.head_bytes = RZ_PAGE * (p.head_dim + p.value_dim) * (2 if half_cache else 4)
        p.layer_bytes = p.head_bytes * kv_heads
        p.head = -1
        self._kept, self._names = [], []
        self._lock = threading.Lock()
        self._pin = pin
        self.page_bytes = p.layer_bytes * layers

    cdef readonly int64_t page_bytes  # of keys and values of 64 positions; 0: no attention
    cdef readonly int64_t state_bytes  # of what all operators remember of a sequence; 0: nothing

    def __dealloc__(self):
        rz_pool_free(self.program.pool)
        free(self.program.ops)
        free(self.program.buffers)
        free(self.program.ropes)
        free(self.program.scratch)

    @property
    def isa(self) -> str:
        return (<bytes>self.program.kernels.isa).decode()

    @property
    def threads(self) -> int:
        return self.program.threads

    @property
    def pinned(self) -> bool:
        """Says whether each thread keeps to a CPU of its own."""
        return self.program.pool != NULL and rz_pool_pins(self.program.pool) != 0

    @property
    def width(self) -> int:
        """Threads that work at present: fewer than `threads` beside a busy process."""
        return rz_pool_width(self.program.pool) if self.program.pool != NULL else 0

    @property
    def chunk(self) -> int:
        return self.program.chunk

    @property
    def nbytes(self) -> int:
        return self._bytes

    cdef void *_keep(self, array) except NULL:
        self._kept.append(array)
        return <void *><uintptr_t>array.ctypes.data

    cdef void *_zeros(self, int64_t nbytes) except NULL:
        self._bytes += nbytes
        return self._keep(aligned(max(nbytes, 1)))

    cdef const float *_vector(self, values, int64_t length, int64_t padded) except? NULL:
        if values is None:
            return NULL
        if values.shape != (length,):
            raise ValueError(f"a vector of {length} was expected, not {values.shape}")
        kept = aligned(padded * 4).view(np.float32)
        kept[:length] = values
        self._bytes += padded * 4
        return <const float *>self._keep(kept)

    cdef const rz_matrix *_matrix(self, matrix) except NULL:
        self._kept.append(matrix)
        return <const rz_matrix *><uintptr_t>matrix.pointer

    cdef rz_op *_add(self, int code, int input, int output) except NULL:
        cdef rz_program *p = &self.program
        if p.pool != NULL:
            raise ValueError("the program is finished")
        for buffer in (input, output):
            if not -1 <= buffer < p.buffer_count:
                raise ValueError(f"there is no buffer {buffer}")
        cdef rz_op *ops = <rz_op *>realloc(p.ops, (p.op_count + 1) * sizeof(rz_op))
        if ops == NULL:
            raise MemoryError
        p.ops = ops
        cdef rz_op *op = &ops[p.op_count]
        memset(op, 0, sizeof(rz_op))
        op.code, op.input, op.output, op.activated = code, input, output, -1
        p.op_count += 1
        self._names.append(_OP_NAMES.get(code, ""))
        return op

    def buffer(self, int cols, *, bint whole=False, int past=0):
        """Declares a buffer of `cols` floats a token; `whole` if one operator reads other tokens' rows.

        A whole one may have rows for `past` earlier tokens before the first, which "recall" fills.
        """
        cdef rz_program *p = &self.program
        cdef rz_buffer *buffers = <rz_buffer *>realloc(p.buffers, (p.buffer_count + 1) * sizeof(rz_buffer))
        if buffers == NULL:
            raise MemoryError
        p.buffers = buffers
        stride = (cols + 31) // 32 * 32
        if past and not whole:
            raise ValueError("only a whole buffer has past rows")
        rows = p.chunk if whole else p.threads * p.block
        buffers[p.buffer_count].cols = cols
        buffers[p.buffer_count].whole = whole
        buffers[p.buffer_count].stride = stride
        buffers[p.buffer_count].past = past
        cdef float *data = <float *>self._zeros((past + rows) * stride * 4)
        buffers[p.buffer_count].data = data + past * <int64_t>stride
        p.buffer_count += 1
        return p.buffer_count - 1

    def rope(self, frequencies, *, float factor=1.0, bint interleaved=False):
        """Declares rotary positions: radians a position for each pair of a head's elements."""
        cdef rz_program *p = &self.program
        cdef rz_rope *ropes = <rz_rope *>realloc(p.ropes, (p.rope_count + 1) * sizeof(rz_rope))
        if ropes == NULL:
            raise MemoryError
        p.ropes = ropes
        cdef int half = len(frequencies)
        if 2 * half > p.head_dim:
            raise ValueError("more rotated elements than a head has")
        ropes[p.rope_count].half = half
        ropes[p.rope_count].interleaved = interleaved
        ropes[p.rope_count].factor = factor
        ropes[p.rope_count].frequencies = <float *>self._vector(frequencies, half, half)
        ropes[p.rope_count].table = <float *>self._zeros(<int64_t>p.chunk * half * 8)
        p.rope_count += 1
        return p.rope_count - 1

    def embed(self, matrix, int output):
        """output = the row of `matrix` of each token."""
        cdef rz_op *op = self._add(RZ_EMBED, -1, output)
        op.weights[0] = self._matrix(matrix)
        op.matrices = 1
        if op.weights[0].cols != self.program.buffers[output].cols:
            raise ValueError("the embedding is not as wide as its buffer")

    def linear(self, int input, matrices, int output, *, norm=None, float eps=0.0, biases=None,
               bint accumulate=False, bint gated=False, str activation="silu", bint per_token=False,
               inner_norms=None, float inner_eps=0.0, activated=None, bint joined=False):
        """output = [matrix * norm(input) + bias for each matrix, side by side].

        With `accumulate` it is added to output. With `gated` there are two matrices and output =
        activation(first) * second. With `per_token`, packed matrices take int8 inputs with one scale
        a token, else with one for 32 of them. With `inner_norms` each matrix takes
        inner_norm(norm(input)) of its own, and so is an operator of its own. `activated` names a
        function of each product with its bias (MAPS). `joined` says that it reads nothing of what the
        operator before it writes, so that no thread has to wait for another between them.
        """
        cdef rz_op *op
        cdef int made = 0
        if gated and (len(matrices) != 2 or matrices[0].rows != matrices[1].rows):
            raise ValueError("a gate has two matrices with the same rows")
        if activated is not None and (gated or accumulate or inner_norms is not None):
            raise ValueError("only plain products are activated")
        each = 1 if inner_norms is not None else len(matrices)
        for first in range(0, len(matrices), each):
            op = self._add(RZ_LINEAR, input, output)
            op.accumulate, op.activation = accumulate, ACTIVATIONS.index(activation)
            op.activated = -1 if activated is None else MAPS.index(activated)
            op.joined = self._joins(joined and first == 0)
            if gated:
                op.gate = RZ_GATE_PAIR if each == 2 else RZ_GATE_OUTPUT if first == 1 else RZ_GATE_NONE
            part = slice(first, first + each)
            self._fill_linear(op, matrices[part], norm, eps, biases[part] if biases else None, per_token)
            if inner_norms is not None:
                self._add_inner(op, inner_norms[first], inner_eps)
            for i in range(op.matrices):
                op.columns[i] = 0 if gated else made
                made += op.weights[i].rows
        made = made // 2 if gated else made
        if made != self.program.buffers[output].cols:
            raise ValueError(f"{made} rows do not fill a buffer of {self.program.buffers[output].cols}")

    cdef bint _joins(self, bint wanted):
        """Says whether the newest operator can be joined to those before it; too many are not."""
        self._run = self._run + 1 if wanted and self._run < RZ_TAKEN else 1
        return self._run > 1

    cdef int _add_inner(self, rz_op *op, norm, float eps) except -1:
        if norm is not None and op.norm == NULL:
            raise ValueError("an inner norm follows another")
        op.inner = self._vector(norm, self.program.buffers[op.input].cols, self.program.buffers[op.input].stride)
        op.inner_eps = eps
        return 0

    cdef int _fill_linear(self, rz_op *op, matrices, norm, float eps, biases, bint per_token=False) except -1:
        cdef int i
        cols = self.program.buffers[op.input].cols
        op.matrices, op.eps = len(matrices), eps
        if not 1 <= op.matrices <= RZ_MATRICES:
            raise ValueError(f"{op.matrices} matrices cannot share one operator")
        stride = self.program.buffers[op.input].stride
        self.program.widest = max(self.program.widest, stride)
        if norm is not None:
            self.program.widest_norm = max(self.program.widest_norm, stride)
        op.norm = self._vector(norm, cols, stride)
        for i in range(op.matrices):
            op.weights[i] = self._matrix(matrices[i])
            if op.weights[i].cols != cols:
                raise ValueError(f"a matrix of {op.weights[i].cols} columns reads a buffer of {cols}")
            rows = op.weights[i].rows
            op.biases[i] = self._vector(biases[i] if biases else None, rows, (rows + 31) // 32 * 32)
            if op.weights[i].form != 0:
                if per_token or rz_is_ternary(op.weights[i].form):
                    op.quantized = RZ_BY_TOKENS
                elif op.quantized != RZ_BY_TOKENS:
                    op.quantized = RZ_BY_GROUPS
            else:
                op.dense = 1
        return 0

    def attention(self, int input, int output, *, int layer, int rope, float scale):
        """output = attention of input, which holds queries, keys and values side by side."""
        cdef rz_program *p = &self.program
        width = (p.heads + 2 * p.kv_heads) * p.head_dim
        if p.buffers[input].cols != width or p.buffers[output].cols != p.heads * p.head_dim:
            raise ValueError("attention's buffers do not fit its heads")
        if not 0 <= rope < p.rope_count or not 0 <= layer * p.layer_bytes < self.page_bytes:
            raise ValueError("attention names a rope or a layer that is not there")
        cdef rz_op *op
        for code in (RZ_APPEND, RZ_ATTEND):
            op = self._add(code, input, output)
            op.layer, op.rope, op.scale = layer, rope, scale

    def operator(self, str name, *, buffers=(), vectors=(), sizes=(), numbers=(), int64_t state=0,
                 int64_t scratch=0, bint joined=False, int shares=-1) -> int:
        """Adds one of recurrent.h's operators; its C function says what its operands are.

        Args:
            name: in the table of recurrent.c.
            buffers: numbers of buffers; -1 for one that is left out.
            vectors: float32 arrays, copied and zero padded to 32, or None.
            sizes: whole numbers.
            numbers: floats.
            state: floats of a sequence's state that this operator owns; zeros before the first token.
            scratch: floats of working memory it needs in each thread.
            joined: as of linear().
            shares: number of an earlier operator that owns the state this one works on too.

        Returns:
            The operator's number.
        """
        cdef int i
        cdef const rz_operator *kind = rz_find_operator(name.encode())
        if kind == NULL:
            raise ValueError(f"there is no operator {name}")
        if max(len(buffers), len(vectors), len(sizes), len(numbers)) > RZ_OPERANDS:
            raise ValueError("too many operands")
        cdef rz_op *op = self._add(RZ_OPERATOR, buffers[0] if buffers else -1, -1)
        self._names[self.program.op_count - 1] = name
        op.kind, op.joined = kind, self._joins(joined)
        for i, buffer in enumerate(buffers):
            if not -1 <= buffer < self.program.buffer_count:
                raise ValueError(f"there is no buffer {buffer}")
            op.buffers[i] = buffer
        for i, vector in enumerate(vectors):
            if vector is not None:
                op.vectors[i] = self._vector(vector, len(vector), (len(vector) + 31) // 32 * 32)
        for i, size in enumerate(sizes):
            op.sizes[i] = size
        for i, number in enumerate(numbers):
            op.numbers[i] = number
        if shares >= self.program.op_count - 1 or (shares >= 0 and state):
            raise ValueError("a state is an operator's own, or an earlier one's")
        op.state = self.program.ops[shares].state if shares >= 0 else self.state_bytes // 4
        self.state_bytes += (state + 15) // 16 * 64
        self._workspace = max(self._workspace, scratch)
        return self.program.op_count - 1

    cdef bint _is_ternary(self, int op) noexcept:
        cdef rz_op *o = &self.program.ops[op]
        for i in range(o.matrices):
            if rz_is_ternary(o.weights[i].form):
                return True
        return False

    def finish(self, int input, matrix, *, norm=None, float eps=0.0, bint per_token=False, inner_norm=None,
               float inner_eps=0.0):
        """Ends the list with the matrix that makes logits, allocates scratch memory, starts the threads."""
        cdef rz_program *p = &self.program
        cdef rz_op *op = self._add(RZ_LINEAR, input, -1)
        self._fill_linear(op, [matrix], norm, eps, None, per_token)
        self._add_inner(op, inner_norm, inner_eps)
        p.head = p.op_count - 1
        p.vocabulary = op.weights[0].rows
        self._names[p.head] = "head"
        p.next_block = self._zeros(4 * p.op_count)
        p.taken = self._zeros(64 * RZ_TAKEN * p.threads)
        p.scratch = <rz_scratch *>calloc(p.threads, sizeof(rz_scratch))
        if p.scratch == NULL:
            raise MemoryError
        attend = rz_attend_floats(p.heads, p.kv_heads, p.head_dim, p.block) if p.heads else 0
        cells = <int64_t>p.block * p.widest
        cdef bint ternary = any(self._is_ternary(i) for i in range(p.op_count))
        p.slice = RZ_TERNARY_SLICE if ternary else RZ_SLICE
        rows = p.block if any(p.ops[i].dense and p.ops[i].norm != NULL for i in range(p.op_count)) else 1
        for i in range(p.threads):
            p.scratch[i].normed = <float *>self._zeros(<int64_t>rows * p.widest_norm * 4)
            p.scratch[i].codes = <signed char *>self._zeros(cells + RZ_SLACK)
            p.scratch[i].scales = <float *>self._zeros(cells // 8)
            p.scratch[i].sums = <int32_t *>self._zeros(cells // 4)
            p.scratch[i].second = <float *>self._zeros(<int64_t>p.block * p.slice * 4)
            p.scratch[i].attend = <float *>self._zeros(attend * 4)
            p.scratch[i].workspace = <float *>self._zeros(self._workspace * 4)
            if ternary:
                p.scratch[i].work = <unsigned char *>self._zeros(RZ_WORK_BYTES)
        if op.weights[0].form == RZ_SPLIT8 and inner_norm is None:
            self._scan(op.weights[0])
        p.pool = rz_pool_new(p.threads, self._pin)
        if p.pool == NULL:
            raise InferenceError(f"{p.threads} threads could not be started.", hint="Ask for fewer.")
        if self._pin and not self.pinned:
            logging.getLogger(__name__).warning(
                "Threads are not pinned: this system cannot, or has fewer CPUs than the %d threads.", p.threads)

    cdef int _scan(self, const rz_matrix *head) except -1:
        """Makes room for what scanning the head needs."""
        self.program.bounds = <float *>self._zeros(<int64_t>head.panels * 4)
        for i in range(self.program.threads):
            self.program.scratch[i].room = <float *>self._zeros(<int64_t>head.groups * 12)
        return 0

    @property
    def scans(self) -> bool:
        """Says whether best() can be asked for."""
        return self.program.bounds != NULL

    def run(self, tokens, int64_t start, pages, logits=None, *, state=None, bint all_logits=False, cancel=None) -> bool:
        """Runs `tokens` (int32, at most chunk) at positions from `start` on.

        Args:
            tokens: int32 array, each below the vocabulary's size.
            start: position of the first one.
            pages: uintp array of the addresses of KV pages for start + len(tokens) positions.
            logits: float32 [1 or len(tokens), vocabulary], or None where nobody wants any.
            state: uint8 array of state_bytes, 64-byte aligned, which is moved on; None where there is none.
            all_logits: fill a row for each token, not the last only.
            cancel: something with is_set(), looked at now and then in long runs.

        Returns:
            False where `cancel` was set; logits, the cache's new positions and the state are then undefined.
        """
        cdef rz_call call
        self._describe(&call, tokens, start, pages, state)
        rows = len(tokens) if all_logits else 1
        if logits is not None and (logits.shape != (rows, self.program.vocabulary) or logits.dtype != np.float32):
            raise ValueError("logits have the wrong shape")
        call.all_logits = all_logits
        if logits is not None:
            call.logits = <float *><uintptr_t>logits.ctypes.data
        return self._go(&call, cancel)

    def best(self, tokens, int64_t start, pages, *, int below, state=None, cancel=None):
        """Runs `tokens` like run() and looks for the likeliest token after them, of those below `below`.

        Returns:
            (token, logit, panels of the head that were computed), or None where `cancel` was set. The logit is run()'s
            and the first of equal ones is chosen, but with a probability that rz.h's `scan` bounds.
        """
        cdef rz_call call
        cdef rz_best found
        self._describe(&call, tokens, start, pages, state)
        if not self.scans or not 0 < below <= self.program.vocabulary:
            raise ValueError("the head is not one to scan, or not so large")
        call.best, call.below = &found, below
        return (found.token, found.logit, found.panels) if self._go(&call, cancel) else None

    cdef int _describe(self, rz_call *call, tokens, int64_t start, pages, state) except -1:
        cdef rz_program *p = &self.program
        if p.pool == NULL:
            raise InferenceError("The model is closed.")
        if not 0 < len(tokens) <= p.chunk or tokens.dtype != np.int32 or pages.dtype != np.uintp:
            raise ValueError("tokens or pages have the wrong size or type")
        if tokens.min() < 0 or tokens.max() >= p.vocabulary or (p.heads and len(pages) * RZ_PAGE < start + len(tokens)):
            raise ValueError("a token or a position is out of range")
        if self.state_bytes and (state is None or state.nbytes != self.state_bytes or state.ctypes.data % _ALIGNMENT):
            raise ValueError("the state has the wrong size or is not aligned")
        memset(call, 0, sizeof(rz_call))
        if self.state_bytes:
            call.state = <float *><uintptr_t>state.ctypes.data
        call.tokens = <const int32_t *><uintptr_t>tokens.ctypes.data
        call.count, call.start = len(tokens), start
        call.pages = <uint8_t **><uintptr_t>pages.ctypes.data
        return 0

    cdef bint _go(self, rz_call *call, cancel) except? False:
        cdef rz_program *p = &self.program
        cdef int result
        poll = _Poll(cancel)
        call.poll, call.poll_argument = _poll, <void *>poll
        with self._lock:
            with nogil:
                result = rz_program_run(p, call)
        if (<_Poll>poll).error is not None:
            raise (<_Poll>poll).error
        if result < 0:
            raise InferenceError("The engine's threads could not be started.")
        return result == 0

    def set_width(self, str how):
        """Lets the width follow what waiting costs ("adapts"), keeps it "full", or "varies" it with every step."""
        modes = {"adapts": RZ_POOL_ADAPTS, "full": RZ_POOL_FULL, "varies": RZ_POOL_VARIES}
        if self.program.pool == NULL:
            raise InferenceError("The model is closed.")
        with self._lock:
            rz_pool_set_mode(self.program.pool, modes[how])

    def time_operators(self, bint on):
        """Switches the clock around every operator on or off, and sets what it counted to zero."""
        self.program.timed = on
        for i in range(self.program.op_count):
            self.program.ops[i].seconds = 0

    def timings(self) -> list:
        """Returns (name, layer-wise index, seconds of thread 0) of every operator since the clock was switched on."""
        return [(self._names[i], i, self.program.ops[i].seconds) for i in range(self.program.op_count)]

    def close(self):
        """Ends the threads; run() then raises InferenceError."""
        with self._lock:
            rz_pool_free(self.program.pool)
            self.program.pool = NULL
