"""Falcon-Mamba: Mamba's computation with norms, without weights, of dt, B and C.

Follows transformers' `modeling_falcon_mamba`; config["norm_bcdt_eps"] is their epsilon.
"""

from __future__ import annotations

from ryzanstein.inference.models.mamba import MambaArgs, build

__all__ = ["MambaArgs", "build"]
