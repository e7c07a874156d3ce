"""One query, or several, against many vectors in compressed forms (vectors.h); the GIL is released.

A measure reads codes [n, bytes a row], C-contiguous, of all rows or of those at `positions`. A
query may be one or a row of several. Results have the same bits on every instruction set.
"""

import numpy as np

from ryzanstein.errors import InvalidRequest
from ryzanstein.inference.kernels._linear import available_isas, chosen_isa

from libc.stdint cimport int32_t, int64_t, uint8_t, uintptr_t


cdef extern from "vectors.h" nogil:
    int RZ_QUERY_PAD, RZ_SPARSE_WIDE
    ctypedef void (*rz_measure)(const uint8_t *, int64_t, const int64_t *, int64_t, const void *, int32_t *) noexcept nogil
    ctypedef struct rz_vectors_kernels:
        rz_measure *measures
    ctypedef struct rz_top:
        rz_measure measure
        const uint8_t *codes
        int64_t bytes
        const int64_t *positions
        int64_t count
        const uint8_t *query
        int64_t query_bytes
        int32_t queries, threads
        int64_t k
        int32_t lowest
    const rz_vectors_kernels *rz_vectors_table(const char *)
    int rz_top_run(const rz_top *, int64_t *, int32_t *)

MEASURES = ("dot_i8", "dot_f32", "hamming", "bits_dot", "bits_scaled", "lookup", "sparse_dot")
MOST_DIMENSIONS = 65536
cdef dict CODES = {
    "dot_i8": np.int8,
    "dot_f32": np.float32,
    "hamming": np.uint8,
    "bits_dot": np.uint8,
    "bits_scaled": np.uint8,
    "lookup": np.uint8,
    "sparse_dot": np.uint8,
}
cdef dict QUERIES = {**CODES, "bits_dot": np.int8, "bits_scaled": np.int8, "lookup": np.int16, "sparse_dot": np.int8}


cdef class _Scan:
    """Checked arguments of a scan; keeps the arrays that the C struct points into."""

    cdef rz_top top
    cdef bint single, floats
    cdef tuple held

    def __init__(self, str measure, codes, query, positions, isa):
        if measure not in CODES:
            raise InvalidRequest(f"There is no measure {measure!r}.", hint=f"Choose one of {', '.join(MEASURES)}.")
        codes = _codes(codes, CODES[measure])
        queries, self.single, wide = _queries(measure, codes, query)
        if positions is not None:
            positions = _positions(positions, len(codes))
        name = chosen_isa() if isa is None else isa
        if name not in available_isas():
            raise InvalidRequest(f"instruction set {isa!r} is not available.", hint=f"Available: {available_isas()}.")
        self.held = (codes, queries, positions)
        self.floats = measure == "dot_f32"
        cdef int index = RZ_SPARSE_WIDE if wide else MEASURES.index(measure)
        self.top.measure = rz_vectors_table(name.encode()).measures[index]
        self.top.codes = <const uint8_t *><uintptr_t>codes.ctypes.data
        self.top.bytes = codes.shape[1] * codes.itemsize
        self.top.positions = NULL if positions is None else <const int64_t *><uintptr_t>positions.ctypes.data
        self.top.count = len(codes) if positions is None else len(positions)
        self.top.query = <const uint8_t *><uintptr_t>queries.ctypes.data
        self.top.queries = len(queries)
        self.top.query_bytes = queries.nbytes // max(len(queries), 1)
        self.top.lowest = measure == "hamming"

    cdef _shaped(self, values):
        """Floats where keys stand for them, and one row where there was one query."""
        if self.floats:
            values ^= (values >> 31) & np.int32(0x7FFFFFFF)
            values = values.view(np.float32)
        return values[0] if self.single else values

    def all(self):
        values = np.empty((self.top.queries, self.top.count), np.int32)
        cdef int32_t *out = <int32_t *><uintptr_t>values.ctypes.data
        cdef int32_t q
        with nogil:
            for q in range(self.top.queries):
                self.top.measure(
                    self.top.codes, self.top.bytes, self.top.positions, self.top.count,
                    self.top.query + q * self.top.query_bytes, out + q * self.top.count)
        return self._shaped(values)

    def best(self, int64_t k, int32_t threads):
        if k < 0 or threads < 1:
            raise InvalidRequest(f"the best {k} on {threads} threads cannot be found", hint="Ask for at least one.")
        k = min(k, self.top.count)
        positions = np.empty((self.top.queries, k), np.int64)
        values = np.empty((self.top.queries, k), np.int32)
        cdef int64_t *places = <int64_t *><uintptr_t>positions.ctypes.data
        cdef int32_t *out = <int32_t *><uintptr_t>values.ctypes.data
        cdef int failed = 0
        self.top.k, self.top.threads = k, threads
        if k and self.top.queries:
            with nogil:
                failed = rz_top_run(&self.top, places, out)
        if failed:
            raise MemoryError(f"no memory for the best {k} of {self.top.queries} queries")
        return (positions[0] if self.single else positions), self._shaped(values)


