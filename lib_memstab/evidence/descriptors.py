"""What tells a copy from a picture that is none: a descriptor of each picture, and how alike two descriptors are.

`TileDescriptor` needs nothing downloaded; `SscdDescriptor` takes the copy-detection network that the literature uses,
from a file that the user has.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from lib_memstab.evidence.similarity import FloatArray, Pictures, thumbnails

SSCD_THRESHOLD: Final = 0.5
"""Similarity from which SSCD calls two pictures copies in the literature on memorization."""

TILE_THRESHOLD: Final = 0.55
"""Similarity from which `TileDescriptor` does; see `python -m lib_memstab similarity`."""

_SSCD_SIDE, _SSCD_MEAN, _SSCD_DEVIATION = 320, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIDE, _TILES = 32, 4
_FLAT = 2.0 / 255
"""A tile whose values deviate less from their mean than this, root mean square, has nothing to compare."""


class DescriptorError(ValueError):
    """A copy-detection network that cannot be used; the message says what to do."""


class Descriptor(Protocol):
    """One way to tell copies.

    Attributes:
        name: for reports, with whatever two runs must share to be comparable.
        threshold: similarity from which two pictures count as copies.
    """

    name: str
    threshold: float

    def describe(self, pictures: Pictures) -> NDArray[Any]:
        """A small descriptor [N, D] of each picture [N, H, W, 3], which is all that has to be kept of it."""

    def similarity(self, a: NDArray[Any], b: NDArray[Any]) -> FloatArray:
        """How alike descriptors [N, D] and [M, D] are, 1 for the same picture: [N, M]."""


class TileDescriptor:
    """The middle one of 16 tiles' likenesses, on pictures of 32 by 32 pixels.

    Each tile's likeness is the cosine of its values in both pictures after each colour's own mean over the tile is
    taken out, so that a shared colour is no likeness. The median lets up to half of the picture differ, as copies of a
    template do. Tiles that are flat in both pictures have nothing to compare and are left out, so that a small thing on
    a plain ground is compared by itself; two pictures that are flat all over have likeness 0.

    It finds copies that stand where the training picture has them, and takes things of one outline at one place of a
    plain ground for copies. A copy that is shifted, mirrored, cropped or drawn in other colours is what a network such
    as SSCD is for.
    """

    name = "median likeness of 16 tiles (built in)"
    threshold = TILE_THRESHOLD

    def describe(self, pictures: Pictures) -> NDArray[Any]:
        """Thumbnails, uint8 [N, 3072]."""
        return thumbnails(pictures, _SIDE).reshape(len(pictures), _SIDE * _SIDE * 3)

    def similarity(self, a: NDArray[Any], b: NDArray[Any]) -> FloatArray:
        """Median likeness of the tiles that are not flat in both, [N, M] from -1 to 1."""
        (tiles_a, flat_a), (tiles_b, flat_b) = _centred(a), _centred(b)
        likeness = torch.einsum("tnd,tmd->tnm", tiles_a, tiles_b)
        likeness[flat_a[:, :, None] & flat_b[:, None, :]] = torch.nan
        middle = likeness.nanmedian(dim=0).values if likeness.numel() else likeness.new_zeros(len(a), len(b))
        return middle.nan_to_num(0.0).double().numpy()


def _centred(descriptors: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Tiles of unit length without their colours' means, [16, N, values], and which are flat, [16, N]."""
    across = _SIDE // _TILES
    values = torch.from_numpy(np.ascontiguousarray(descriptors)).float() / 255
    cut = values.reshape(-1, _TILES, across, _TILES, across, 3).permute(1, 3, 0, 2, 4, 5)
    tiles = cut.reshape(_TILES**2, len(descriptors), across * across, 3)
    tiles = (tiles - tiles.mean(dim=2, keepdim=True)).flatten(2)
    flat = tiles.square().mean(dim=2).sqrt() < _FLAT
    return functional.normalize(tiles, dim=2) * ~flat[..., None], flat


class SscdDescriptor:
    """Pizzi et al. 2022, "A Self-Supervised Descriptor for Image Copy Detection": cosine of two embeddings.

    The file is a TorchScript module as SSCD's authors publish them. TorchScript is a program, and loading it runs it:
    only files from a source that is trusted.

    Raises:
        DescriptorError: if the file is no such module.
    """

    threshold = SSCD_THRESHOLD

    def __init__(self, path: Path) -> None:
        try:
            self._network = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise DescriptorError(
                f"{path} is no TorchScript module ({reason}): give SSCD's own *.torchscript.pt file"
            ) from error
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.name = f"SSCD, {path.name}, sha256 {digest[:16]}"
        size = len(self.describe(np.zeros((1, 8, 8, 3), np.uint8))[0])
        if size < 2:
            raise DescriptorError(f"{path} gives {size} numbers for a picture: an SSCD file gives 512")

    @torch.no_grad()
    def describe(self, pictures: Pictures) -> NDArray[Any]:
        """Embeddings of unit length, float16 [N, D]; each picture is brought to 320 by 320 pixels."""
        rows = [self._network(_sscd_input(picture)) for picture in pictures]
        for row in rows:
            if not (isinstance(row, Tensor) and row.ndim == 2 and len(row) == 1 and bool(row.isfinite().all())):
                raise DescriptorError("the network gives no embedding [N, D] for a picture: give an SSCD file")
        whole = torch.cat(rows) if rows else torch.zeros(0, 2)
        return functional.normalize(whole.float(), dim=1).half().numpy()

    def similarity(self, a: NDArray[Any], b: NDArray[Any]) -> FloatArray:
        """Cosine, [N, M]."""
        one, other = (functional.normalize(torch.from_numpy(np.array(side)).double(), dim=1) for side in (a, b))
        return (one @ other.T).numpy()


def _sscd_input(picture: NDArray[np.uint8]) -> Tensor:
    """A picture [H, W, 3] as SSCD is fed: [1, 3, 320, 320]."""
    resized = Image.fromarray(picture).resize((_SSCD_SIDE, _SSCD_SIDE), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 255
    mean, deviation = (torch.tensor(three)[None, :, None, None] for three in (_SSCD_MEAN, _SSCD_DEVIATION))
    return (values - mean) / deviation


def chosen(sscd: Path | None) -> Descriptor:
    """The network where there is one, else what is built in; DescriptorError as `SscdDescriptor` has it."""
    return TileDescriptor() if sscd is None else SscdDescriptor(sscd)
