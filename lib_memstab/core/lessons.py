"""What ordinary generations teach: one lesson an image, and the regions that come of many.

A lesson is an image's path with what it was sampled under, a digest of its prompt and a sketch of its latents. Flagged
images give no lessons; of what is left, replays are told by two looks: a prompt whose pictures are alike whatever the
seed teaches nothing (Carlini et al. 2023), and neither does a path far above the others (`calibration`).
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lib_memstab.core.calibration import learn
from lib_memstab.core.plain import added
from lib_memstab.core.profile import Calibration, Covered, Mode, Over
from lib_memstab.core.region import GRID, MIN_TRAJECTORIES, Conditions, FloatArray

SAME = 0.6
"""Correlation of two seeds' latents, channel means aside, from which they are the same picture."""

EACH = 4
"""Lessons that one prompt gives a band at most: a hundred seeds of it are not a hundred ordinary prompts."""

AGAIN = 8
"""New lessons after which the region is learned anew."""

REPLAY = 3.5
"""Robust deviations above the others at which a path teaches nothing: fewer than where prompts were looked at twice."""

FEWEST = 32
"""Lessons of a mode from which its region is learned."""

SOURCE = "your own generations"

_SIDE = 16
_ROUNDED = 4


@dataclass(frozen=True)
class Lesson:
    """One image.

    Attributes:
        mode, sampler, scheduler, steps, channels, size: how it was sampled; size is height and width of the latents.
        conditions: what its path depends on.
        offset, path: log path lengths on the region's grid, from the grid's place `offset` on.
        prompt: a digest of the prompt; which words it had cannot be told from it.
        sketch: its latents, small and rough (`sketch_of`); empty where a picture it was made from would tell.
        day: YYYY-MM-DD.
        over, smaller_end: along what the path was walked, and by which norms (`core.profile.Statistic`).
    """

    mode: Mode
    sampler: str
    scheduler: str
    steps: int
    channels: int
    size: tuple[int, int]
    conditions: Conditions
    offset: int
    path: FloatArray
    prompt: str
    sketch: str
    day: str
    over: Over = added("sigma")
    smaller_end: bool = added(False)

    def levels(self) -> FloatArray:
        """Log noise levels of the path."""
        return GRID[self.offset : self.offset + len(self.path)]

    def curve(self) -> FloatArray:
        """The path on the whole grid [K], NaN where it did not come."""
        found = np.full(len(GRID), np.nan)
        found[self.offset : self.offset + len(self.path)] = self.path
        return found


def lesson_path(curve: FloatArray) -> tuple[int, FloatArray] | None:
    """`offset` and `path` of a curve [K] as `Recorder` gives it; None where nothing was measured."""
    places = np.flatnonzero(np.isfinite(curve))
    if not len(places) or np.ptp(places) + 1 != len(places):
        return None
    return int(places[0]), curve[places].round(5)


def digest(prompt: str) -> str:
    """What a lesson keeps of a prompt."""
    return hashlib.sha256(" ".join(prompt.split()).encode()).hexdigest()[:16]


def sketch_of(latent: Tensor) -> str:
    """Latents [C, H, W] as at most 16 by 16 places of one byte, channel means and scale aside."""
    height, width = (min(side, _SIDE) for side in latent.shape[1:])
    small = functional.adaptive_avg_pool2d(latent.detach().float().cpu()[None], (height, width))[0]
    small = small - small.mean(dim=(1, 2), keepdim=True)
    peak = float(small.abs().max())
    if not np.isfinite(peak) or peak <= 0:
        return ""
    return base64.b64encode((small / peak * 127).round().to(torch.int8).numpy().tobytes()).decode()


def sound_sketch(sketch: str) -> bool:
    """Whether this may be a sketch."""
    try:
        return len(base64.b64decode(sketch, validate=True)) <= 4 * _SIDE * _SIDE * 4
    except ValueError:
        return False


def alike(sketches: Sequence[str]) -> FloatArray:
    """Correlation of each two of these sketches of one size, [N, N]."""
    rows = np.stack([np.frombuffer(base64.b64decode(one), dtype=np.int8).astype(np.float64) for one in sketches])
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows @ rows.T


def ordinary(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Those to learn from: without prompts whose pictures are alike, at most `EACH` of a prompt and band."""
    seen: Counter[tuple[str, Mode, Conditions]] = Counter()
    replayed, found = replayed_prompts(lessons), []
    for one in lessons:
        key = one.prompt, one.mode, one.conditions
        seen[key] += 1
        if one.prompt not in replayed and seen[key] <= EACH:
            found.append(one)
    return found


def replayed_prompts(lessons: Sequence[Lesson]) -> set[str]:
    """Prompts of which two seeds gave the same picture."""
    groups: dict[tuple[str, tuple[int, int], int], list[str]] = defaultdict(list)
    for one in lessons:
        if one.sketch:
            groups[one.prompt, one.size, len(one.sketch)].append(one.sketch)
    return {
        prompt
        for (prompt, _, _), sketches in groups.items()
        if len(sketches) > 1 and (np.triu(alike(sketches[-8:]), 1) > SAME).any()
    }


def calibrations(lessons: Sequence[Lesson]) -> dict[Mode, Calibration]:
    """What these lessons teach of each mode they are enough for; RegionError where they make no region.

    Conditions that are nearly the same share a band: guidance to a half, first noise levels to a quarter octave.
    """
    found: dict[Mode, Calibration] = {}
    modes: tuple[Mode, ...] = ("txt2img", "img2img")
    own = ordinary(lessons)
    for mode in modes:
        chosen = [replace(one, conditions=_rounded(one.conditions)) for one in own if one.mode == mode]
        counts = Counter(one.conditions for one in chosen)
        chosen = [one for one in chosen if counts[one.conditions] >= MIN_TRAJECTORIES]
        if len(chosen) >= FEWEST:
            found[mode] = _calibration(chosen)
    return found


def _rounded(conditions: Conditions) -> Conditions:
    start = 2 ** (round(4 * np.log2(conditions.start)) / 4)
    guidance = max(1.0, round(2 * conditions.guidance) / 2)
    return replace(conditions, guidance=guidance, start=round(float(start), _ROUNDED))


def _calibration(lessons: Sequence[Lesson]) -> Calibration:
    region = learn(np.stack([one.curve() for one in lessons]), [one.conditions for one in lessons], REPLAY)
    steps, scales = [one.steps for one in lessons], [one.conditions.guidance for one in lessons]
    covered = Covered(
        samplers=tuple(sorted({one.sampler for one in lessons})),
        schedulers=tuple(sorted({one.scheduler for one in lessons})),
        steps=(min(steps), max(steps)),
        guidance=(min(scales), max(scales)),
        sizes=tuple(sorted({one.size for one in lessons})),
        trajectories=region.count,
        prompts=SOURCE,
    )
    return Calibration(region, covered)
