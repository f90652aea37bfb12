"""How much two latents are alike in their details."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

DETAIL = 3 / 16
"""Side of what counts as a detail, as a share of the picture's shorter side."""


def likeness(one: Tensor, other: Tensor) -> Tensor:
    """Correlation of the evened details of latents [B, C, H, W], [B]: of what is finer than `DETAIL` of the picture.

    Pictures of one caption share what the caption says, which is coarse; the details only a replay shares.
    """
    return functional.cosine_similarity(evened(one), evened(other))


def details(latent: Tensor) -> Tensor:
    """`latent` without its local means, [B, C H W]."""
    reach = max(1, round((DETAIL * min(latent.shape[2:]) - 1) / 2))
    padded = functional.pad(latent, (reach,) * 4, mode="replicate")
    return (latent - functional.avg_pool2d(padded, 2 * reach + 1, 1)).flatten(1)


def evened(latent: Tensor) -> Tensor:
    """The details of `latent`, no spatial frequency stronger than the median one of its image, float32 [B, C H W].

    A caption may ask for a fine pattern that lies the same in all its pictures, such as dots. That is some few strong
    frequencies; a replay agrees in nearly all. Phase correlation (Kuglin and Hines 1975) counts all alike, the weak
    ones too, which are mostly noise.
    """
    spectrum = torch.fft.rfft2(details(latent.float()).view(latent.shape))
    strength = spectrum.abs()
    median = strength.flatten(1).median(dim=1).values.view(-1, 1, 1, 1)
    even = spectrum * (median / strength.clamp(min=1e-12)).clamp(max=1)
    return torch.fft.irfft2(even, s=latent.shape[2:]).flatten(1)
