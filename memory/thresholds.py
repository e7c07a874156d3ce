"""From which cosine on two texts are looked at, and from which on they may be merged.

Embedding models spread their cosines differently, so each has thresholds of its own, measured on
labelled pairs by `calibrate`. Until then the defaults hold: 0.75 proposes, which with wordllama on
STS-B is wrong in 46 % of the cases, and 0.90 merges (16 %) where the words agree as well.
"""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from ryzanstein.memory.records import Calibration
from ryzanstein.memory.schema import CalibrationRow

__all__ = ["MERGES", "PROPOSES", "load_thresholds", "store_thresholds"]

PROPOSES = 0.75
MERGES = 0.90


def load_thresholds(connection: Connection, model_id: str) -> Calibration:
    """Returns the thresholds of an embedding model; the defaults where it was not calibrated."""
    row = CalibrationRow
    query = select(row.proposes, row.merges, row.pairs, row.detail).where(row.model_id == model_id)
    found = connection.execute(query).one_or_none()
    if found is None:
        return Calibration(model_id, PROPOSES, MERGES)
    return Calibration(
        model_id, found.proposes, found.merges, found.pairs, json.loads(found.detail)
    )


def store_thresholds(connection: Connection, measured: Calibration, now: datetime) -> None:
    """Keeps the thresholds of an embedding model in place of older ones."""
    connection.execute(delete(CalibrationRow).where(CalibrationRow.model_id == measured.model_id))
    connection.execute(
        insert(CalibrationRow).values(
            model_id=measured.model_id,
            proposes=measured.proposes,
            merges=measured.merges,
            pairs=measured.pairs,
            detail=json.dumps(measured.detail),
            created=now,
        )
    )
