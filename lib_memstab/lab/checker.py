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
from lib_memstab.lab.scenes import COLORS, KINDS, LIGHTS, PATTERNS, SHAPES, TERRAINS, SceneBatch

HEADS = {
    "kind": len(KINDS),
    "background": len(COLORS),
    "pattern": len(PATTERNS),
    "light": len(LIGHTS),
    "light_color": len(COLORS),
    "ground": len(COLORS),
    "terrain": len(TERRAINS),
}
FEATURES = 128
LOG_PLACES = 2.0
"""Offset of presence logits, so that a picture without evidence starts out as one without objects."""
_LANDSCAPE_ONLY = ("light", "light_color", "ground", "terrain")


class CaptionChecker(nn.Module):
    """Reads a picture's kind, objects (colour and shape at one place), ground, sky and light.

    Input [B, 3, H, W] in 0..1, seen at 64x64; `forward` gives logits by head, and `objects` [B, 6, 6]: presence logits
    of each colour with each shape.
    """

    SEEN = 64

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 160, 2)):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.places = nn.Conv2d(160, len(COLORS) + len(SHAPES), 1)
        self.squeeze = nn.Linear(160, FEATURES)
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, size) for name, size in HEADS.items()})

    def _maps(self, pictures: Tensor) -> Tensor:
        seen = nn.functional.interpolate(pictures, (self.SEEN, self.SEEN), mode="area")
        maps: Tensor = self.body(seen * 2 - 1)
        return maps

    def features(self, pictures: Tensor) -> Tensor:
        """What the picture-wide heads see, [B, 128]; also the space in which sets of pictures are compared."""
        return nn.functional.relu(self.squeeze(self._maps(pictures).mean(dim=(2, 3))))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits by head, and `objects`."""
        maps = self._maps(pictures)
        color, shape = self.places(maps).flatten(2).split((len(COLORS), len(SHAPES)), dim=1)
        together = (color[:, :, None] + shape[:, None]).float().logsumexp(dim=3)
        features = nn.functional.relu(self.squeeze(maps.mean(dim=(2, 3))))
        return {"objects": together - LOG_PLACES, **{name: head(features) for name, head in self.heads.items()}}

    @torch.no_grad()
    def fits(self, pictures: Tensor, claims: Iterable[dict[str, Any]]) -> np.ndarray:
        """Whether every claim of each caption holds in its picture, bool [B]; no claims fit any picture."""
        read = {name: logits.float().cpu() for name, logits in self(pictures).items()}
        presence = read.pop("objects") > 0
        chosen = {name: logits.argmax(dim=1) for name, logits in read.items()}
        return np.array([_holds(claim, row, chosen, presence) for row, claim in enumerate(claims)], dtype=bool)

    def save(self, path: Path) -> None:
        """Write the weights as fp16 safetensors."""
        save_file({name: value.half().contiguous() for name, value in self.state_dict().items() if value.ndim}, path)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> CaptionChecker:
        """Read weights written by `save`, as float32 in eval mode."""
        checker = cls()
        checker.load_state_dict({name: value.float() for name, value in load_file(path).items()}, strict=False)
        return checker.to(device).eval().requires_grad_(False)


def _holds(claim: dict[str, Any], row: int, chosen: dict[str, Tensor], presence: Tensor) -> bool:
    for name, value in claim.items():
        if name == "objects":
            for color, shape in value:
                seen = presence[row, :, shape].any() if color is None else presence[row, color, shape]
                if not bool(seen):
                    return False
        elif int(chosen[name][row]) != value:
            return False
    return True


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


def checker_loss(read: dict[str, Tensor], batch: SceneBatch) -> Tensor:
    """Cross entropy of every head that applies to a row, and of the presence of each (colour, shape)."""
    device = read["objects"].device
    at = {name: torch.from_numpy(batch.attributes[:, i]).to(device) for i, name in enumerate(scenes.ATTRIBUTES)}
    landscape = at["kind"] == 1
    targets = {**at, "light": at["shape1"].clamp(max=len(LIGHTS) - 1), "light_color": at["color1"]}
    present = torch.zeros(len(batch), len(COLORS), len(SHAPES), device=device)
    rows = torch.arange(len(batch), device=device)
    present[rows, at["color1"], at["shape1"]] = (~landscape).float()
    present[rows, at["color2"], at["shape2"]] += ((at["count"] == 2) & ~landscape).float()
    loss = 20 * nn.functional.binary_cross_entropy_with_logits(read["objects"], present)
    for name in HEADS:
        applies = (
            landscape if name in _LANDSCAPE_ONLY else ~landscape if name == "pattern" else torch.ones_like(landscape)
        )
        each = nn.functional.cross_entropy(read[name], targets[name], reduction="none")
        loss = loss + (each * applies).sum() / applies.sum().clamp(min=1)
    return loss
