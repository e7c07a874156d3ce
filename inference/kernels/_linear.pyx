"""Packed matrices and the linear kernels over them, as Python sees them.

The heavy work is in C (rz.h) and runs without the GIL; this module owns the buffers and checks shapes.
"""

import os

import numpy as np

from ryzanstein.errors import ConfigError, QuantizationError

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t, uintptr_t


cdef extern from "rz.h" nogil:
    int RZ_PANEL, RZ_GROUP, RZ_ISAS, RZ_SLACK, RZ_WORK_BYTES, RZ_INDEXED_COLS, RZ_MOST_COLS
    ctypedef struct rz_matrix:
        int32_t form, scale, rows, cols, panel_rows, panels, groups, group_bytes
        int64_t panel_bytes
        const uint8_t *codes
        float tensor_scale
        int32_t prefetch, lookup
    ctypedef struct rz_acts:
        int32_t cols, groups
        int64_t stride
        float *dense
        int8_t *codes
        float *scales
        int32_t *sums
        uint8_t *work
    ctypedef struct rz_linear_kernels:
        const char *isa
        void (*quantize)(rz_acts *, int32_t, int32_t) noexcept nogil
        void (*quantize_token)(rz_acts *, int32_t, int32_t) noexcept nogil
        void (*linear)(const rz_matrix *, const rz_acts *, int32_t, int32_t, int32_t, float *, int64_t,
                       const float *, int) noexcept nogil
        void (*scan)(const rz_matrix *, const rz_acts *, int32_t, int32_t, int32_t, float *, float *) noexcept nogil
        void (*row)(const rz_matrix *, int32_t, float *) noexcept nogil
        uint64_t (*read_bytes)(const uint8_t *, size_t) noexcept nogil
    const rz_linear_kernels *rz_linear_table_of(int)
    int rz_isa_chosen()
    int rz_isa_choose(const char *)

cdef extern from "panel.h" nogil:
    int32_t rz_group_bytes(int32_t, int32_t)
    int32_t rz_group_cols(int32_t)
    int rz_is_ternary(int32_t)
    int64_t rz_matrix_bytes(const rz_matrix *)

cdef extern from "rows.h" nogil:
    int RZ_PACK_OK, RZ_PACK_RANGE, RZ_PACK_CODE
    int64_t rz_source_row_bytes(int32_t, int32_t)
    int rz_pack_panels(const rz_matrix *, int32_t, const uint8_t *, int32_t, int32_t, uint8_t *)
    int rz_pack_trits(const rz_matrix *, int32_t, const uint8_t *, int32_t, int32_t, uint8_t *, uint8_t *)
    int rz_pack_absmean(const rz_matrix *, int32_t, const uint8_t *, float, int32_t, int32_t, uint8_t *, uint8_t *)

cdef extern from "trits.h" nogil:
    int RZ_TRITS_OK
    int32_t rz_trits_block(int32_t)
    int64_t rz_trits_bytes(int32_t, int32_t, int32_t)
    int rz_trits_scale(int32_t, const uint8_t *, int64_t, float *)
    int rz_absmean_sum(int32_t, const uint8_t *, int64_t, double *)


FORMS = ("f32", "int8", "int4", "int5", "int6", "ternary2", "ternary5", "ternary3", "split8")
SCALES = ("none", "group", "min", "half", "tensor")
TERNARY = FORMS[5:8]
cdef dict LOOKUP_TOKENS = {"ternary2": 18, "ternary5": 28}  # products of fewer tokens do not earn their tables back
PANEL = RZ_PANEL
LAYOUT_VERSION = 1  # of the bytes in a packed matrix; raised whenever panel.h changes
cdef tuple ISA_NAMES = ("portable", "avx2", "avx512", "avx512vnni")


def available_isas():
    """Instruction sets that this build has and this CPU runs, the best last."""
    return [name for index, name in enumerate(ISA_NAMES) if rz_linear_table_of(index) != NULL]


def chosen_isa():
    """The instruction set the kernels run on."""
    return ISA_NAMES[rz_isa_chosen()]


