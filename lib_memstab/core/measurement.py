"""One denoiser evaluation, measured per image: norms of the noise predictions and the path they add up to.

Everything is float32, on the tensors' device, without a host synchronisation. Notation: eps_c and eps_u are the
conditional and unconditional noise predictions, delta = eps_c - eps_u, w a guidance scale, D the values of one latent.
"""

from __future__ import annotations

from dataclasses import dataclass

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


class PathLength:
    """Length of the path walked so far through noise levels, relative to that of noise of unit norm, per image.

    L(i) = [sum_{j<i} n_j (sigma_j - sigma_{j+1})+ + c sigma_i n_i] / [the same with n = 1], n the update norm and
    c = 1/4 the share of the way ahead that the current norm stands for. Midpoints, repeated and rising noise levels
    (two-stage samplers, restarts) add nothing but their own descent.
    """

    AHEAD = 0.25

    def __init__(self) -> None:
        self._walked: Tensor | None = None
        self._unit: Tensor | None = None
        self._sigma: Tensor | None = None
        self._norm: Tensor | None = None

    def update(self, sigma: Tensor, norm: Tensor, valid: Tensor) -> Tensor:
        """Take one evaluation (`sigma`, `norm`, `valid` [B]); L [B]. Rows that are not valid keep their path."""
        norm, sigma = torch.where(valid, norm, torch.ones_like(norm)), torch.where(valid, sigma, torch.ones_like(sigma))
        if self._walked is None or self._unit is None or self._sigma is None or self._norm is None:
            self._walked, self._unit = torch.zeros_like(norm), torch.zeros_like(norm)
            self._sigma, self._norm = sigma, norm
        descent = torch.where(valid, (self._sigma - sigma).clamp(min=0), torch.zeros_like(sigma))
        self._walked = self._walked + self._norm * descent
        self._unit = self._unit + descent
        self._sigma, self._norm = torch.where(valid, sigma, self._sigma), torch.where(valid, norm, self._norm)
        ahead = self.AHEAD * self._sigma
        return (self._walked + ahead * self._norm) / (self._unit + ahead)

    def restart(self, rows: Tensor) -> None:
        """Begin anew at the next evaluation, for these rows, bool [B]."""
        if self._walked is not None and self._unit is not None and self._sigma is not None:
            zero = torch.zeros_like(self._walked)
            self._walked, self._unit = torch.where(rows, zero, self._walked), torch.where(rows, zero, self._unit)
            self._sigma = torch.where(rows, zero, self._sigma)
