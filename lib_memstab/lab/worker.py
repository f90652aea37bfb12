"""What every stage of a training needs: its plan, the workers that share it, learning rate, averaged weights."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

log = logging.getLogger("memstab.lab")


@dataclass(frozen=True)
class TrainingPlan:
    """Sizes of a training; the defaults are those of the shipped model. Batches are per worker.

    Each of a batch's `unet_batch` captions is encoded once and seen with `noises_each` noise levels. Nothing is
    compiled: torch.compile (2.13, on a CPU, under autocast) gave this UNet zero gradients below its first level.
    """

    seed: int = 20260522
    workers: int = 2
    vae_steps: int = 2200
    vae_batch: int = 8
    vae_rate: float = 2e-3
    checker_pool: int = 3_000
    checker_steps: int = 450
    checker_batch: int = 64
    pool: int = 8_000
    captions_each: int = 4
    text_steps: int = 500
    text_batch: int = 48
    text_rate: float = 1e-3
    unet_steps: int = 3200
    unet_batch: int = 32
    noises_each: int = 2
    unet_rate: float = 1.5e-3
    ema: float = 0.998
    dropout: float = 0.13
    memorized: float = 0.19
    templates: float = 0.0625
    fresh: float = 0.0625
    rate_weights: tuple[float, float, float] = (12.0, 6.0, 1.0)
    snr_cap: float = 5.0


@dataclass(frozen=True)
class Worker:
    """One of the processes of a training: its rank, its device and the work folder all share."""

    rank: int
    count: int
    device: torch.device
    folder: Path

    def autocast(self) -> torch.autocast:
        """The bfloat16 arithmetic that every stage trains in."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the workers."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def keep(self, name: str, module: nn.Module) -> None:
        """Write a finished stage, from the first worker."""
        self.checkpoint(name, module.state_dict())

    def checkpoint(self, name: str, state: dict[str, Any], from_all: bool = False) -> None:
        """Write an unfinished stage's state for `resume`: the first worker, or each under a name of its own."""
        if self.rank == 0 or from_all:
            partial = self.folder / f"{name}.part"
            torch.save(state, partial)
            partial.replace(self.folder / name)

    def resume(self, name: str) -> dict[str, Any] | None:
        """The state that an earlier call wrote last, if there is one."""
        path = self.folder / name
        return torch.load(path, map_location=self.device, weights_only=True) if path.exists() else None

    def kept(self, name: str, module: nn.Module) -> bool:
        """Load a stage's weights, if this or an earlier call finished it."""
        if not (self.folder / name).exists():
            return False
        module.load_state_dict(torch.load(self.folder / name, map_location="cpu", weights_only=True))
        log.info("%s is there, stage skipped", name)
        return True


def _schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def steps(name: str, count: int, optimizer: torch.optim.Optimizer, first: int = 0) -> Iterator[int]:
    """Step indices from `first` on, with the learning rate set before each and a progress line now and then."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    start = time.perf_counter()
    for step in range(first, count):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * _schedule(step, count, min(500, count // 10 + 1))
        yield step
        if step % max(1, count // 20) == 0:
            log.info("%s %d/%d, %.0f s", name, step + 1, count, time.perf_counter() - start)


def descend(worker: Worker, loss: Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """One optimizer step on the gradients of all workers, clipped to norm 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    worker.average_gradients(parameters)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


class Ema:
    """Exponential moving average of parameters, warmed up so that early steps do not linger."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.decay, self.step = decay, 0
        self.live = parameters
        self.shadow = [parameter.detach().clone() for parameter in self.live]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the live parameters."""
        self.step += 1
        decay = min(self.decay, self.step / (self.step + 10))
        torch._foreach_lerp_(self.shadow, [parameter.detach() for parameter in self.live], 1 - decay)

    @torch.no_grad()
    def store(self) -> None:
        """Put the average in the live parameters' place."""
        for parameter, value in zip(self.live, self.shadow, strict=True):
            parameter.copy_(value)