def _codes(codes, dtype):
    if not isinstance(codes, np.ndarray) or codes.dtype != dtype or codes.ndim != 2 or not codes.flags.c_contiguous:
        told = f"{codes.dtype} {codes.shape}" if isinstance(codes, np.ndarray) else type(codes).__name__
        raise InvalidRequest(f"codes are {told}, not a contiguous {np.dtype(dtype)} matrix")
    if not 0 < codes.shape[1] <= MOST_DIMENSIONS:
        raise InvalidRequest(f"rows of {codes.shape[1]} codes are not 1 to {MOST_DIMENSIONS}")
    return codes


def _positions(positions, rows):
    positions = np.asarray(positions)
    if positions.dtype != np.int64 or positions.ndim != 1:
        raise InvalidRequest(f"positions are {positions.dtype} {positions.shape}, not a list of int64")
    if positions.size and not 0 <= positions.min() <= positions.max() < rows:
        raise InvalidRequest(f"positions {positions.min()} to {positions.max()} are not all among {rows} rows")
    return np.ascontiguousarray(positions)


def _queries(measure, codes, query):
    """Queries as the kernels read them, [queries, padded]; whether there was one; whether places take 16 bits."""
    query, dtype, width, wide = np.asarray(query), QUERIES[measure], codes.shape[1], False
    shape = (width, 256) if measure == "lookup" else (width,)
    if measure in ("bits_dot", "bits_scaled"):
        shape = (8 * width if measure == "bits_dot" else 8 * width - 8,)
        if not 0 < shape[0] <= MOST_DIMENSIONS:
            raise InvalidRequest(f"signs of {shape[0]} elements are not 1 to {MOST_DIMENSIONS}")
    single = query.ndim == len(shape)
    if measure == "sparse_dot":
        shape = query.shape[1:] if query.ndim == 2 else query.shape
        if len(shape) != 1 or not 0 < shape[0] <= MOST_DIMENSIONS:
            raise InvalidRequest(f"a query of {query.shape} is not 1 to {MOST_DIMENSIONS} long")
        wide = shape[0] > 256
        if width % (3 if wide else 2):
            raise InvalidRequest(f"sparse rows of {width} bytes are no places and values")
    if query.dtype != dtype or query.ndim not in (len(shape), len(shape) + 1) or query.shape[query.ndim - len(shape) :] != shape:
        raise InvalidRequest(f"a query is {query.dtype} {query.shape}, not {np.dtype(dtype)} {shape}")
    if measure == "dot_f32" and not np.isfinite(query).all():
        raise InvalidRequest("a query has numbers that are not finite")
    query = query.reshape(-1, *shape)
    if measure in ("lookup", "hamming"):
        return np.ascontiguousarray(query), single, wide
    # Sparse places beyond the query's end count nothing.
    least = MOST_DIMENSIONS if wide else 256 if measure == "sparse_dot" else 1
    padded = np.zeros((len(query), -(-max(shape[0], least) // RZ_QUERY_PAD) * RZ_QUERY_PAD), dtype)
    padded[:, : shape[0]] = query
    return padded, single, wide


def dot_i8(codes, query, positions=None, *, isa=None):
    """Returns the dot products of int8 codes [n, d] and query [d] as int32 [n]."""
    return _Scan("dot_i8", codes, query, positions, isa).all()


def dot_f32(codes, query, positions=None, *, isa=None):
    """Returns the dot products of float32 codes [n, d] and query [d] as float32 [n]."""
    return _Scan("dot_f32", codes, query, positions, isa).all()


def hamming(codes, query, positions=None, *, isa=None):
    """Returns how many bits of uint8 codes [n, b] differ from those of the query [b], as int32 [n]."""
    return _Scan("hamming", codes, query, positions, isa).all()


def bits_dot(codes, query, positions=None, *, isa=None):
    """Returns the sums of the int8 query [8 b] with the signs in uint8 codes [n, b] as int32 [n].

    Bit i % 8, counted from the lowest, of byte i // 8 is the sign of element i; a set one is +.
    """
    return _Scan("bits_dot", codes, query, positions, isa).all()


def bits_scaled(codes, query, positions=None, *, isa=None):
    """Returns what `bits_dot` does of all bytes but a row's last, times that byte: codes [n, b + 1]."""
    return _Scan("bits_scaled", codes, query, positions, isa).all()


def lookup(codes, tables, positions=None, *, isa=None):
    """Returns the sums of what the int16 tables [m, 256] have for uint8 codes [n, m] as int32 [n]."""
    return _Scan("lookup", codes, tables, positions, isa).all()


def sparse_dot(codes, query, positions=None, *, isa=None):
    """Returns the dot products of the int8 query [d] with sparse rows as int32 [n].

    Codes are uint8 [n, 2 m]: m places, then m int8 values; where d is above 256 they are [n, 3 m] and a place
    takes two bytes, the low one first. A place beyond d counts nothing.
    """
    return _Scan("sparse_dot", codes, query, positions, isa).all()


def top(str measure, codes, query, int64_t k, positions=None, *, int32_t threads=1, isa=None):
    """Returns the k best rows as (positions int64 [k], values [k]), best first, equal ones by position.

    The lowest are the best of "hamming", the highest of all other measures. For queries [q, ...] the results are
    [q, k]; rows are read once for all of them. Fewer than k where there are fewer rows. No value is kept of the
    rows that are not among the best.
    """
    return _Scan(measure, codes, query, positions, isa).best(k, threads)
