"""Does a picture fit its caption? A small classifier of the scene grammar, with an accuracy of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lib_memstab.lab import scenes
from lib_memstab.lab.scenes import COLORS, KINDS, LIGHT_OUTLINES, OUTLINES, PATTERNS, TERRAINS, SceneBatch

HEADS = {
    "kind": len(KINDS),
    "background": len(COLORS),
    "pattern": len(PATTERNS),
    "ground": len(COLORS),
    "terrain": len(TERRAINS),
}
FEATURES = 128
CELLS = 16
SMALLEST_OBJECT = 2.5
"""Cells that an object must cover to be seen as one."""
LANDSCAPE_ONLY = ("ground", "terrain")


def _conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class CaptionChecker(nn.Module):
    """Reads a picture's kind, its objects (colour and outline of every place), ground, sky and terrain.

    Input [B, 3, H, W] in 0..1, seen at 64x64; `forward` gives logits by head, and `color` [B, 7, 16, 16] and `outline`
    [B, 8, 16, 16], whose last class is "no object".
    """

    SEEN = 64

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(_conv(3, 32, 2), _conv(32, 64), _conv(64, 96, 2), _conv(96, 128), _conv(128, 128))
        self.wide = nn.Sequential(nn.AvgPool2d(2), _conv(128, 128), _conv(128, 128), nn.Upsample(scale_factor=2))
        self.both = _conv(128, 128)
        self.places = nn.Conv2d(128, len(COLORS) + 1 + len(OUTLINES) + 1, 1)
        self.squeeze = nn.Linear(128, FEATURES)
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, size) for name, size in HEADS.items()})

    def _maps(self, pictures: Tensor) -> Tensor:
        seen = nn.functional.interpolate(pictures, (self.SEEN, self.SEEN), mode="area")
        fine = self.fine(seen * 2 - 1)
        maps: Tensor = self.both(fine + self.wide(fine))
        return maps

    def features(self, pictures: Tensor) -> Tensor:
        """What the picture-wide heads see, [B, 128]; also the space in which sets of pictures are compared."""
        return nn.functional.relu(self.squeeze(self._maps(pictures).mean(dim=(2, 3))))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits by head, `color` and `outline`."""
        maps = self._maps(pictures)
        color, outline = self.places(maps).split((len(COLORS) + 1, len(OUTLINES) + 1), dim=1)
        features = nn.functional.relu(self.squeeze(maps.mean(dim=(2, 3))))
        return {"color": color, "outline": outline, **{name: head(features) for name, head in self.heads.items()}}

    @torch.no_grad()
    def read(self, pictures: Tensor) -> dict[str, np.ndarray]:
        """What is seen: the class of every head [B], and `objects` [B, 6]: the outline that each colour has, or -1.

        A colour's outline is the one that most of its cells have; fewer than `SMALLEST_OBJECT` cells are none.
        """
        read = {name: logits.float().cpu() for name, logits in self(pictures).items()}
        color, outline = (read.pop(name).softmax(dim=1)[:, :-1].flatten(2) for name in ("color", "outline"))
        cells, outlines = (color @ outline.transpose(1, 2)).max(dim=2)
        seen = {name: logits.argmax(dim=1).numpy() for name, logits in read.items()}
        return {**seen, "objects": torch.where(cells >= SMALLEST_OBJECT, outlines, -1).numpy()}

    def fits(self, pictures: Tensor, claims: Iterable[dict[str, Any]]) -> np.ndarray:
        """Whether every claim of each caption holds in its picture, bool [B]; no claims fit any picture."""
        seen = self.read(pictures)
        return np.array([_holds(claim, row, seen) for row, claim in enumerate(claims)], dtype=bool)

    def save(self, path: Path) -> None:
        """Write the weights as fp16 safetensors."""
        save_file({name: value.half().contiguous() for name, value in self.state_dict().items() if value.ndim}, path)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> CaptionChecker:
        """Read weights written by `save`, as float32 in eval mode."""
        checker = cls()
        checker.load_state_dict({name: value.float() for name, value in load_file(path).items()}, strict=False)
        return checker.to(device).eval().requires_grad_(False)


def _holds(claim: dict[str, Any], row: int, seen: dict[str, np.ndarray]) -> bool:
    """Whether row `row` of what was seen has all that is claimed; a colour of None stands for any."""
    outlines = seen["objects"][row]
    things = [*claim.get("objects", ())]
    if "light" in claim:
        things.append([claim.get("light_color"), OUTLINES.index(LIGHT_OUTLINES[claim["light"]])])
    if any(outline not in outlines if color is None else outlines[color] != outline for color, outline in things):
        return False
    return all(int(seen[name][row]) == value for name, value in claim.items() if name in HEADS)


def all_claims(attributes: np.ndarray) -> list[dict[str, Any]]:
    """Everything that is true of each scene row [B, 10], as claims."""
    claims: list[dict[str, Any]] = []
    for values in attributes:
        at = dict(zip(scenes.ATTRIBUTES, (int(value) for value in values), strict=True))
        claim: dict[str, Any] = {"kind": at["kind"], "background": at["background"]}
        if KINDS[at["kind"]] == "landscape":
            claim |= {
                "light": at["shape1"],
                "light_color": at["color1"],
                "ground": at["ground"],
                "terrain": at["terrain"],
            }
        else:
            claim["pattern"] = at["pattern"]
            claim["objects"] = [[at[f"color{i}"], at[f"shape{i}"]] for i in range(1, at["count"] + 1)]
        claims.append(claim)
    return claims


def checker_loss(read: dict[str, Tensor], batch: SceneBatch, maps: tuple[Tensor, Tensor]) -> Tensor:
    """Cross entropy of every head that applies to a row, and of colour and outline of every place.

    `maps` are the batch's `scenes.object_maps` at `CELLS`; places of an object weigh four times as much as others.
    """
    device = read["color"].device
    at = {name: torch.from_numpy(batch.attributes[:, i]).to(device) for i, name in enumerate(scenes.ATTRIBUTES)}
    landscape = at["kind"] == KINDS.index("landscape")
    loss = read["color"].new_zeros(())
    for name, target in zip(("color", "outline"), maps, strict=True):
        each = nn.functional.cross_entropy(read[name], target, reduction="none")
        weight = torch.where(target < read[name].shape[1] - 1, 4.0, 1.0)
        loss = loss + 2 * (each * weight).sum() / weight.sum()
    for name in HEADS:
        applies = (
            landscape if name in LANDSCAPE_ONLY else ~landscape if name == "pattern" else torch.ones_like(landscape)
        )
        each = nn.functional.cross_entropy(read[name], at[name], reduction="none")
        loss = loss + (each * applies).sum() / applies.sum().clamp(min=1)
    return loss
