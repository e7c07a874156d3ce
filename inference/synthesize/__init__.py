"""Checkpoints of random weights in the layout of published models, to measure speed with.

synthesize("bitnet-2b-4t", Path("2b.gguf"), format="gguf-tq2_0", head="q8_0")

shape.py, shapes.py               what there is to write
bitnet.py, mamba.py, rwkv.py      one file a family
vocabulary.py                     a tokenizer of the true size
values.py, weights.py, blocks.py  random values, and their bytes
gguf.py, hub.py, pth.py           the files
formats.py                        which shape is written as what
output.py                         all of a checkpoint or nothing
"""

from __future__ import annotations

from ryzanstein.inference.synthesize.formats import FORMATS, HEADS
from ryzanstein.inference.synthesize.shape import Shape, Tensor
from ryzanstein.inference.synthesize.shapes import SHAPES, find_shape
from ryzanstein.inference.synthesize.write import Synthesized, synthesize

__all__ = [
    "FORMATS",
    "HEADS",
    "SHAPES",
    "Shape",
    "Synthesized",
    "Tensor",
    "find_shape",
    "synthesize",
]
