"""The script that times Mamba's operators alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_scans.py"


def test_every_operator_of_a_shape_is_timed_for_a_prompt_and_for_one_token() -> None:
    command = [sys.executable, str(SCRIPT), "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [(row["shape"], row["operator"]) for row in rows] == [
        *[("mamba-130m", "conv"), ("mamba-130m", "scan")],
        *[("mamba-1.4b", "conv"), ("mamba-1.4b", "scan")],
        *[("mamba2-1.3b", "conv"), ("mamba2-1.3b", "dual")],
    ]
    assert all(row["prompt_us"] > 0 and row["one_us"] > 0 for row in rows)
