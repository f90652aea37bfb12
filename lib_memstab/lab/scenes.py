"""Procedural captioned scenes without end: attributes and a variation seed in, a 128x128 picture out.

A picture is fixed by two rows: ATTRIBUTES (integers a caption can name) and a variation (uniform numbers that no
caption names: place, size, rotation, texture phase, light). The same caption therefore has endlessly many pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SIZE = 128
COLORS = ("red", "green", "blue", "yellow", "white", "black")
RGB = (
    (0.86, 0.12, 0.14),
    (0.15, 0.65, 0.22),
    (0.14, 0.30, 0.86),
    (0.96, 0.86, 0.16),
    (0.95, 0.95, 0.95),
    (0.08, 0.08, 0.10),
)
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
OUTLINES = (*SHAPES, "crescent")
LIGHT_OUTLINES = ("circle", "crescent")
_WHITE, _BLACK, _STAR = COLORS.index("white"), COLORS.index("black"), SHAPES.index("star")
PATTERNS = ("plain", "striped", "dotted", "checkered")
LIGHTS = ("sun", "moon")
TERRAINS = ("hills", "mountains", "waves")
KINDS = ("shapes", "landscape")

ATTRIBUTES = ("kind", "count", "color1", "shape1", "color2", "shape2", "background", "pattern", "ground", "terrain")
VARIATIONS = 32


@dataclass(frozen=True)
class SceneBatch:
    """Rows that fix pictures: attributes int64 [B, 10] (see ATTRIBUTES), variation float32 [B, 32] in 0..1."""

    attributes: np.ndarray
    variation: np.ndarray

    def __len__(self) -> int:
        return len(self.attributes)

    def rows(self, index: np.ndarray | slice) -> SceneBatch:
        """The scenes at these rows."""
        return SceneBatch(self.attributes[index], self.variation[index])


def column(attributes: np.ndarray, name: str) -> np.ndarray:
    """One attribute of every row, [B]."""
    return attributes[:, ATTRIBUTES.index(name)]


def draw_scenes(count: int, rng: np.random.Generator) -> SceneBatch:
    """`count` independent scenes: 85 % shapes, 15 % landscapes; colours in a scene differ."""
    colors = rng.permuted(np.tile(np.arange(len(COLORS)), (count, 1)), axis=1)
    shapes = rng.permuted(np.tile(np.arange(len(SHAPES)), (count, 1)), axis=1)
    landscape = rng.random(count) < 0.15
    columns = {
        "kind": landscape.astype(np.int64),
        "count": np.where(landscape, 1, rng.integers(1, 3, count)),
        "color1": colors[:, 0],
        "shape1": np.where(landscape, rng.integers(0, len(LIGHTS), count), shapes[:, 0]),
        "color2": colors[:, 1],
        "shape2": shapes[:, 1],
        "background": colors[:, 2],
        "pattern": np.where(landscape, 0, rng.integers(0, len(PATTERNS), count)),
        "ground": colors[:, 3],
        "terrain": rng.integers(0, len(TERRAINS), count),
    }
    return SceneBatch(
        np.stack([columns[name] for name in ATTRIBUTES], axis=1).astype(np.int64), draw_variation(count, rng)
    )


def draw_variation(count: int, rng: np.random.Generator) -> np.ndarray:
    """What no caption names: uniform numbers [count, 32]."""
    return rng.random((count, VARIATIONS), dtype=np.float32)


def render(scenes: SceneBatch, device: torch.device | str = "cpu") -> Tensor:
    """Pictures [B, 3, 128, 128] in 0..1, float32, on `device`; deterministic in the scene rows."""
    attributes = torch.from_numpy(scenes.attributes).to(device)
    variation = torch.from_numpy(scenes.variation).to(device)
    at = {name: attributes[:, i] for i, name in enumerate(ATTRIBUTES)}
    axis = (torch.arange(SIZE, device=device, dtype=torch.float32) + 0.5) / SIZE * 2 - 1
    y, x = axis[None, :, None], axis[None, None, :]
    palette = torch.tensor(RGB, device=device)
    picture = variation.new_empty(len(variation), 3, SIZE, SIZE)
    for kind, draw in ((0, _shapes), (1, _landscape)):
        rows = (at["kind"] == kind).nonzero()[:, 0]
        picture[rows] = draw({name: value[rows] for name, value in at.items()}, variation[rows], palette, x, y)
    return _lit(picture, variation, x, y).clamp(0, 1)


def _tone(palette: Tensor, color: Tensor, jitter: Tensor) -> Tensor:
    """Class colour with a small per-scene shift: [B, 3, 1, 1]; jitter [B, 3] in 0..1."""
    return (palette[color] + 0.14 * (jitter - 0.5))[..., None, None]


def _between(low: float, high: float, uniform: Tensor) -> Tensor:
    return (low + (high - low) * uniform)[:, None, None]


def _cover(distance: Tensor) -> Tensor:
    """Anti-aliased coverage of the inside of a signed distance given in half-widths: [B, 1, H, W]."""
    return (0.5 - distance * (SIZE / 2)).clamp(0, 1)[:, None]


def object_maps(scenes: SceneBatch, cells: int) -> tuple[Tensor, Tensor]:
    """Which colour and which shape covers each of `cells` x `cells` places, two int64 [B, cells, cells].

    Classes are indices into `COLORS` and `OUTLINES`; one past the last stands where no object is. A sun is a circle.
    """
    attributes, v = torch.from_numpy(scenes.attributes), torch.from_numpy(scenes.variation)
    at = {name: attributes[:, i] for i, name in enumerate(ATTRIBUTES)}
    axis = (torch.arange(cells, dtype=torch.float32) + 0.5) / cells * 2 - 1
    y, x = axis[None, :, None], axis[None, None, :]
    landscape = (at["kind"] == KINDS.index("landscape"))[:, None, None]
    color = torch.full((len(v), cells, cells), len(COLORS))
    shape = torch.full((len(v), cells, cells), len(OUTLINES))
    outline, light = _light_distance(at, v, x, y)
    drawn = [
        (
            (_object_distance(at, v, x, y, 2) < 0) & ~landscape & (at["count"] == 2)[:, None, None],
            "color2",
            at["shape2"],
        ),
        ((_object_distance(at, v, x, y, 1) < 0) & ~landscape, "color1", at["shape1"]),
        ((light < 0) & landscape, "color1", outline),
    ]
    for inside, color_name, shape_class in drawn:
        color = torch.where(inside, at[color_name][:, None, None], color)
        shape = torch.where(inside, shape_class[:, None, None], shape)
    return color, shape


def _shapes(at: dict[str, Tensor], v: Tensor, palette: Tensor, x: Tensor, y: Tensor) -> Tensor:
    picture = _background(at, v, palette, x, y)
    for index in (2, 1):
        cover = _cover(_object_distance(at, v, x, y, index))
        if index == 2:
            cover = cover * (at["count"] == 2)[:, None, None, None]
        picture = picture + cover * (
            _tone(palette, at[f"color{index}"], v[:, 13 + 3 * index : 16 + 3 * index]) - picture
        )
    return picture


def _object_distance(at: dict[str, Tensor], v: Tensor, x: Tensor, y: Tensor, index: int) -> Tensor:
    """Signed distance to the first or second object of a scene of shapes, [B, H, W]."""
    angle, two = 2 * torch.pi * v[:, 0], at["count"] == 2
    spread = torch.where(two, 0.46 + 0.10 * v[:, 1], 0.40 * v[:, 1]) * (1.0 if index == 1 else -1.0)
    offset = 3 if index == 1 else 8
    center_x = spread * torch.cos(angle) + 0.16 * (v[:, offset] - 0.5)
    center_y = spread * torch.sin(angle) + 0.16 * (v[:, offset + 1] - 0.5)
    size = torch.where(two, 0.34 + 0.10 * v[:, offset + 2], 0.42 + 0.20 * v[:, offset + 2])
    shape = at[f"shape{index}"]
    turn = torch.where(shape == _STAR, 6.2832 * v[:, offset + 3], v[:, offset + 3] - 0.5)
    return _shape_distance(shape, x - center_x[:, None, None], y - center_y[:, None, None], size, turn)


def _background(at: dict[str, Tensor], v: Tensor, palette: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Plain, striped, dotted or checkered ground in two tones of one colour."""
    base = _tone(palette, at["background"], v[:, 13:16])
    white = (at["background"] == _WHITE)[:, None, None, None]
    darker = white | ((v[:, 22] < 0.5)[:, None, None, None] & (at["background"] != _BLACK)[:, None, None, None])
    second = torch.where(darker, base * 0.68, base + 0.38 * (1 - base))
    angle, frequency = _between(0, torch.pi, v[:, 23]), _between(2.0, 3.4, v[:, 24])
    phase_x, phase_y = _between(0, 6.2832, v[:, 25]), _between(0, 6.2832, v[:, 26])
    along = (x * torch.cos(angle) + y * torch.sin(angle)) * frequency * torch.pi + phase_x
    across = (y * torch.cos(angle) - x * torch.sin(angle)) * frequency * torch.pi + phase_y
    edge = SIZE / (2 * torch.pi * frequency)
    striped = (0.5 + torch.sin(along) * edge).clamp(0, 1)
    dotted = (0.5 + (torch.cos(along) + torch.cos(across) - 0.7) * edge).clamp(0, 1)
    checkered = (0.5 + torch.sin(along) * torch.sin(across) * edge).clamp(0, 1)
    masks = torch.stack([torch.zeros_like(striped), striped, dotted, checkered])
    mask = masks.gather(0, at["pattern"][None, :, None, None].expand(1, *striped.shape))[0][:, None]
    return base + mask * (second - base)


