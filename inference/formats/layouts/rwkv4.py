"""RWKV-4: one decay a channel, BlinkDL's .pth and transformers' RwkvForCausalLM.

    blocks.N.att.time_decay [A], .time_first [A], .time_mix_{k,v,r} [D]
    blocks.N.ffn.time_mix_{k,r} [D], .receptance.weight [D, D]

The decay is exp(-exp(time_decay)). transformers halves the residual stream every `rescale_every`
layers and divides the matrices that add to it when it loads them; the file holds them whole, so
there is nothing to undo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ryzanstein.inference.formats.layouts.layout import Shapes
from ryzanstein.inference.formats.layouts.rwkv import Rwkv

__all__ = ["LAYOUT"]


class Rwkv4(Rwkv):
    """Version 4."""

    version = "4"

    def parts(self, config: Mapping[str, Any], layer: int) -> Shapes:
        """Shapes of the parts of one block that the version adds."""
        hidden, attention = config["hidden_size"], config["attention_hidden_size"]
        return {
            "att.time_decay": (attention,),
            "att.time_first": (attention,),
            "att.time_mix_k": (hidden,),
            "att.time_mix_v": (hidden,),
            "att.time_mix_r": (hidden,),
            "ffn.time_mix_k": (hidden,),
            "ffn.time_mix_r": (hidden,),
            "ffn.receptance.weight": (hidden, hidden),
        }


LAYOUT = Rwkv4()
