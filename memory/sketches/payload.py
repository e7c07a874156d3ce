"""How a sketch is stored, and the hashes all sketches use.

    "RZSK" · version u8 · length of the header u16 · header JSON · data · BLAKE2b-8 of all before

Hashes are BLAKE2b: the same in every process and on every machine, unlike Python's own, and
independent of each other, as the bounds in the papers want them.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_HASHES", "BrokenSketch", "hashes", "pack", "unpack"]

MOST_HASHES = 8
_MAGIC = b"RZSK\x01"
_CHECKSUM = 8


class BrokenSketch(ValueError):
    """A payload is damaged or of another form; the sketch has to be counted again."""


def hashes(items: Sequence[str], count: int) -> NDArray[np.uint64]:
    """Returns `count` (at most 8) independent hashes of each text, uint64 [items, count]."""
    digests = [
        hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8 * count).digest()
        for item in items
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(len(items), count)


def pack(kind: str, header: dict[str, Any], data: bytes) -> bytes:
    """Returns the stored form."""
    words = json.dumps({"kind": kind, **header}, sort_keys=True).encode()
    body = _MAGIC + struct.pack("<H", len(words)) + words + data
    return body + _checksum(body)


def unpack(payload: bytes, kind: str) -> tuple[dict[str, Any], bytes]:
    """Returns header and data.

    Raises:
        BrokenSketch: It is damaged, or no sketch of this kind.
    """
    body, checksum = payload[:-_CHECKSUM], payload[-_CHECKSUM:]
    if not body.startswith(_MAGIC) or _checksum(body) != checksum:
        raise BrokenSketch(f"This is no sound payload of a {kind} sketch.")
    start = len(_MAGIC) + 2
    (length,) = struct.unpack_from("<H", body, len(_MAGIC))
    header: dict[str, Any] = json.loads(body[start : start + length])
    if header.pop("kind") != kind:
        raise BrokenSketch(f"This is a sketch of another kind than {kind}.")
    return header, body[start + length :]


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM).digest()