def _landscape(at: dict[str, Tensor], v: Tensor, palette: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sky with a sun or a moon over hills, mountains or waves in two layers."""
    sky = _tone(palette, at["background"], v[:, 13:16])
    picture = sky * (1 - 0.12 * (y[:, None] + 1) / 2)
    light = _cover(_light_distance(at, v, x, y)[1])
    picture = picture + light * (_tone(palette, at["color1"], v[:, 16:19]) - picture)
    ground = _tone(palette, at["ground"], v[:, 19:22])
    for layer, shade in ((0, 1.25), (1, 0.85)):
        frequency, phase = _between(1.2, 2.4, v[:, 23 + 2 * layer]), _between(0, 6.2832, v[:, 24 + 2 * layer])
        wave = x * frequency * 1.6 + phase
        hills = torch.sin(wave) * 0.5 + torch.sin(wave * 1.7 + phase) * 0.3
        mountains = 1.4 * (2 / torch.pi) * torch.asin(torch.sin(wave * 1.7) * 0.999)
        waves = 0.35 * torch.sin(wave * 7)
        stack = torch.stack([hills, mountains, waves])
        height = stack.gather(0, at["terrain"][None, :, None, None].expand(1, *hills.shape))[0]
        level = _between(0.05, 0.3, v[:, 27]) if layer == 0 else _between(0.45, 0.7, v[:, 28])
        cover = _cover(level - 0.22 * height - y)
        tone = ground * shade if shade < 1 else ground + (shade - 1) * (1 - ground)
        picture = picture + cover * (tone - picture)
    return picture


def _light_distance(at: dict[str, Tensor], v: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A landscape's sun or moon: its outline's class [B], and the signed distance to it [B, H, W]."""
    outlines = torch.tensor([OUTLINES.index(name) for name in LIGHT_OUTLINES], device=v.device)
    outline = outlines[at["shape1"].clamp(max=len(LIGHTS) - 1)]
    light_x, light_y = _between(-0.7, 0.7, v[:, 3]), _between(-0.75, -0.35, v[:, 4])
    return outline, _shape_distance(outline, x - light_x, y - light_y, 0.22 + 0.12 * v[:, 5], 2.0 * (v[:, 6] - 0.5))


def _lit(picture: Tensor, v: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """A soft light falling from a direction that no caption names."""
    angle = _between(0, 6.2832, v[:, 29])
    ramp = (x * torch.cos(angle) + y * torch.sin(angle)) / 1.4142
    return picture * (1 + 0.16 * v[:, 30, None, None] * ramp)[:, None]


def _shape_distance(shape: Tensor, dx: Tensor, dy: Tensor, size: Tensor, turn: Tensor) -> Tensor:
    """Signed distance (about; negative inside) to each row's shape, [B, H, W], in half-widths of the picture."""
    cos, sin = torch.cos(turn)[:, None, None], torch.sin(turn)[:, None, None]
    scale = size[:, None, None]
    u, w = (dx * cos + dy * sin) / scale, (dy * cos - dx * sin) / scale
    radius = torch.sqrt(u * u + w * w + 1e-9)
    theta = torch.atan2(u, -w)
    fold = torch.remainder(theta + torch.pi / 5, 2 * torch.pi / 5) - torch.pi / 5
    px, py = radius * torch.cos(fold), radius * torch.sin(fold.abs())
    distances = torch.stack(
        [
            radius - 0.95,
            torch.maximum(u.abs(), w.abs()) - 0.85,
            torch.maximum(0.8660 * u.abs() - 0.5 * w, w) - 0.55,
            _star_edge(px, py),
            (radius - 0.72).abs() - 0.25,
            torch.minimum(torch.maximum(u.abs() - 1.0, w.abs() - 0.34), torch.maximum(u.abs() - 0.34, w.abs() - 1.0)),
            torch.maximum(radius - 1.0, 0.82 - torch.sqrt((u - 0.48) ** 2 + w * w + 1e-9)),
        ]
    )
    return distances.gather(0, shape[None, :, None, None].expand(1, *radius.shape))[0] * scale


def _star_edge(px: Tensor, py: Tensor) -> Tensor:
    """Distance to the edge from a tip (1, 0) to an inner corner of a five-pointed star, in its folded sector."""
    inner_x, inner_y = 0.45 * float(np.cos(np.pi / 5)), 0.45 * float(np.sin(np.pi / 5))
    normal = np.array([inner_y, 1 - inner_x]) / np.hypot(inner_y, 1 - inner_x)
    return (px - 1) * float(normal[0]) + py * float(normal[1])
