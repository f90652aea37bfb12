"""Gradient attacks on a text embedding: what makes the model recall a picture, and at most what MemStab would notice.

In the spirit of "Finding DoRI" (arXiv 2507.16880): the model is frozen, only the text features are moved, so that the
denoiser predicts a chosen picture out of noise. The attacker knows the region that trajectories are held against, and
can ask that the update norm stays below its bound; and the noise of second looks, and can ask that their pictures are
others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib_memstab.core.likeness import likeness
from lib_memstab.core.measurement import measure
from lib_memstab.core.region import Region, interpolate
from lib_memstab.core.second_look import LOOKS, look, noises
from lib_memstab.lab.sampling import SAMPLERS, Evaluate, GuidedDenoiser, Job, sample
from lib_memstab.lab.sd1_layout import LabModel

SHYNESS = 0.02
"""Weight of likeness to a second look in an attacker's loss; a seventh of it hardly makes a look unlike in 60 steps."""

RATE = 0.03
"""Learning rate of Adam, in units of the text features, whose standard deviation is about 1."""


@dataclass(frozen=True)
class Lessons:
    """What an attacker's text is to predict: noisy latents x [N, 4, h, w] at sigma [N], the wanted noise prediction.

    `uncond` is what the model predicts there without a prompt. `weight` [h, w] is 1 where the picture counts.
    """

    x: Tensor
    sigma: Tensor
    wanted: Tensor
    uncond: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Watch:
    """What an attacker knows of the defence: the usual log update norm, and the deviation of the log path length.

    `table` has both, [2, K], over log sigma [K]; `threshold` is the score an image is flagged from.
    """

    log_sigma: Tensor
    table: Tensor
    threshold: float

    @classmethod
    def of(cls, model: LabModel, region: Region, sensitivity: float, guidance: float, ordinary: Sequence[str]) -> Watch:
        """A region's, for pictures that begin in pure noise, without a negative prompt.

        What is usual the attacker learns of some `ordinary` prompts, of the kind that the region is of. A path is an
        average of what came before, so its centre says little of a single step's norm, which rises towards the end.
        """
        deviation = torch.as_tensor(region.tables(guidance)[1][-1, 1], dtype=torch.float32)
        grid = torch.as_tensor(region.log_sigma, dtype=torch.float32)
        notes = _noted(model, Job(list(ordinary), list(range(len(ordinary)))))
        norms = [measure(sigma, cond, uncond).update_norm().log().mean() for _, sigma, cond, uncond in notes]
        levels = [math.log(float(sigma[0])) for _, sigma, _, _ in notes]
        usual = np.interp(grid.numpy(), levels[::-1], torch.stack(norms).cpu().numpy()[::-1])
        table = torch.stack([torch.from_numpy(usual).float(), deviation])
        return cls(grid.to(model.device), table.to(model.device), region.threshold(sensitivity))

    def excess(self, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor) -> Tensor:
        """Deviations [N] of the log update norm above what is usual: where every one is low, the path is."""
        usual, deviation = interpolate(self.log_sigma, self.table.expand(len(sigma), -1, -1), sigma)
        return (measure(sigma, eps_cond, eps_uncond).update_norm().clamp(min=1e-6).log() - usual) / deviation


def lessons_of_picture(
    model: LabModel, latent: Tensor, weight: Tensor, count: int, generator: torch.Generator
) -> Lessons:
    """Noisy copies of a picture's latents [4, h, w] at the noise levels that a sampler visits: the noise is wanted."""
    denoiser = bare_denoiser(model)
    levels = denoiser.schedule(Job.steps, SAMPLERS[Job.sampler].schedule)[:-1]
    sigma = levels[torch.arange(count) % len(levels)]
    latent, weight = latent.to(model.device), weight.to(model.device)
    noise = torch.randn((count, *latent.shape), generator=generator).to(latent)
    x = latent + sigma[:, None, None, None] * noise
    with torch.no_grad():
        uncond = denoiser.predict(x, sigma, denoiser.empty.expand(count, -1, -1))
    return Lessons(x, sigma, noise, uncond, weight)


class _Notes:
    """Takes down every evaluation of a job and touches nothing."""

    def __init__(self) -> None:
        self.rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def condition(self, text: Tensor) -> Tensor:
        return text

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        self.rows.append((x, sigma, eps_cond, eps_uncond))
        return eps


def _noted(model: LabModel, job: Job) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """x, sigma, and both predictions at each evaluation of a job, sampled without MemStab."""
    notes = _Notes()
    sample(model, job, notes)
    return notes.rows


def lessons_of_prompt(model: LabModel, prompt: str, seeds: Sequence[int]) -> Lessons:
    """The prompt's own predictions along its own trajectories, sampled without MemStab: no picture is needed."""
    notes = _noted(model, Job([prompt] * len(seeds), list(seeds)))
    x, sigma, cond, uncond = (torch.cat(column) for column in zip(*notes, strict=True))
    return Lessons(x, sigma, cond, uncond, x.new_ones(x.shape[-2:]))


def invert(
    model: LabModel,
    start: Tensor,
    lessons: Lessons,
    checkpoints: Sequence[int],
    watch: Watch | None = None,
    penalty: float = 0.0,
    draws: int = 4,
    seed: int = 0,
    rate: float = RATE,
    unlike: Tensor | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Move text features [T, D] towards the lessons; yields the text after each number of steps in `checkpoints`.

    Each step sees `draws` of the lessons. The loss is the mean squared error of the conditional prediction plus
    `penalty` times the mean of the excess over half of the threshold, in units of the threshold, squared. Where there
    is a picture `unlike`, latents [1, C, h, w], plus `SHYNESS` times the squared likeness of a second look to it.
    """
    denoiser = bare_denoiser(model)
    empty, unlike = denoiser.empty, None if unlike is None else unlike.to(model.device)
    generator = torch.Generator().manual_seed(seed)
    text = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([text], lr=rate)
    done = 0
    for checkpoint in sorted(checkpoints):
        for _ in range(checkpoint - done):
            rows = torch.randperm(len(lessons.x), generator=generator)[:draws]
            sigma = lessons.sigma[rows]
            eps = denoiser.predict(lessons.x[rows], sigma, text.expand(len(rows), -1, -1))
            error = (eps - lessons.wanted[rows]).square().mean(1) * lessons.weight
            loss = error.sum() / lessons.weight.sum() / len(rows)
            if watch is not None and penalty > 0:
                over = watch.excess(sigma, eps, lessons.uncond[rows]) / watch.threshold - 0.5
                loss = loss + penalty * over.clamp(min=0).square().mean()
            if unlike is not None:
                own = noises(unlike)[torch.randint(LOOKS, (1,), generator=generator)]
                seen = look(own, lambda x, at: (denoiser.predict(x, at, text[None]), denoiser.predict(x, at, empty)))
                loss = loss + SHYNESS * likeness(seen, unlike).clamp(min=0).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        done = checkpoint
        yield checkpoint, text.detach().clone()


def bare_denoiser(model: LabModel) -> GuidedDenoiser:
    """The model's predictions at any noise level and text, without guidance."""
    empty = model.encode_prompts([""])
    return GuidedDenoiser(model, empty, empty, 1.0, None)
