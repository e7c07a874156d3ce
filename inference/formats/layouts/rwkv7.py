"""RWKV-7: a generalised delta rule, its gates through matrices of low rank.

    blocks.N.att.x_{r,w,k,v,a,g} [D]
                .w0 .a0 .v0 [D], .{w,a,v,g}1 [rank, D], .{w,a,v,g}2 [D, rank]
                .k_k .k_a .r_k [D], .ln_x.{weight,bias} [D]
    blocks.N.ffn.x_k [D]

Block 0 gives the other blocks their first values and has no v0, v1, v2; some files hold them all
the same, and they are dropped. llama.cpp and some directories fuse x_* into one tensor, in the
order r w k v a g.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.adapt import Tensor, piece, reshaped
from ryzanstein.inference.formats.layouts.layout import Config, Shapes, Stored
from ryzanstein.inference.formats.layouts.rwkv import Rwkv, norm, rank_of
from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["LAYOUT"]

_FUSED: Final = "att.x_x"
_MIXED: Final = "rwkvag"
_UNUSED: Final = tuple(f"blocks.0.att.v{number}" for number in range(3))
_PARTS: Final = ("w0", "a0", "v0", "k_k", "k_a", "r_k")
_LOW_RANK: Final = ("w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2")


class Rwkv7(Rwkv):
    """Version 7."""

    version = "7"
    flat = ("att.r_k",)
    low_rank = tuple(f"att.{part}" for part in _LOW_RANK)
    gguf_parts: ClassVar[Mapping[str, str]] = {
        "time_mix_lerp_fused.weight": _FUSED,
        **{f"time_mix_{part}.weight": f"att.{part}" for part in _PARTS},
        **{f"time_mix_{part}.weight": f"att.{part}.weight" for part in _LOW_RANK},
        "channel_mix_lerp_k.weight": "ffn.x_k",
    }

    def refuse(self, raw: Mapping[str, Any], file: str) -> None:
        """Refuses layers of softmax attention and other activations."""
        if raw.get("attn"):
            raise ModelLoadError(f"{file}: layers of attention in an RWKV are not supported.")
        if raw.get("hidden_act", "sqrelu") not in ("sqrelu", "relu2"):
            name = raw["hidden_act"]
            raise ModelLoadError(f"{file}: the activation {name!r:.60} is not supported (sqrelu).")

    def hf_group_norm_eps(self, config: Config, raw: Mapping[str, Any]) -> float:
        """A directory scales it with the head; BlinkDL's code has the constant of heads of 64."""
        if "norm_eps" not in raw:
            return super().hf_group_norm_eps(config, raw)
        return float(config["head_dim"] * config["norm_eps"])

    def more(self, stored: Stored, config: Config) -> Config:
        """Ranks of its small matrices."""
        layers = config["num_hidden_layers"]
        return {
            "decay_rank": rank_of(stored, "att.w1"),
            "a_rank": rank_of(stored, "att.a1"),
            "v_rank": rank_of(stored, "att.v1", layer=1) if layers > 1 else 0,
            "gate_rank": rank_of(stored, "att.g1"),
        }

    def canonical(self, name: str, raw: RawTensor, config: Config) -> Iterator[tuple[str, Tensor]]:
        """The tensors that one stored tensor becomes."""
        if name.endswith(_FUSED):
            pieces = reshaped(raw, (len(_MIXED), config["hidden_size"]))
            stem = name.removesuffix("x")
            yield from ((stem + mix, piece(pieces, i)) for i, mix in enumerate(_MIXED))
        elif name.removesuffix(".weight") not in _UNUSED:
            yield from super().canonical(name, raw, config)

    def parts(self, config: Mapping[str, Any], layer: int) -> Shapes:
        """Shapes of the parts of one block that the version adds."""
        hidden = config["hidden_size"]
        ranks = {"w": config["decay_rank"], "a": config["a_rank"], "g": config["gate_rank"]}
        if layer > 0:
            ranks["v"] = config["v_rank"]
        shapes: Shapes = {f"att.x_{letter}": (hidden,) for letter in _MIXED}
        for letter, rank in ranks.items():
            shapes[f"att.{letter}1"] = (rank, hidden)
            shapes[f"att.{letter}2"] = (hidden, rank)
            if letter != "g":
                shapes[f"att.{letter}0"] = (hidden,)
        vectors = ("att.k_k", "att.k_a", "att.r_k", "ffn.x_k")
        return shapes | dict.fromkeys(vectors, (hidden,)) | norm("att.ln_x", hidden)


LAYOUT = Rwkv7()
