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
    """How far images have come, all [B]: see `PathLength`.

    `walked` goes to where the last step, of length `step`, began; `unit` to `place`, where it ends. `norm` is that of
    its end, `before` of its beginning.
    """

    walked: Tensor
    unit: Tensor
    step: Tensor
    place: Tensor
    norm: Tensor
    before: Tensor

    def least(self) -> Tensor:
        """What the last step counts by."""
        return torch.minimum(self.norm, self.before)


class PathLength:
    """Length of the path walked so far through noise levels, relative to that of noise of unit norm, per image.

    L(i) = [sum_{j<i} min(n_j, n_{j+1}) (t_j - t_{j+1})+ + c t_i min(n_{i-1}, n_i)] / [the same with n = 1]

    n is the update norm, t the square root of sigma, and c = 1/4 the share of the way ahead that the last step stands
    for. Over sigma itself nearly three quarters of a path of 20 steps are over after five, and prompts differ most at
    the first. Of a step's two norms the smaller one counts: samplers of higher order move a picture too far now and
    then, where every prompt pulls hard, and a replay pulls on.

    Rising noise levels (restarts) add nothing. A level that is evaluated twice in a row counts once, by the smaller
    norm, too: a sampler of two stages comes back to it with a picture that it has moved too far.
    """

    AHEAD = 0.25
    SAME = 1e-4
    """Noise levels that differ by no more than this share of them are the same one."""

    _NONE = torch.finfo(torch.float32).max
    """The norm where there is none yet: any other is smaller."""

    def __init__(self) -> None:
        self._way: _Way | None = None

    @property
    def begun(self) -> bool:
        """Whether it has taken an evaluation."""
        return self._way is not None

    def update(self, sigma: Tensor, norm: Tensor, valid: Tensor) -> Tensor:
        """Take one evaluation (`sigma`, `norm`, `valid` [B]); L [B]. Rows that are not valid keep their path."""
        place = torch.where(valid, sigma, torch.ones_like(sigma)).sqrt()
        way = self._way
        if way is None:
            zero, none = torch.zeros_like(norm), torch.full_like(norm, self._NONE)
            way = _Way(zero, zero, zero, place, none, none)
        again = valid & ((way.place - place).abs() <= self.SAME / 2 * way.place)
        moved = valid & ~again
        step = (way.place - place).clamp(min=0)
        way = _Way(
            torch.where(moved, way.walked + way.step * way.least(), way.walked),
            torch.where(moved, way.unit + step, way.unit),
            torch.where(moved, step, way.step),
            torch.where(moved, place, way.place),
            torch.where(moved, norm, torch.where(again, torch.minimum(norm, way.norm), way.norm)),
            torch.where(moved, way.norm, way.before),
        )
        self._way = way
        ahead = self.AHEAD * way.place
        return (way.walked + (way.step + ahead) * way.least()) / (way.unit + ahead)

    def restart(self, rows: Tensor) -> None:
        """Begin anew at the next evaluation, for these rows, bool [B]."""
        if self._way is not None:
            walked, unit, step, place = (torch.where(rows, torch.zeros_like(part), part) for part in self._way[:-2])
            norm, before = (torch.where(rows, torch.full_like(part, self._NONE), part) for part in self._way[-2:])
            self._way = _Way(walked, unit, step, place, norm, before)
