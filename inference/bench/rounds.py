"""Engines that are measured in turns, back to back, with the memory's bandwidth beside each figure.

    probe  A  probe  B  probe  C  probe      one round; the bandwidth beside B is the mean of
                                             the probes around it

The bandwidth of a shared machine changes from minute to minute, so figures of different engines
mean something only next to each other: figures are medians over the rounds, ratios and shares are
medians of each round's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from ryzanstein.inference.bench.worker import Worker

__all__ = ["Entrant", "Sample", "run_rounds"]

_WARM_UP: Final = 64
_FEWEST: Final = 16
_NEW_AT_FIRST: Final = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one round, and the bytes a second that could be read around them."""

    prefill: float
    decode: float
    probe: float


@dataclass(slots=True)
class Entrant:
    """One engine with a loaded model.

    Attributes:
        worker: Its process.
        facts: What it said when it loaded.
        ids: The prompt.
        new_tokens: How many it writes after that.
        samples: One a round.
        memory: Peak resident bytes after its first round.
        state_bytes: Of its sequence at the end of a round, where it says.
        state_traffic: Of those, what a decoded token reads and writes, where it says.
    """

    worker: Worker
    facts: dict[str, Any]
    ids: Sequence[int]
    new_tokens: int
    samples: list[Sample] = field(default_factory=list)
    memory: int = 0
    state_bytes: int = 0
    state_traffic: int = 0

    def warm_up(self, patience: float | None) -> None:
        """Runs a little; an engine that is very slow gets less to do in `patience` seconds each."""
        first = self.ids[:_WARM_UP]
        taken = self._speed(first, _NEW_AT_FIRST)
        if patience is None:
            return
        prompt = int(patience / taken["prefill"] * len(first))
        new = int(patience / taken["decode"] * _NEW_AT_FIRST)
        self.ids = self.ids[: max(prompt, min(_FEWEST, len(self.ids)))]
        self.new_tokens = min(self.new_tokens, max(new, _NEW_AT_FIRST))

    def measure(self) -> dict[str, float]:
        """One round's seconds; the first also notes the memory."""
        taken = self._speed(self.ids, self.new_tokens)
        self.memory = self.memory or int(self.worker.ask("memory"))
        self.state_bytes = int(taken.get("state_bytes", 0))
        self.state_traffic = int(taken.get("state_traffic", 0))
        return taken

    def _speed(self, ids: Sequence[int], new_tokens: int) -> dict[str, float]:
        taken: dict[str, float] = self.worker.ask("speed", ids=list(ids), new_tokens=new_tokens)
        return taken

    def prefill_rates(self) -> list[float]:
        """Prompt tokens a second, a round each."""
        return [len(self.ids) / one.prefill for one in self.samples]

    def decode_rates(self) -> list[float]:
        """New tokens a second, a round each."""
        return [self.new_tokens / one.decode for one in self.samples]

    def figures(self, weight_bytes: int, state_traffic: int | None = None) -> dict[str, Any]:
        """Speeds, memory, and the share of the bandwidth that decoding reached.

        Args:
            weight_bytes: What a decoded token reads of the weights.
            state_traffic: What it reads and writes besides; None for what the engine says.
        """
        traffic = self.state_traffic if state_traffic is None else state_traffic
        bytes_per_token = weight_bytes + traffic
        rates = self.decode_rates()
        decode, seconds = median(rates), median(one.prefill for one in self.samples)
        probes = [one.probe for one in self.samples]
        shares = [bytes_per_token * r / p for r, p in zip(rates, probes, strict=True)]
        return {
            "prompt_tokens": len(self.ids),
            "new_tokens": self.new_tokens,
            "rounds": len(self.samples),
            "prefill_tok_s": round(len(self.ids) / seconds, 1),
            "decode_tok_s": round(decode, 1),
            "ttft_ms": round(1000 * seconds, 2),
            "load_s": round(self.facts["load_s"], 2),
            "peak_rss_mb": round(self.memory / 1e6, 1),
            "bytes_per_token": bytes_per_token,
            "state_bytes_per_token": traffic,
            "bandwidth_gb_s": round(bytes_per_token * decode / 1e9, 2),
            "peak_bandwidth_gb_s": round(median(probes) / 1e9, 2),
            "share_of_peak": round(median(shares), 3),
        }

    def ratios(self, peer: Entrant) -> dict[str, float]:
        """Its speed over the peer's of the same round."""
        return {
            "prefill_ratio": _ratio(self.prefill_rates(), peer.prefill_rates()),
            "decode_ratio": _ratio(self.decode_rates(), peer.decode_rates()),
        }


def run_rounds(
    entrants: Sequence[Entrant],
    probe: Callable[[], float],
    repeats: int,
    patience: float | None = None,
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Lets the engines run in turns; fills their samples, and reports rounds done and all."""
    for entrant in entrants:
        entrant.warm_up(patience)
    for done in range(repeats):
        if report is not None:
            report(done + 1, repeats + 1)  # the first was to warm up
        before = probe()
        for entrant in entrants:
            taken, after = entrant.measure(), probe()
            around = (before + after) / 2
            entrant.samples.append(Sample(taken["prefill"], taken["decode"], around))
            before = after


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(median(a / b for a, b in zip(ours, theirs, strict=True)), 3)