def _check_forced_isa():
    forced = os.environ.get("RYZANSTEIN_ISA", "")
    if rz_isa_choose(forced.encode()) != 0:
        raise ConfigError(
            f"RYZANSTEIN_ISA={forced}: not an instruction set of this build and CPU.",
            hint=f"Unset it, or choose one of {', '.join(available_isas())}.",
        )


_check_forced_isa()


cdef const rz_linear_kernels *_table(object isa) except NULL:
    if isa is not None and isa not in available_isas():
        raise ConfigError(f"instruction set {isa!r} is not available.", hint=f"Available: {available_isas()}.")
    return rz_linear_table_of(rz_isa_chosen() if isa is None else ISA_NAMES.index(isa))


def _aligned(shape, dtype):
    """An uninitialised array that starts on a cache line."""
    itemsize = np.dtype(dtype).itemsize
    size = int(np.prod(shape, dtype=np.int64)) * itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


cdef class PackedMatrix:
    """A weight matrix (rows x cols) in panels, as rz.h and panel.h describe it; owns its buffer."""

    cdef rz_matrix _matrix
    cdef readonly object codes

    def __init__(self, str form, str scale, int rows, int cols, *, float tensor_scale=1.0, codes=None):
        """Makes room for a matrix; with `codes`, looks at one that is packed already.

        Args:
            form: how codes are stored, one of FORMS.
            scale: how scales are stored, one of SCALES; "tensor" for the ternary forms.
            rows: length of the output.
            cols: length of the dot product.
            tensor_scale: what every ternary weight is multiplied by.
            codes: uint8 array of the matrix's bytes that begins on a cache line, read-only or not.

        Raises:
            QuantizationError: a form, shape, scale or buffer that cannot be.
        """
        if rows < 1 or cols < 1:
            raise QuantizationError(f"a matrix of {rows} x {cols} cannot be packed")
        if cols > RZ_MOST_COLS:
            raise QuantizationError(f"{cols} columns are more than {RZ_MOST_COLS}")
        if form not in FORMS or scale not in SCALES or (form in TERNARY) != (scale == "tensor"):
            raise QuantizationError(f"there is no form {form}/{scale}")
        if form == "ternary3" and cols > RZ_INDEXED_COLS:
            raise QuantizationError(f"{cols} columns are too many for tables", hint="Choose ternary2 or ternary5.")
        if not (tensor_scale > 0 and np.isfinite(tensor_scale)):
            raise QuantizationError(f"a scale of {tensor_scale} makes no weights", hint="The checkpoint is damaged.")
        cdef rz_matrix *m = &self._matrix
        m.form, m.scale = FORMS.index(form), SCALES.index(scale)
        m.rows, m.cols, m.panel_rows = rows, cols, RZ_PANEL
        m.panels = (rows + RZ_PANEL - 1) // RZ_PANEL
        m.groups = (cols + rz_group_cols(m.form) - 1) // rz_group_cols(m.form)
        m.group_bytes = rz_group_bytes(m.form, m.scale)
        m.panel_bytes = <int64_t>m.groups * m.group_bytes
        m.tensor_scale = tensor_scale
        m.prefetch, m.lookup = 0, LOOKUP_TOKENS.get(form, 0)
        # Of split8 the panels lie elsewhere, in two planes, and take as many bytes as int8.
        shape = (m.panels, m.groups, rz_matrix_bytes(m) // (m.panels * m.groups))
        if codes is None:
            self.codes = _aligned(shape, np.uint8)
        elif codes.dtype != np.uint8 or codes.size != rz_matrix_bytes(m) or codes.ctypes.data % 64:
            raise QuantizationError(f"{codes.size} bytes at {codes.ctypes.data % 64} are no {form} of {rows} x {cols}")
        else:
            self.codes = np.ascontiguousarray(codes).reshape(shape)
        cdef const uint8_t[:, :, ::1] view = self.codes
        m.codes = &view[0, 0, 0]

    def tune(self, *, int prefetch=0, int lookup=0):
        """Chooses how a ternary matrix is multiplied, which never changes the result.

        Args:
            prefetch: bytes that a matrix-vector product reads ahead; 0 leaves it to the kernel.
            lookup: tokens from which products look sums up in tables (AVX-512 VNNI); 0: never.
        """
        self._matrix.prefetch, self._matrix.lookup = prefetch, lookup

    @property
    def prefetch(self):
        """Bytes that a ternary matrix-vector product reads ahead; 0: the kernel's own distance."""
        return self._matrix.prefetch

    @property
    def lookup(self):
        """Tokens from which a ternary product looks sums up in tables; 0: never."""
        return self._matrix.lookup

    def pack_trits(self, int source, const uint8_t[::1] data not None):
        """Fills a ternary matrix from weights that are ternary already (trits.h's `source` number).

        Raises:
            QuantizationError: the bytes do not fit the shape, or hold something that is no trit.
        """
        cdef int64_t bytes = rz_trits_bytes(source, self._matrix.rows, self._matrix.cols)
        if bytes < 0 or data.shape[0] < bytes:
            raise QuantizationError(
                f"{data.shape[0]} bytes of type {source} are no matrix of {self.rows} x {self.cols}"
            )
        self._pack(source, data, 0.0, False)

    def pack_absmean(self, int dtype, const uint8_t[::1] data not None, float scale):
        """Fills a ternary matrix with round(weight * scale) of float weights (GGUF type number `dtype`).

        Raises:
            QuantizationError: the bytes do not fit the shape, or a weight is not finite.
        """
        if rz_source_row_bytes(dtype, self._matrix.cols) * self._matrix.rows != data.shape[0]:
            raise QuantizationError(
                f"{data.shape[0]} bytes of type {dtype} are no matrix of {self.rows} x {self.cols}"
            )
        self._pack(dtype, data, scale, True)

    cdef _pack(self, int source, const uint8_t[::1] data, float scale, bint absmean):
        cdef rz_matrix *m = &self._matrix
        if not rz_is_ternary(m.form):
            raise QuantizationError(f"{self.form} holds no trits")
        row = np.empty(m.groups * rz_group_cols(m.form), np.uint8)
        self.codes[:] = 0
        cdef uint8_t[::1] row_view = row
        cdef uint8_t[:, :, ::1] codes = self.codes
        cdef int status
        with nogil:
            if absmean:
                status = rz_pack_absmean(m, source, &data[0], scale, 0, m.rows, &row_view[0], &codes[0, 0, 0])
            else:
                status = rz_pack_trits(m, source, &data[0], 0, m.rows, &row_view[0], &codes[0, 0, 0])
        if status != RZ_PACK_OK:
            what = "a weight that is not finite" if absmean else "a code that is none of -1, 0 and 1"
            raise QuantizationError(f"a ternary matrix has {what}", hint="The checkpoint is damaged.")

    def repack(self, int source, const uint8_t[::1] data not None):
        """Fills the panels from a source tensor of GGUF type number `source`.

        Raises:
            QuantizationError: the bytes do not fit the shape, hold something that is no trit, or a
                scale is not finite in fp16.
        """
        cdef rz_matrix *m = &self._matrix
        cdef int64_t row_bytes = rz_source_row_bytes(source, m.cols)
        if row_bytes < 0 or data.shape[0] != row_bytes * m.rows:
            raise QuantizationError(
                f"{data.shape[0]} bytes of type {source} are not a matrix of {m.rows} x {m.cols}"
            )
        cdef uint8_t[:, :, ::1] codes = self.codes
        cdef int status
        with nogil:
            status = rz_pack_panels(m, source, &data[0], 0, m.panels, &codes[0, 0, 0])
        if status == RZ_PACK_RANGE:
            raise QuantizationError("a weight or scale is not finite in fp16", hint="Load with precision='float'.")
        if status == RZ_PACK_CODE:
            raise QuantizationError("a ternary weight is none of -1, 0 and 1", hint="The checkpoint is damaged.")
        if status != RZ_PACK_OK:
            raise QuantizationError(f"type {source} cannot become {self.form}/{self.scale}")

    @property
    def pointer(self):
        """Address of the rz_matrix, valid as long as this object lives."""
        return <uintptr_t>&self._matrix

    @property
    def tensor_scale(self):
        """What every weight of a ternary matrix is multiplied by."""
        return self._matrix.tensor_scale

    @property
    def form(self):
        """How codes are stored, one of FORMS."""
        return FORMS[self._matrix.form]

    @property
    def scale(self):
        """How scales are stored, one of SCALES."""
        return SCALES[self._matrix.scale]

    @property
    def rows(self):
        """Rows: length of the output."""
        return self._matrix.rows

    @property
    def cols(self):
        """Columns: length of the dot product."""
        return self._matrix.cols

    @property
    def panels(self):
        """Panels of 32 rows."""
        return self._matrix.panels

    @property
    def nbytes(self):
        """Bytes of the packed matrix, all of which a matrix-vector product reads."""
        return rz_matrix_bytes(&self._matrix)

    @property
    def greedy_bytes(self):
        """Bytes that finding the largest product reads, beside the rows that come near it."""
        return self._matrix.panels * self._matrix.panel_bytes


def trits_scale(int source, const uint8_t[::1] data not None):
    """The one scale of all blocks of a tensor that is stored with scales.

    Returns:
        (status, scale); a status below 0 says that the scales differ (-2) or are none (-3), see trits.h.
    """
    cdef float scale = 1.0
    cdef int32_t weights = rz_trits_block(source)
    if weights <= 0:
        return 0, 1.0
    cdef int64_t blocks = data.shape[0] // (rz_trits_bytes(source, 1, weights))
    cdef int status
    with nogil:
        status = rz_trits_scale(source, &data[0], blocks, &scale)
    return status, scale


def absmean(int dtype, const uint8_t[::1] data not None):
    """Mean magnitude of float weights of GGUF type number `dtype`.

    Raises:
        QuantizationError: a weight is not finite.
    """
    cdef int64_t count = data.shape[0] // max(rz_source_row_bytes(dtype, 1), 1)
    cdef double total = 0.0
    cdef int status
    with nogil:
        status = rz_absmean_sum(dtype, &data[0], count, &total)
    if status != RZ_TRITS_OK:
        raise QuantizationError("a weight is not finite", hint="The checkpoint is damaged.")
    return float(np.float32(total / count))


def quantize_activations(x, isa=None, *, per_token=False):
    """Quantises x (tokens, cols) float32 to (codes int8, scales float32 a group of 32, sums int32 a half group).

    With `per_token`, all groups of a token have one scale.
    """
    dense = _dense(x)
    tokens, stride = dense.shape
    groups = stride // RZ_GROUP
    codes = _aligned(tokens * stride + RZ_SLACK, np.int8)[: tokens * stride].reshape(tokens, stride)
    scales = _aligned((tokens, groups), np.float32)
    sums = _aligned((tokens, 2 * groups), np.int32)
    cdef rz_acts acts
    _point(&acts, dense, codes, scales, sums)
    cdef const rz_linear_kernels *table = _table(isa)
    cdef int32_t count = tokens
    cdef bint one_scale = per_token
    with nogil:
        if one_scale:
            table.quantize_token(&acts, 0, count)
        else:
            table.quantize(&acts, 0, count)
    return codes, scales, sums


cdef object _dense(object x):
    """x (tokens, cols) with columns padded by zeros to whole groups."""
    values = np.atleast_2d(np.asarray(x, np.float32))
    tokens, cols = values.shape
    dense = _aligned((tokens, (cols + RZ_GROUP - 1) // RZ_GROUP * RZ_GROUP), np.float32)
    dense[:, :cols] = values
    dense[:, cols:] = 0.0
    return dense


cdef void _point(rz_acts *acts, float[:, ::1] dense, int8_t[:, ::1] codes, float[:, ::1] scales, int32_t[:, ::1] sums) noexcept:
    acts.cols, acts.groups, acts.stride = dense.shape[1], scales.shape[1], dense.shape[1]
    acts.dense, acts.codes, acts.scales, acts.sums = &dense[0, 0], &codes[0, 0], &scales[0, 0], &sums[0, 0]
    acts.work = NULL


def linear(PackedMatrix packed not None, x, isa=None, bias=None, out=None):
    """x (tokens, cols) times the packed matrix's transpose: float32 (tokens, rows).

    Activations are quantised first, but for form f32. `bias` (rows,) is added; with `out`, the product is added to it.
    """
    x = np.atleast_2d(np.asarray(x, np.float32))
    if x.shape[1] != packed.cols:
        raise QuantizationError(f"activations of {x.shape[1]} columns do not fit {packed.cols}")
    dense = _dense(x)
    codes, scales, sums = quantize_activations(dense, isa, per_token=packed.form in TERNARY)
    cdef rz_acts acts
    _point(&acts, dense, codes, scales, sums)
    cdef uint8_t[::1] work = _aligned(RZ_WORK_BYTES, np.uint8)
    acts.work = &work[0]
    accumulate = out is not None
    result = np.empty((dense.shape[0], packed.rows), np.float32) if out is None else out
    cdef float[:, ::1] result_view = result
    cdef const float[::1] bias_view = None if bias is None else np.ascontiguousarray(bias, np.float32)
    cdef const float *bias_data = NULL if bias is None else &bias_view[0]
    cdef const rz_linear_kernels *table = _table(isa)
    cdef int adds = accumulate
    with nogil:
        table.linear(&packed._matrix, &acts, result_view.shape[0], 0, packed._matrix.panels, &result_view[0, 0],
                     result_view.shape[1], bias_data, adds)
    return result


def time_linear(PackedMatrix packed not None, codes, scales, sums, dense, float[:, ::1] out not None, int first,
                int last, int repeats):
    """Runs the chosen kernel `repeats` times over panels [first, last) without the GIL: what a benchmark times."""
    cdef rz_acts acts
    _point(&acts, dense, codes, scales, sums)
    cdef uint8_t[::1] work = _aligned(RZ_WORK_BYTES, np.uint8)
    acts.work = &work[0]
    cdef const rz_linear_kernels *table = _table(None)
    cdef int i
    with nogil:
        for i in range(repeats):
            table.linear(&packed._matrix, &acts, out.shape[0], first, last, &out[0, 0], out.shape[1], NULL, 0)


def scan(PackedMatrix packed not None, x, isa=None, rows=None):
    """What the products of each panel's rows with x (cols,) do not exceed, from the high plane of a split8 matrix.

    Float32 (panels,); rz.h says how sure that is. With `rows`, only rows below count.
    """
    if packed.form != "split8":
        raise QuantizationError(f"{packed.form} has no high plane")
    dense = _dense(x)
    if dense.shape[0] != 1 or np.size(x) != packed.cols:
        raise QuantizationError(f"activations of shape {np.shape(x)} are not one token of {packed.cols}")
    codes, scales, sums = quantize_activations(dense, isa)
    cdef rz_acts acts
    _point(&acts, dense, codes, scales, sums)
    bounds = np.empty(packed.panels, np.float32)
    cdef float[::1] room = np.empty(3 * acts.groups, np.float32), view = bounds
    cdef const rz_linear_kernels *table = _table(isa)
    cdef int32_t below = packed.rows if rows is None else rows
    with nogil:
        table.scan(&packed._matrix, &acts, below, 0, packed._matrix.panels, &room[0], &view[0])
    return bounds


def dequantize_row(PackedMatrix packed not None, int row):
    """Row `row` as float32 (cols,)."""
    if not 0 <= row < packed.rows:
        raise IndexError(f"row {row} of {packed.rows}")
    out = np.empty(packed.cols, np.float32)
    cdef float[::1] view = out
    cdef const rz_linear_kernels *table = _table(None)
    with nogil:
        table.row(&packed._matrix, row, &view[0])
    return out


def read_bytes(const uint8_t[::1] data not None, isa=None):
    """Reads every byte once and returns a checksum; without the GIL, so threads can probe the bandwidth together."""
    cdef const rz_linear_kernels *table = _table(isa)
    cdef uint64_t checksum
    with nogil:
        checksum = table.read_bytes(&data[0], data.shape[0])
    return checksum
