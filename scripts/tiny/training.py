"""The training loop: Muon for matrices, AdamW for the rest, checkpoints, Ctrl-C at any moment.

Muon (Jordan et al., 2024; `torch.optim.Muon`) brings a small model in the same time to a loss
0.1 to 0.2 bits a byte lower than AdamW alone. What a step draws depends on the seed and the step
alone, so a run that was stopped and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import Corpus

__all__ = ["Interrupted", "Plan", "Trained", "train"]

_WARM_UP = 0.02
_SAVE_SECONDS = 60.0
_TELL_SECONDS = 10.0
_SMOOTHING = 100  # steps that the reported loss is averaged over
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


class Interrupted(Exception):
    """The run was stopped by Ctrl-C; its checkpoint is written."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train.

    Attributes:
        steps: Optimiser steps; rates rise over the first fiftieth and then fall to zero.
        windows: Windows of a step.
        matrix_rate: Muon's learning rate.
        other_rate: AdamW's learning rate, for embeddings, norms and the like.
        seed: Of the initial weights and of the windows.
    """

    steps: int
    windows: int = 8
    matrix_rate: float = 0.02
    other_rate: float = 4e-3
    matrix_decay: float = 0.01
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Trained:
    """What a finished run measured.

    Attributes:
        loss: Nats a byte on the training text, averaged over the last steps.
        seconds: By the clock.
        cpu_seconds: Of this process, which is less where others used the machine too.
    """

    loss: float
    seconds: float
    cpu_seconds: float


def train(
    model: nn.Module, matrices: list[nn.Parameter], corpus: Corpus, plan: Plan, out: Path
) -> Trained:
    """Trains to the end, beginning at the checkpoint in `out` where there is one.

    Raises:
        Interrupted: Ctrl-C was pressed; the same call goes on from there.
    """
    _keep_freed_memory()
    run = _Run(model, matrices, plan, out / "training.pt")
    run.resume()
    with _interruptible() as stopped:
        while run.step < plan.steps and not stopped:
            run.advance(corpus)
        run.save()
    if stopped:
        raise Interrupted(f"stopped at step {run.step} of {plan.steps}; run it again to go on")
    return Trained(loss=run.loss, seconds=run.seconds, cpu_seconds=run.cpu_seconds)


class _Run:
    def __init__(
        self, model: nn.Module, matrices: list[nn.Parameter], plan: Plan, checkpoint: Path
    ) -> None:
        self.model, self.plan, self.checkpoint = model, plan, checkpoint
        self.step, self.loss = 0, math.nan
        self.before, self.cpu_before = 0.0, -time.process_time()
        self.began = self.told = self.saved = time.monotonic()
        chosen = {id(parameter) for parameter in matrices}
        others = [one for one in model.parameters() if id(one) not in chosen]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, plan.matrix_rate, weight_decay=plan.matrix_decay),
            torch.optim.AdamW(others, plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    @property
    def cpu_seconds(self) -> float:
        return self.cpu_before + time.process_time()

    def resume(self) -> None:
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        if state["plan"] != repr(self.plan):
            raise SystemExit(f"{self.checkpoint} is of another run: {state['plan']}. Remove it.")
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.loss, self.before = state["step"], state["loss"], state["seconds"]
        self.cpu_before += state["cpu_seconds"]
        _tell(f"resumed at step {self.step}")

    def save(self) -> None:
        state = {
            "plan": repr(self.plan),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "loss": self.loss,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)
        self.saved = time.monotonic()

    def advance(self, corpus: Corpus) -> None:
        """One step, with its news and its checkpoint where they are due."""
        loss = self._descend(*corpus.batch(self.plan.windows, self._generator()))
        self.step += 1
        weight = 1 / min(self.step, _SMOOTHING)
        self.loss = loss if self.step == 1 else self.loss + weight * (loss - self.loss)
        now = time.monotonic()
        if now - self.told > _TELL_SECONDS or self.step == self.plan.steps:
            self.told = now
            left = self.seconds / self.step * (self.plan.steps - self.step)
            _tell(
                f"step {self.step}/{self.plan.steps}  loss {self.loss:.4f} nats  "
                f"{self.seconds:.0f} s, {left:.0f} s left"
            )
        if now - self.saved > _SAVE_SECONDS:
            self.save()

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.plan.seed * 1_000_003 + self.step)

    def _descend(self, inputs: Tensor, targets: Tensor) -> float:
        logits = self.model(inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, rate in zip(
            self.optimizers, (self.plan.matrix_rate, self.plan.other_rate), strict=True
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * self._share()
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    def _share(self) -> float:
        """The share of the full learning rate at this step."""
        warm = max(1, int(self.plan.steps * _WARM_UP))
        return min((self.step + 1) / warm, (self.plan.steps - self.step) / (self.plan.steps - warm))


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Collects SIGINT instead of raising in the middle of a step; a second one raises at once."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        _tell("stopping after this step")

    before: Any = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _keep_freed_memory() -> None:
    """Has glibc reuse large blocks: every step frees what the next needs, and new pages cost."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
