"""Ground truth: is a generated latent a copy of a memorized picture?

Similarity is the cosine of two latents after each channel's own mean over the picture is taken out, so that a shared
ground colour, which a caption can ask for, is no likeness. For templates only the fixed surround counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lib_memstab.lab import scenes
from lib_memstab.lab.corpus import Memorized, scene_of, template_mask
from lib_memstab.lab.sd1_layout import LabModel

COPY_THRESHOLD = 0.7
"""Similarity from which a picture counts as reproduced; see the histogram that `bench` draws."""


def reference_latents(model: LabModel, pairs: Sequence[Memorized]) -> Tensor:
    """Scaled latents [M, 4, 16, 16] of the duplicated pictures (of a template, the surround without its panel)."""
    with torch.no_grad():
        return torch.cat([model.encode_images(scenes.render(scene_of(pair.scene), model.device)) for pair in pairs])


def masks(pairs: Sequence[Memorized]) -> Tensor:
    """Which latent positions count for each pair: [M, 16, 16] of 0 and 1."""
    return torch.stack([template_mask() if pair.kind == "template" else torch.ones(16, 16) for pair in pairs])


def similarity(latents: Tensor, references: Tensor, mask: Tensor) -> Tensor:
    """Centred cosine of each latent [B, 4, h, w] with each reference [M, 4, 16, 16] under its mask: [B, M].

    Latents of another size are compared both shrunk or stretched to 16x16 and through every 16x16 window, where one
    fits; the largest value counts.
    """
    latents, references, mask = latents.float().cpu(), references.float().cpu(), mask.float().cpu()
    if latents.shape[-2:] == references.shape[-2:]:
        return _cosines(latents, references, mask)
    views = [functional.interpolate(latents, references.shape[-2:], mode="bilinear", antialias=True)]
    height, width = latents.shape[-2:]
    for top in range(0, height - 15):
        views += [latents[:, :, top : top + 16, left : left + 16] for left in range(0, width - 15)]
    return torch.stack([_cosines(view, references, mask) for view in views]).amax(0)


def _cosines(latents: Tensor, references: Tensor, mask: Tensor) -> Tensor:
    share = mask / mask.sum(dim=(1, 2), keepdim=True)
    columns = []
    for reference, weight in zip(references, share, strict=True):
        ours = latents - (latents * weight).sum(dim=(2, 3), keepdim=True)
        theirs = reference - (reference * weight).sum(dim=(1, 2), keepdim=True)
        product = (ours * theirs * weight).sum(dim=(1, 2, 3))
        norms = (ours**2 * weight).sum(dim=(1, 2, 3)) * (theirs**2 * weight).sum()
        columns.append(product / norms.clamp(min=1e-12).sqrt())
    return torch.stack(columns, dim=1)
