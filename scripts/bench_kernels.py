"""Speed of the linear kernels at the shapes of real models, beside the machine's read bandwidth.

    python scripts/bench_kernels.py [--threads 1,2] [--tokens 1,512] [--forms int8/group] [--quick]

A matrix-vector product (one token) reads weights from memory: GB/s, and its share of the bandwidth
that a plain read of the same bytes reaches in the same run. A matrix-matrix product is bound by
arithmetic: GMAC/s, of all threads. Medians over rounds that alternate between probe and kernel. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from ryzanstein.inference.kernels import _linear
from ryzanstein.inference.kernels._linear import PackedMatrix
from ryzanstein.machine import cpu_name

LAYOUTS = [
    ("int4", "group"),
    ("int4", "min"),
    ("int5", "group"),
    ("int6", "half"),
    ("int8", "group"),
    ("f32", "none"),
]
# Qwen2.5 0.5B, SmolLM2-135M; Mamba-1.4B's in_proj, x_proj, dt_proj and out_proj; RWKV-7 1.5B's feed
# forward and a LoRA matrix; 0.5B's output matrix.
SHAPES = [
    (4864, 896),
    (896, 4864),
    (1536, 576),
    (8192, 2048),
    (160, 4096),
    (4096, 128),
    (2048, 4096),
    (2048, 8192),
    (2048, 96),
    (151936, 896),
]
FEW = 16  # tokens up to which weights come from memory, as in a model
STREAM_BYTES = 160_000_000  # copies of a small matrix, together larger than any cache


def seconds(work: Callable[[int], None], threads: int) -> float:
    """Time of the slowest of `threads` threads in `work(thread)`, its own: others may be busy."""
    own = [0.0] * threads

    def timed(thread: int) -> None:
        start = time.thread_time()
        work(thread)
        own[thread] = time.thread_time() - start

    others = [threading.Thread(target=timed, args=(i,)) for i in range(1, threads)]
    for thread in others:
        thread.start()
    timed(0)
    for thread in others:
        thread.join()
    return max(own)


def random_matrix(form: str, scale: str, rows: int, cols: int) -> PackedMatrix:
    """A matrix of random codes; scales of 2^-6."""
    packed = PackedMatrix(form, scale, rows, cols)
    if form == "f32":
        packed.codes.view(np.float32)[:] = 0.01
        return packed
    size = 64 if scale == "group" else 128
    packed.codes[:] = np.random.default_rng(0).integers(0, 256, packed.codes.shape[1:], np.uint8)
    packed.codes[..., -size:] = np.full(size // 2, 2.0**-6, np.float16).view(np.uint8)
    return packed


def measure(packed: PackedMatrix, tokens: int, threads: int, rounds: int) -> dict[str, float]:
    """One line of the table: the kernel and the probe in turns."""
    x = np.random.default_rng(1).normal(size=(tokens, packed.cols)).astype(np.float32)
    codes, scales, sums = _linear.quantize_activations(x)
    dense = np.zeros(codes.shape, np.float32)
    dense[:, : packed.cols] = x
    out = np.empty((tokens, packed.rows), np.float32)
    data = packed.codes.reshape(-1)
    share = [packed.panels * i // threads for i in range(threads + 1)]
    cuts = [packed.nbytes * i // threads for i in range(threads + 1)]

    def kernel(i: int) -> None:
        first, last = share[i], share[i + 1]
        _linear.time_linear(packed, codes, scales, sums, dense, out, first, last, 1)

    def probe(i: int) -> None:
        _linear.read_bytes(data[cuts[i] : cuts[i + 1]])

    times = [(seconds(probe, threads), seconds(kernel, threads)) for _ in range(rounds)]
    read, product = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "gb_s": round(packed.nbytes / product / 1e9, 2),
        "gmac_s": round(packed.rows * packed.cols * tokens / product / 1e9, 2),
        "probe_gb_s": round(packed.nbytes / read / 1e9, 2),
        "share_of_peak": round(read / product, 3),
    }


def main() -> None:
    """Prints one line a measurement and the whole as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--tokens", default="1,512")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--forms", default="", help="such as int8/group,int4/min")
    parser.add_argument("--shapes", default="", help="such as 8192x2048,160x4096")
    parser.add_argument("--quick", action="store_true", help="one shape only")
    arguments = parser.parse_args()
    layouts = [f.split("/") for f in arguments.forms.split(",") if f] or LAYOUTS
    shapes = [tuple(map(int, s.split("x"))) for s in arguments.shapes.split(",") if s] or SHAPES
    results = []
    for form, scale in layouts:
        for rows, cols in shapes[:1] if arguments.quick else shapes:
            for tokens in map(int, arguments.tokens.split(",")):
                if tokens > 1 and rows > 100_000:
                    continue  # prefill needs the head for its last token only
                one = random_matrix(form, scale, rows, cols)
                copies = max(1, STREAM_BYTES // one.nbytes) if tokens <= FEW else 1
                packed = random_matrix(form, scale, rows * copies, cols) if copies > 1 else one
                for threads in map(int, arguments.threads.split(",")):
                    line = measure(packed, tokens, threads, arguments.rounds)
                    head = {"form": f"{form}/{scale}", "rows": rows, "cols": cols}
                    results.append({**head, "tokens": tokens, "threads": threads, **line})
                    print(*(f"{k}={v}" for k, v in results[-1].items()), file=sys.stderr)
    report = {"machine": cpu_name(), "isa": _linear.chosen_isa(), "results": results}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
