"""Ordinary prompts for a calibration, and which of them a model reads.

What ordinary pictures of a checkpoint look like is learned from prompts it understands: a prompt it does not read pulls
at nothing, and a region learned from such prompts is far too narrow. So there are many more candidates than are kept,
a quarter from a list made for this project, the others of words from the model's own vocabulary; one denoiser
evaluation of each tells which are read.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np

from lib_memstab.core.region import FloatArray

SOURCE = "MemStab's own list, and words of the model's vocabulary: those it reads best"
_FILE = Path(__file__).parent / "data" / "ordinary.json"
_SEED = 20_260_601

KEPT = 1 / 8
"""Share of the candidates that a calibration uses: those that move the model most."""

REPLAYS = 1 / 64
"""Share of the candidates that move it most of all, and are left out: these may be replays themselves."""


@lru_cache(maxsize=1)
def ordinary_prompts() -> tuple[str, ...]:
    """512 different prompts, always the same: patterns of the data file, filled from its lists."""
    parts = json.loads(_FILE.read_text(encoding="utf-8"))
    patterns = parts.pop("patterns")
    chance = random.Random(_SEED)
    found: dict[str, None] = {}
    while len(found) < 512:
        words = {name: chance.choice(choices) for name, choices in parts.items()}
        found[chance.choice(patterns).format(**words)] = None
    return tuple(found)


def candidates(vocabulary: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` prompts to choose from, always the same: a quarter of the list's, the others of the vocabulary's words.

    `vocabulary` are entries of the text model, the most frequent first. Words are drawn as they are in a language, the
    one of rank r with a weight of 1 / (r + 2.7) (Zipf's law, Mandelbrot's offset), 3 to 12 to a prompt.
    """
    words = [word for word in vocabulary if re.fullmatch("[a-z]{3,}", word)]
    listed = ordinary_prompts()
    if len(words) < 12:
        return tuple(listed[place % len(listed)] for place in range(count))
    chance = random.Random(_SEED)
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(words))))
    found = [listed[place % len(listed)] for place in range(count // 4)]
    while len(found) < count:
        drawn = dict.fromkeys(chance.choices(words, cum_weights=weights, k=chance.randint(3, 12)))
        found.append(" ".join(drawn))
    return tuple(found)


def best_read(prompts: Sequence[str], response: FloatArray) -> tuple[str, ...]:
    """Those of the candidates that move the model most, `response` [N], but for the few that do so most of all.

    In an order without meaning, always the same.
    """
    order = np.argsort(-response, kind="stable")
    kept = [prompts[place] for place in order[round(len(order) * REPLAYS) : round(len(order) * KEPT)]]
    random.Random(_SEED).shuffle(kept)
    return tuple(kept)
