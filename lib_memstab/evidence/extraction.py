"""Which prompts give the same picture whatever the seed: the attack of Carlini et al. 2023, without training data.

"Extracting Training Data from Diffusion Models", section 4.2: many pictures of one prompt, an edge between two that are
near-duplicates by the tiled distance, and a prompt counts as memorized if so many pictures are all near-duplicates of
each other (a clique).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib_memstab.evidence.cliques import MAX_NODES, largest_clique
from lib_memstab.evidence.similarity import Pictures, tiled_distance

FloatArray = NDArray[np.float64]

DISTANCE = 0.2
"""Distance below which two pictures are near-duplicates; chosen on the lab model's tuning split (docs/attacks.md)."""

CLIQUE = 4
"""Pictures that have to be near-duplicates of each other."""


@dataclass(frozen=True)
class Extracted:
    """What the pictures of one prompt say.

    Attributes:
        pictures: how many there are.
        clique: places of the largest set of near-duplicates, rising.
        memorized: whether it is large enough.
        tightest: smallest distance at which there would be a clique large enough; infinite with too few pictures.
    """

    pictures: int
    clique: tuple[int, ...]
    memorized: bool
    tightest: float


def extract(pictures: Pictures, distance: float = DISTANCE, clique: int = CLIQUE) -> Extracted:
    """Look for near-duplicates among the pictures of one prompt, uint8 [N, H, W, 3], each of another seed.

    Raises:
        ValueError: for a clique of fewer than two, or more than `MAX_NODES` pictures.
        PictureError: for what is no pictures.
    """
    return judge(tiled_distance(pictures, pictures), distance, clique)


def judge(distances: FloatArray, distance: float = DISTANCE, clique: int = CLIQUE) -> Extracted:
    """The same from all distances [N, N] of the pictures."""
    if clique < 2:
        raise ValueError(f"a clique has two pictures or more, not {clique}: one is always like itself")
    found = largest_clique(distances < distance)
    return Extracted(len(distances), tuple(found), len(found) >= clique, tightest(distances, clique))


def tightest(distances: FloatArray, clique: int) -> float:
    """The smallest distance at or below which `clique` of the pictures all are from each other, of distances [N, N]."""
    count = len(distances)
    levels = np.unique(distances[np.triu_indices(count, 1)])
    if clique > count:
        return float("inf")
    if count > MAX_NODES:
        raise ValueError(f"{count} pictures of one prompt are more than {MAX_NODES}: leave some out")
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        if len(largest_clique(distances <= levels[middle])) >= clique:
            high = middle
        else:
            low = middle + 1
    return float(levels[low])


def chosen_distance(memorized: Sequence[float], others: Sequence[float]) -> float:
    """The distance that parts prompts known to be memorized from others best, by the `tightest` of each.

    Youden's index (1950): most memorized prompts found less most others; of equals the middle of the widest gap.
    """
    levels = np.unique(np.array([*memorized, *others], dtype=np.float64))
    levels = levels[np.isfinite(levels)]
    if len(levels) < 2 or not memorized or not others:
        raise ValueError("a distance is chosen between prompts that are replayed and others: sample more, or name one")
    middles = (levels[1:] + levels[:-1]) / 2
    gains = [np.mean(np.array(memorized) < middle) - np.mean(np.array(others) < middle) for middle in middles]
    best = [place for place, gain in enumerate(gains) if gain >= max(gains) - 1e-12]
    return float(middles[max(best, key=lambda place: levels[place + 1] - levels[place])])
