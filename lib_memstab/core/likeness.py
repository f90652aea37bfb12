"""How much two latents are alike in their details."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

DETAIL = 3 / 16
"""Side of what counts as a detail, as a share of the picture's shorter side."""


def likeness(one: Tensor, other: Tensor) -> Tensor:
    """Correlation of the details of latents [B, C, H, W], [B]: of what is finer than `DETAIL` of the picture.

    Pictures of one caption share what the caption says, which is coarse; the details only a replay shares.
    """
    return functional.cosine_similarity(details(one), details(other))


def details(latent: Tensor) -> Tensor:
    """`latent` without its local means, [B, C H W]."""
    reach = max(1, round((DETAIL * min(latent.shape[2:]) - 1) / 2))
    padded = functional.pad(latent, (reach,) * 4, mode="replicate")
    return (latent - functional.avg_pool2d(padded, 2 * reach + 1, 1)).flatten(1)
