"""One denoiser evaluation, measured per image: norms of the noise predictions and the path they add up to.

Everything is float32, on the tensors' device, without a host synchronisation. Notation: eps_c and eps_u are the
conditional and unconditional noise predictions, delta = eps_c - eps_u, w a guidance scale, D the values of one latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

REFERENCE_GUIDANCE = 30.0
"""Guidance at which the update norm is measured, whatever guidance the user samples with."""


def eps_from_denoised(x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
    """Noise prediction of an x0-type sampler's model output: (x - x0) / sigma.

    `x`, `denoised` [B, ...] at x = x0 + sigma noise, `sigma` [B]. A sigma of zero gives non-finite rows, which
    `measure` marks as not valid.
    """
    return (x - denoised) / sigma.view(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class Measurement:
    """Mean products of one evaluation, float32 [B] each, over all D latent values of an image.

    Attributes:
        sigma: noise level of x = x0 + sigma noise.
        uncond: |eps_u|^2 / D.
        cross: <eps_u, delta> / D.
        delta: |delta|^2 / D; its root is the guidance magnitude of Wen et al. 2024.
        finite: bool [B]; all of the above are finite.
        valid: bool [B]; a verdict may rest on this evaluation: finite, sigma above zero, and delta not exactly zero
            (where a host skips the unconditional rows it repeats the conditional ones).
    """

    sigma: Tensor
    uncond: Tensor
    cross: Tensor
    delta: Tensor
    finite: Tensor
    valid: Tensor

    def update_norm(self, guidance: float = REFERENCE_GUIDANCE) -> Tensor:
        """RMS of eps_u + w delta [B]: the latent update norm per unit of sigma at guidance w."""
        return (self.uncond + 2 * guidance * self.cross + guidance**2 * self.delta).clamp(min=0).sqrt()


def measure(sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor) -> Measurement:
    """Measure one evaluation; `sigma` [B], predictions [B, C, H, W] of any float type on any device."""
    uncond = eps_uncond.float().flatten(1)
    delta = eps_cond.float().flatten(1) - uncond
    noise = sigma.float()
    parts = [(uncond * uncond).mean(1), (uncond * delta).mean(1), (delta * delta).mean(1)]
    finite = torch.stack([*parts, noise]).isfinite().all(0)
    return Measurement(noise, parts[0], parts[1], parts[2], finite, finite & (noise > 0) & (parts[2] > 0))


class _Way(NamedTuple):
    """How far images have come, all [B]: see `PathLength`. `step` is the last one, which ends at `place`."""

    walked: Tensor
    unit: Tensor
    step: Tensor
    place: Tensor
    norm: Tensor


class PathLength:
    """Length of the path walked so far through noise levels, relative to that of noise of unit norm, per image.

    L(i) = [sum_{j<i} (n_j + n_{j+1}) / 2 (t_j - t_{j+1})+ + c t_i n_i] / [the same with n = 1], n the update norm, t
    the square root of sigma, and c = 1/4 the share of the way ahead that the current norm stands for. Over sigma itself
    nearly three quarters of a path of 20 steps are over after five, and prompts differ most at the first.

    Rising noise levels (restarts) add nothing. A level that is evaluated twice in a row counts once, by the smaller
    norm: a sampler of two stages comes back to it with a picture that it has moved too far, where every prompt pulls.
    """

    AHEAD = 0.25
    SAME = 1e-4
    """Noise levels that differ by no more than this share of them are the same one."""

    def __init__(self) -> None:
        self._way: _Way | None = None

    @property
    def begun(self) -> bool:
        """Whether it has taken an evaluation."""
        return self._way is not None

    def update(self, sigma: Tensor, norm: Tensor, valid: Tensor) -> Tensor:
        """Take one evaluation (`sigma`, `norm`, `valid` [B]); L [B]. Rows that are not valid keep their path."""
        zero, one = torch.zeros_like(norm), torch.ones_like(norm)
        norm, place = torch.where(valid, norm, one), torch.where(valid, sigma, one).sqrt()
        way = self._way or _Way(zero, zero, zero, place, norm)
        again = valid & ((way.place - place).abs() <= self.SAME / 2 * way.place)
        norm = torch.where(again, torch.minimum(norm, way.norm), norm)
        step = torch.where(again, way.step, torch.where(valid, (way.place - place).clamp(min=0), zero))
        # Either one more step is walked, or the norm at the last one's end is known better.
        walked = way.walked + step / 2 * torch.where(again, norm - way.norm, norm + way.norm)
        unit = way.unit + torch.where(again, zero, step)
        place, norm = torch.where(valid, place, way.place), torch.where(valid, norm, way.norm)
        self._way = _Way(walked, unit, step, place, norm)
        ahead = self.AHEAD * place
        return (walked + ahead * norm) / (unit + ahead)

    def restart(self, rows: Tensor) -> None:
        """Begin anew at the next evaluation, for these rows, bool [B]."""
        if self._way is not None:
            walked, unit, step, place = (torch.where(rows, torch.zeros_like(part), part) for part in self._way[:-1])
            self._way = _Way(walked, unit, step, place, self._way.norm)
