"""RWKV-5: a matrix of state a head. Its three versions differ in two things.

    version   time_decay, time_faaaa          att.gate, att.time_mix_g
    5.0       [H], one number a head          no
    5.1       [H]                             yes
    5.2       [H·N], one number a channel     yes

Besides them: blocks.N.att.time_mix_{k,v,r} [D], .ln_x.{weight,bias} [D], blocks.N.ffn as in 4.
Old files have exp⁻¹ of time_faaaa, under the name time_first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ryzanstein.inference.formats.adapt import Tensor, computed
from ryzanstein.inference.formats.layouts.layout import Config, Shapes, Stored, UnsupportedModel
from ryzanstein.inference.formats.layouts.rwkv import Rwkv, norm
from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["LAYOUT"]


class Rwkv5(Rwkv):
    """Versions 5.0, 5.1 and 5.2."""

    version = "5"
    flat = ("att.time_decay", "att.time_faaaa")

    def heads(self, stored: Stored, attention: int, head_dim: int | None) -> int:
        """The decay has a number or a row a head."""
        decay = stored.get("blocks.0.att.time_decay")
        if decay is None or not decay.shape or not 0 < decay.shape[0] <= attention:
            raise UnsupportedModel("blocks.0.att.time_decay is missing or has no row a head")
        return decay.shape[0]

    def more(self, stored: Stored, config: Config) -> Config:
        """Which of the three it is."""
        gated = "blocks.0.att.gate.weight" in stored
        single = math.prod(stored["blocks.0.att.time_decay"].shape) == config["num_heads"]
        return {"rwkv_version": "5.2" if not single else "5.1" if gated else "5"}

    def canonical(self, name: str, raw: RawTensor, config: Config) -> Iterator[tuple[str, Tensor]]:
        """The tensors that one stored tensor becomes."""
        if name.endswith(".att.time_first"):
            flat = (math.prod(raw.shape),)
            bonus = computed(raw, flat, lambda values: np.exp(values).reshape(-1))
            yield name.removesuffix("time_first") + "time_faaaa", bonus
        else:
            yield from super().canonical(name, raw, config)

    def parts(self, config: Mapping[str, Any], layer: int) -> Shapes:
        """Shapes of the parts of one block that the version adds."""
        hidden, version = config["hidden_size"], config["rwkv_version"]
        decays = hidden if version == "5.2" else config["num_heads"]
        gate: Shapes = {"att.gate.weight": (hidden, hidden), "att.time_mix_g": (hidden,)}
        return {
            "att.time_decay": (decays,),
            "att.time_faaaa": (decays,),
            "att.time_mix_k": (hidden,),
            "att.time_mix_v": (hidden,),
            "att.time_mix_r": (hidden,),
            **({} if version == "5" else gate),
            **norm("att.ln_x", hidden),
            "ffn.time_mix_k": (hidden,),
            "ffn.time_mix_r": (hidden,),
            "ffn.receptance.weight": (hidden, hidden),
        }


LAYOUT = Rwkv5()
