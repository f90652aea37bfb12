"""One evaluation as the host lays it out in rows, and as the core wants it: noise predictions of each image.

Rows of an evaluation: image 0's AND parts, image 1's, ..., then one without the prompt for each image. Samplers of
k-diffusion hand x0 predictions at x = x0 + sigma noise about, those over timesteps noise predictions at
x = sqrt(a) x0 + sqrt(1 - a) noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_memstab.core.evaluation import spread
from lib_memstab.core.measurement import eps_from_denoised, measure
from lib_memstab.host.port import HostError


@dataclass(frozen=True)
class Parts:
    """How the AND parts of a batch's prompts lie in rows.

    Attributes:
        owner, weight: each row's image and weight, both [R].
        total: sum of each image's weights without their signs [B], 1 at least.
        count: images.
        single: whether each has one part of weight 1.
    """

    owner: Tensor
    weight: Tensor
    total: Tensor
    count: int
    single: bool

    @classmethod
    def of(cls, weights: Sequence[Sequence[float]], device: torch.device) -> Parts:
        """From each image's weights."""
        owner = [image for image, own in enumerate(weights) for _ in own]
        flat = [float(weight) for own in weights for weight in own]
        return cls(
            torch.tensor(owner, device=device),
            torch.tensor(flat, device=device),
            torch.tensor([max(1.0, sum(map(abs, own))) for own in weights], device=device),
            len(weights),
            all(len(own) == 1 and own[0] == 1 for own in weights),
        )


@dataclass(frozen=True)
class Rows:
    """One evaluation: latents x = x0 + sigma noise and predictions [B, C, H, W], sigma [B].

    `judged`: the prediction with the mean pull of the prompt's parts. Parts add up, and two ordinary ones together pull
    as no ordinary prompt does; their mean does not. A replay can hide in it behind an ordinary part, so
    `hardest` is the update norm [B] of the part that pulls hardest, whatever its weight; None where each has one part.
    `copied`, bool [B]: the host skipped the evaluation without the prompt and repeated the other in its place.
    `with_prompt` [R, C, H, W]: each part's own prediction.
    """

    x: Tensor
    sigma: Tensor
    eps_cond: Tensor
    eps_uncond: Tensor
    judged: Tensor
    hardest: Tensor | None
    copied: Tensor
    with_prompt: Tensor


def hardest(with_prompt: Tensor, sigma: Tensor, without: Tensor, parts: Parts) -> Tensor | None:
    """The update norm [B] of each image's part that pulls hardest, against `without` [B, C, H, W]; `sigma` [B].

    None where each image has one part.
    """
    if parts.single:
        return None
    norm = _norms(with_prompt, sigma, without, parts)
    return norm.new_zeros(parts.count).scatter_reduce(0, parts.owner, norm, "amax")


def hardest_places(rows: Rows, parts: Parts, images: Tensor) -> Tensor:
    """The row [n] of the part that pulls hardest of each of these images, int64 [n]."""
    norm = _norms(rows.with_prompt, rows.sigma, rows.eps_uncond, parts)
    return torch.where(parts.owner == images[:, None], norm, -1.0).argmax(1)


def _norms(with_prompt: Tensor, sigma: Tensor, without: Tensor, parts: Parts) -> Tensor:
    """The update norm of each part [R] that has a share in its picture, 0 of others."""
    norm = measure(sigma[parts.owner], with_prompt, without[parts.owner]).update_norm()
    # A part without weight has no share in the picture, and one with a negative weight leads away from its own.
    return torch.where(parts.weight <= 0, torch.zeros_like(norm), norm)


def predictions(x: Tensor, level: Tensor, out: Tensor, alphas_cumprod: Tensor | None) -> Tensor:
    """Noise predictions of rows as the host has them, all [N, ...]: of x0 over sigmas, else they are such already."""
    return eps_from_denoised(x, out, level) if alphas_cumprod is None else out


def as_sampled(x: Tensor, sigma: float, like: Tensor, alphas_cumprod: Tensor | None) -> tuple[Tensor, Tensor]:
    """Latents x = x0 + sigma noise [N, ...] and their level [N], as `like` of the host's has it: sigma, or a timestep.

    The timestep is the one whose noise level is nearest.
    """
    if alphas_cumprod is None:
        return x, like.new_full((len(x),), sigma)
    alpha = 1 / (1 + sigma**2)
    timestep = (alphas_cumprod.float().log() - math.log(alpha)).abs().argmin()
    return x * alpha**0.5, timestep.to(like).expand(len(x))


def alpha_at(alphas_cumprod: Tensor, timestep: Tensor) -> Tensor:
    """Cumulative alpha at timesteps [B] that may be fractional, as UniPC's are: linear in log alpha."""
    table = alphas_cumprod.float().log()
    place = timestep.float().clamp(0, len(table) - 1)
    low = place.floor().long()
    return torch.lerp(table[low], table[(low + 1).clamp(max=len(table) - 1)], place - low).exp()


def read(x: Tensor, level: Tensor, out: Tensor, parts: Parts, alphas_cumprod: Tensor | None) -> Rows:
    """The rows of one evaluation. `x`, `out` [R + B, C, H, W], `level` [R + B]: sigma, or timestep with alphas.

    Raises:
        HostError: if there are not as many rows as the prompts have parts.
    """
    count, total = parts.count, len(parts.owner) + parts.count
    if len(out) != total or len(x) != total or len(level) != total:
        raise HostError(f"the host evaluated {len(out)} rows where the prompts ask for {total}")
    if alphas_cumprod is None:
        sigma, latents = level, x[-count:]
    else:
        alpha = alpha_at(alphas_cumprod.to(level.device), level)
        sigma = ((1 - alpha) / alpha).sqrt()
        latents = x[-count:] / spread(alpha[-count:].sqrt(), x)
    eps = predictions(x, level, out, alphas_cumprod)
    with_prompt, without = eps[:-count], eps[-count:]
    first = torch.searchsorted(parts.owner, torch.arange(count, device=out.device))
    copied = (out[:-count][first] == out[-count:]).flatten(1).all(1)
    if parts.single:
        eps_cond = with_prompt
    else:
        delta = (with_prompt - without[parts.owner]) * spread(parts.weight, eps)
        eps_cond = without.index_add(0, parts.owner, delta)
    # A copy says nothing about the prompt's pull: equal predictions are what the core does not measure.
    eps_cond = torch.where(spread(copied, eps) > 0, without, eps_cond)
    judged = eps_cond if parts.single else without + (eps_cond - without) / spread(parts.total, eps)
    pull = hardest(with_prompt, sigma[-count:], without, parts)
    return Rows(latents, sigma[-count:], eps_cond, without, judged, pull, copied, with_prompt)
