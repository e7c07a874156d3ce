"""Single operators of ops.h from Python, for tests and for measuring; models run them through programs."""

from libc.stdint cimport int32_t, int64_t, uintptr_t

import numpy as np

cdef extern from "ops.h":
    ctypedef struct rz_ops_kernels:
        void (*rmsnorm)(const float *x, const float *weight, float eps, int32_t n, float *out) nogil
        void (*silu_mul)(float *gate, const float *up, int64_t n) nogil
        void (*relu2_mul)(float *gate, const float *up, int64_t n) nogil
        void (*layernorm)(const float *x, const float *weight, const float *bias, float eps, int32_t n,
                          float *out) nogil
        void (*map)(int32_t f, float *x, int64_t n) nogil
        void (*rotate)(float *x, int32_t heads, int32_t dim, const float *cos_sin, int32_t half,
                       int interleaved, float scale) nogil
    const rz_ops_kernels *rz_ops_table(const char *isa)

MAPS = ("silu", "relu2", "tanh", "sigmoid", "softplus", "exp")  # of enum rz_map

cdef float *_floats(array) except? NULL:
    return <float *><uintptr_t>array.ctypes.data


def _padded(values, multiple):
    values = np.asarray(values, np.float32)
    out = np.zeros(-(-len(values) // multiple) * multiple, np.float32)
    out[: len(values)] = values
    return out


def rmsnorm(x, weight, float eps, str isa):
    """Returns x / sqrt(mean(x^2) + eps) * weight of one vector."""
    cdef const rz_ops_kernels *kernels = rz_ops_table(isa.encode())
    left, right = _padded(x, 32), _padded(weight, 32)
    out = np.empty_like(left)
    kernels.rmsnorm(_floats(left), _floats(right), eps, len(x), _floats(out))
    return out[: len(x)]


def layernorm(x, weight, bias, float eps, str isa):
    """Returns (x - mean) / sqrt(variance + eps) * weight + bias of one vector; bias may be None."""
    cdef const rz_ops_kernels *kernels = rz_ops_table(isa.encode())
    left, right = _padded(x, 32), _padded(weight, 32)
    more = None if bias is None else _padded(bias, 32)
    out = np.empty_like(left)
    kernels.layernorm(_floats(left), _floats(right), NULL if more is None else _floats(more), eps, len(x), _floats(out))
    return out[: len(x)]


def mapped(function, x, str isa):
    """Returns a function of each element: silu, relu2, tanh, sigmoid, softplus or exp."""
    cdef const rz_ops_kernels *kernels = rz_ops_table(isa.encode())
    out = np.array(x, np.float32)
    kernels.map(MAPS.index(function), _floats(out), len(out))
    return out


def silu_mul(gate, up, str isa):
    """Returns gate / (1 + exp(-gate)) * up of two vectors."""
    cdef const rz_ops_kernels *kernels = rz_ops_table(isa.encode())
    left, right = _padded(gate, 16), _padded(up, 16)
    kernels.silu_mul(_floats(left), _floats(right), len(left))
    return left[: len(gate)]


def relu2_mul(gate, up, str isa):
    """Returns max(gate, 0)^2 * up of two vectors."""
    cdef const rz_ops_kernels *kernels = rz_ops_table(isa.encode())
    left, right = _padded(gate, 16), _padded(up, 16)
    kernels.relu2_mul(_floats(left), _floats(right), len(left))
    return left[: len(gate)]


def rotate(x, cos_sin, str isa, *, bint interleaved=False, float scale=1.0):
    """Returns x, [heads, dim], rotated by cos_sin, [2, half], and scaled."""
    cdef const rz_ops_kernels *kernels = rz_ops_table(isa.encode())
    out = np.array(x, np.float32, order="C")
    angles = np.ascontiguousarray(cos_sin, np.float32)
    kernels.rotate(_floats(out), out.shape[0], out.shape[1], _floats(angles), angles.shape[1], interleaved, scale)
    return out
