"""Memory over the length of the past: the script's figures and its plot."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from ryzanstein.inference.bench.plot import Line, Panel, draw
from ryzanstein.inference.synthesize import SHAPES, synthesize
from tests.inference import tiny

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_context.py"
SVG = "{http://www.w3.org/2000/svg}"


def test_the_state_of_a_recurrent_model_stays_as_it_is_and_that_of_a_transformer_grows(
    tmp_path: Path,
) -> None:
    shape = replace(SHAPES["mamba-130m"], name="tiny", vocab=1200, hidden=128, layers=2)
    recurrent = synthesize(shape, tmp_path / "mamba.gguf", format="gguf-q8_0").path
    other = tiny.write_gguf(tmp_path / "llama.gguf", tiny.Shape(), "Q8_0")
    plot = tmp_path / "plot.svg"
    command = [sys.executable, str(SCRIPT), str(recurrent), "--beside", str(other)]
    command += ["--tokens", "100,3000", "--beside-tokens", "400", "--rounds", "1"]
    command += ["--threads", "1", "--new-tokens", "4", "--plot", str(plot)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["results"]
    assert [(row["model"], row["tokens"]) for row in rows] == [
        *[("mamba", 100), ("mamba", 3000)],
        *[("llama", 100), ("llama", 400)],
    ]
    assert rows[0]["state_mb"] == rows[1]["state_mb"]
    assert rows[1]["peak_rss_mb"] - rows[0]["peak_rss_mb"] < 3
    assert rows[3]["state_mb"] > 3 * rows[2]["state_mb"]
    assert all(row["ms_per_token"] > 0 and row["read_tok_s"] > 0 for row in rows)
    names = [text.text for text in ElementTree.parse(plot).iter(f"{SVG}text")]
    assert {"mamba", "llama", "ms a token", "100", "1,000"} <= set(names)


def test_a_plot_holds_every_point_inside_its_panel_and_names_that_do_not_overlap() -> None:
    flat = Line("flat <&>", [(100, 200.0), (1000, 200.0), (100_000, 201.0)])
    steep = Line("steep", [(100, 20.0), (1000, 199.0)])
    root = ElementTree.fromstring(draw([Panel("MB", [flat, steep])], "tokens"))
    dots = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in root.iter(f"{SVG}circle")]
    assert len(dots) == 5
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    assert dots[0][1] == dots[1][1] and dots[3][1] > dots[4][1]
    texts = {text.text: float(text.get("y", 0)) for text in root.iter(f"{SVG}text")}
    assert {"100", "1,000", "10,000", "100,000", "flat <&>", "0", "50", "250"} <= set(texts)
    assert abs(texts["flat <&>"] - texts["steep"]) >= 15
