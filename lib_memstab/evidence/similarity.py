"""How alike two pictures are: the tiled distance of Carlini et al. 2023, which needs nothing downloaded."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Pictures = NDArray[np.uint8]
"""Pictures as they are shown: [N, H, W, 3]."""

FloatArray = NDArray[np.float64]

SIDE: Final = 64
"""Pictures are compared at this many pixels a side, whatever their size and shape."""

TILES: Final = 4
"""Tiles a side: 16 in all, as in Carlini et al. 2023."""


class PictureError(ValueError):
    """An array that is no pictures; the message says what is asked for."""


def thumbnails(pictures: Pictures) -> Pictures:
    """Pictures [N, H, W, 3] averaged over areas to [N, 64, 64, 3]: all that `tiled_distance` looks at.

    A thumbnail's thumbnail is itself, so that thumbnails can be kept in place of the pictures.

    Raises:
        PictureError: for anything but uint8 of four dimensions, the last of them 3.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3 or 0 in pictures.shape[1:3]:
        raise PictureError(f"pictures are uint8 [N, H, W, 3], not {pictures.dtype} {list(pictures.shape)}")
    if pictures.shape[1:3] == (SIDE, SIDE):
        return pictures
    small = [
        functional.interpolate(torch.from_numpy(one).permute(2, 0, 1)[None].float(), (SIDE, SIDE), mode="area")
        for one in pictures
    ]
    whole = torch.cat(small) if small else torch.zeros(0, 3, SIDE, SIDE)
    return whole.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def tiled_distance(pictures_a: Pictures, pictures_b: Pictures) -> FloatArray:
    """Distance of every picture of a to every one of b, 0 (the same) to 1 (black and white): [N, M].

    Carlini et al. 2023, "Extracting Training Data from Diffusion Models", section 4: pictures are cut into 16 tiles
    that do not overlap, and the largest distance of two corresponding tiles counts, so that pictures that share a large
    plain ground are not taken for copies. A tile's distance is the root of the mean squared difference of its values
    from 0 to 1. Pictures may be of any two sizes: they are compared as `thumbnails`.

    Args:
        pictures_a: uint8 [N, H, W, 3].
        pictures_b: uint8 [M, H', W', 3].

    Raises:
        PictureError: for other arrays.
    """
    tiles_a, tiles_b = _tiles(pictures_a), _tiles(pictures_b)
    largest = torch.zeros(len(pictures_a), len(pictures_b))
    for one, other in zip(tiles_a, tiles_b, strict=True):
        # By matrix products the distance of two equal tiles would not be 0.
        distance = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
        largest = torch.maximum(largest, distance)
    return (largest / tiles_a.shape[2] ** 0.5).clamp(max=1).double().numpy()


def _tiles(pictures: Pictures) -> Tensor:
    """The tiles of each picture, values from 0 to 1: [16, N, values of a tile]."""
    small = torch.from_numpy(thumbnails(pictures)).float() / 255
    across = SIDE // TILES
    cut = small.reshape(-1, TILES, across, TILES, across, 3).permute(1, 3, 0, 2, 4, 5)
    return cut.reshape(TILES * TILES, len(pictures), across * across * 3)
