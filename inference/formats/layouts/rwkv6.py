"""RWKV-6: decay and token shift depend on the data, through matrices of low rank.

    blocks.N.att.time_maa_{x,w,k,v,r,g} [D]
                .time_maa_w1 [5·mix_rank, D], .time_maa_w2 [5, D, mix_rank], both in order w k v r g
                .time_decay [D], .time_decay_w1 [decay_rank, D], .time_decay_w2 [D, decay_rank]
                .time_faaaa [D], .gate.weight [D, D], .ln_x.{weight,bias} [D]
    blocks.N.ffn.time_maa_{k,r} [D], .receptance.weight [D, D]

llama.cpp fuses five of the first into one tensor [5, 1, 1, D]. It halves the residual stream every
`rescale_every_n_layers` layers, and its files hold att.output and ffn.value divided to match; here
they are multiplied back, which is exact, since the factors are powers of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from ryzanstein.inference.formats.adapt import Tensor, doubled, piece, reshaped
from ryzanstein.inference.formats.layouts.keys import Metadata, shown
from ryzanstein.inference.formats.layouts.layout import Config, Shapes, Stored, UnsupportedModel
from ryzanstein.inference.formats.layouts.rwkv import Rwkv, norm, rank_of
from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["LAYOUT"]

_FUSED: Final = "att.time_maa_fused"
_MIXED: Final = "wkvrg"
_RESCALED: Final = (".att.output.weight", ".ffn.value.weight")


class Rwkv6(Rwkv):
    """Version 6."""

    version = "6"
    flat = ("att.time_faaaa",)
    low_rank = ("att.time_maa_w1", "att.time_maa_w2", "att.time_decay_w1", "att.time_decay_w2")
    gguf_parts: ClassVar[Mapping[str, str]] = {
        "time_mix_w1.weight": "att.time_maa_w1.weight",
        "time_mix_w2.weight": "att.time_maa_w2.weight",
        "time_mix_decay.weight": "att.time_decay",
        "time_mix_decay_w1.weight": "att.time_decay_w1.weight",
        "time_mix_decay_w2.weight": "att.time_decay_w2.weight",
        "time_mix_first.weight": "att.time_faaaa",
        "time_mix_gate.weight": "att.gate.weight",
        "time_mix_lerp_fused.weight": _FUSED,
        **{f"time_mix_lerp_{letter}.weight": f"att.time_maa_{letter}" for letter in "xwkvrg"},
        "channel_mix_lerp_k.weight": "ffn.time_maa_k",
        "channel_mix_lerp_r.weight": "ffn.time_maa_r",
        "channel_mix_receptance.weight": "ffn.receptance.weight",
    }

    def gguf_config(self, metadata: Mapping[str, Any], stored: Stored) -> Config:
        """The configuration of metadata and tensors."""
        every = Metadata(metadata).get("rescale_every_n_layers")
        if every is not None and (type(every) is not int or every < 0):
            raise UnsupportedModel(f"its rescale_every_n_layers is {shown(every)}")
        return super().gguf_config(metadata, stored) | {"rescale_every": every or 0}

    def more(self, stored: Stored, config: Config) -> Config:
        """Ranks of its small matrices."""
        return {
            "mix_rank": max(rank_of(stored, "att.time_maa_w1") // len(_MIXED), 1),
            "decay_rank": rank_of(stored, "att.time_decay_w1"),
        }

    def canonical(self, name: str, raw: RawTensor, config: Config) -> Iterator[tuple[str, Tensor]]:
        """The tensors that one stored tensor becomes."""
        if name.endswith(_FUSED):
            pieces = reshaped(raw, (len(_MIXED), config["hidden_size"]))
            stem = name.removesuffix("fused")
            yield from ((stem + mix, piece(pieces, i)) for i, mix in enumerate(_MIXED))
        elif name.endswith(_RESCALED) and config.get("rescale_every", 0) > 0:
            halvings = min(int(name.split(".")[1]) // config["rescale_every"], 64)
            yield name, doubled(raw, halvings)
        else:
            yield from super().canonical(name, raw, config)

    def parts(self, config: Mapping[str, Any], layer: int) -> Shapes:
        """Shapes of the parts of one block that the version adds."""
        hidden, mix, decay = config["hidden_size"], config["mix_rank"], config["decay_rank"]
        return {
            **{f"att.time_maa_{letter}": (hidden,) for letter in "xwkvrg"},
            "att.time_maa_w1": (len(_MIXED) * mix, hidden),
            "att.time_maa_w2": (len(_MIXED), hidden, mix),
            "att.time_decay": (hidden,),
            "att.time_decay_w1": (decay, hidden),
            "att.time_decay_w2": (hidden, decay),
            "att.time_faaaa": (hidden,),
            "att.gate.weight": (hidden, hidden),
            **norm("att.ln_x", hidden),
            "ffn.time_maa_k": (hidden,),
            "ffn.time_maa_r": (hidden,),
            "ffn.receptance.weight": (hidden, hidden),
        }


LAYOUT = Rwkv6()
