"""One denoiser evaluation of a batch: what went in, what was predicted, and how it was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lib_memstab.core.measurement import Measurement

Evaluate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x rows, sigma rows, text rows) -> conditional noise prediction of those rows: one extra evaluation each."""


@dataclass(frozen=True)
class Evaluation:
    """One denoiser evaluation: x = x0 + sigma noise, predictions [B, C, H, W], sigma [B], the guidance scale in use.

    `measured` is its measurement, as it is judged. `hardest` [B]: where a prompt has several parts, the update norm of
    the one that pulls hardest. `anew`, bool [B]: images that are held against something else from now on, so that their
    paths begin anew.
    """

    x: Tensor
    sigma: Tensor
    eps_cond: Tensor
    eps_uncond: Tensor
    eps: Tensor
    guidance: float
    text: Tensor | None
    evaluate: Evaluate | None
    measured: Measurement
    hardest: Tensor | None = None
    anew: Tensor | None = None

    def x0(self, eps: Tensor) -> Tensor:
        """The picture that is left when this noise prediction is taken away, float32 [B, C, H, W]."""
        x = self.x.float()
        return x - spread(self.sigma, x) * eps.float()


def spread(values: Tensor, like: Tensor) -> Tensor:
    """`values` [B] shaped to multiply `like` [B, ...]."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))
