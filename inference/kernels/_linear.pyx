"""Packed matrices and the linear kernels over them, as Python sees them.

The heavy work is in C (rz.h) and runs without the GIL; this module owns the buffers and checks shapes.
"""

import os

import numpy as np

from ryzanstein.errors import ConfigError, QuantizationError

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t, uintptr_t


cdef extern from "rz.h" nogil:
    int RZ_PANEL, RZ_GROUP, RZ_ISAS
    ctypedef struct rz_matrix:
        int32_t form, scale, rows, cols, panel_rows, panels, groups, group_bytes
        int64_t panel_bytes
        const uint8_t *codes
    ctypedef struct rz_acts:
        int32_t cols, groups
        int64_t stride
        float *dense
        int8_t *codes
        float *scales
        int32_t *sums
    ctypedef struct rz_linear_kernels:
        const char *isa
        void (*quantize)(rz_acts *, int32_t, int32_t) noexcept nogil
        void (*linear)(const rz_matrix *, const rz_acts *, int32_t, int32_t, int32_t, float *, int64_t,
                       const float *, int) noexcept nogil
        void (*row)(const rz_matrix *, int32_t, float *) noexcept nogil
        uint64_t (*read_bytes)(const uint8_t *, size_t) noexcept nogil
    const rz_linear_kernels *rz_linear_table_of(int)
    int rz_isa_chosen()
    int rz_isa_choose(const char *)

cdef extern from "panel.h" nogil:
    int32_t rz_group_bytes(int32_t, int32_t)

cdef extern from "rows.h" nogil:
    int RZ_PACK_OK, RZ_PACK_RANGE
    int64_t rz_source_row_bytes(int32_t, int32_t)
    int rz_pack_panels(const rz_matrix *, int32_t, const uint8_t *, int32_t, int32_t, uint8_t *)


FORMS = ("f32", "int8", "int4", "int5", "int6")
SCALES = ("none", "group", "min", "half")
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

    def __init__(self, str form, str scale, int rows, int cols):
        if rows < 1 or cols < 1:
            raise QuantizationError(f"a matrix of {rows} x {cols} cannot be packed")
        cdef rz_matrix *m = &self._matrix
        m.form, m.scale = FORMS.index(form), SCALES.index(scale)
        m.rows, m.cols, m.panel_rows = rows, cols, RZ_PANEL
        m.panels = (rows + RZ_PANEL - 1) // RZ_PANEL
        m.groups = (cols + RZ_GROUP - 1) // RZ_GROUP
        m.group_bytes = rz_group_bytes(m.form, m.scale)
        m.panel_bytes = <int64_t>m.groups * m.group_bytes
        self.codes = _aligned((m.panels, m.groups, m.group_bytes), np.uint8)
        cdef uint8_t[:, :, ::1] view = self.codes
        m.codes = &view[0, 0, 0]

    def repack(self, int source, const uint8_t[::1] data not None):
        """Fills the panels from a source tensor of GGUF type number `source`.

        Raises:
            QuantizationError: the bytes do not fit the shape, or a scale is not finite in fp16.
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
        if status != RZ_PACK_OK:
            raise QuantizationError(f"type {source} cannot become {self.form}/{self.scale}")

    @property
    def pointer(self):
        """Address of the rz_matrix, valid as long as this object lives."""
        return <uintptr_t>&self._matrix

    @property
    def form(self):
        """How codes are stored: f32, int8, int4, int5 or int6."""
        return FORMS[self._matrix.form]

    @property
    def scale(self):
        """How scales are stored: none, group, min or half."""
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
        return self._matrix.panels * self._matrix.panel_bytes


def quantize_activations(x, isa=None):
    """Quantises x (tokens, cols) float32 to (codes int8, scales float32 a group of 32, sums int32 a half group)."""
    dense = _dense(x)
    tokens, stride = dense.shape
    groups = stride // RZ_GROUP
    codes = _aligned((tokens, stride), np.int8)
    scales = _aligned((tokens, groups), np.float32)
    sums = _aligned((tokens, 2 * groups), np.int32)
    cdef rz_acts acts
    _point(&acts, dense, codes, scales, sums)
    cdef const rz_linear_kernels *table = _table(isa)
    cdef int32_t count = tokens
    with nogil:
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


def linear(PackedMatrix packed not None, x, isa=None, bias=None, out=None):
    """x (tokens, cols) times the packed matrix's transpose: float32 (tokens, rows).

    Activations are quantised first, but for form f32. `bias` (rows,) is added; with `out`, the product is added to it.
    """
    x = np.atleast_2d(np.asarray(x, np.float32))
    if x.shape[1] != packed.cols:
        raise QuantizationError(f"activations of {x.shape[1]} columns do not fit {packed.cols}")
    dense = _dense(x)
    codes, scales, sums = quantize_activations(dense, isa)
    cdef rz_acts acts
    _point(&acts, dense, codes, scales, sums)
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
    cdef const rz_linear_kernels *table = _table(None)
    cdef int i
    with nogil:
        for i in range(repeats):
            table.linear(&packed._matrix, &acts, out.shape[0], first, last, &out[0, 0], out.shape[1], NULL, 0)


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
