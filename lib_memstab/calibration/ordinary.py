"""Ordinary prompts for a calibration, and which of them a model reads.

What ordinary pictures of a checkpoint look like is learned from prompts it understands: a prompt it does not read pulls
at nothing, and a region learned from such prompts is far too narrow. So there are many more candidates than are kept,
half of them from a list made for this project, half of words from the model's own vocabulary; one denoiser evaluation
of each tells which are read.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import numpy as np

from lib_memstab.core.region import FloatArray

SOURCE = "MemStab's own list, and words of the model's vocabulary: those it reads best"
_FILE = Path(__file__).parent / "data" / "ordinary.json"
_SEED = 20_260_601

T = TypeVar("T")

_WORD = re.compile("[A-Za-z]{3,}")

KEPT = 1 / 8
"""Share of the candidates that a calibration uses: those that move the model most."""

REPLAYS = 1 / 64
"""Share of the candidates that move it most of all, and are left out: these may be replays themselves."""


@lru_cache(maxsize=2)
def ordinary_prompts(count: int = 512) -> tuple[str, ...]:
    """`count` different prompts, always the same: patterns of the data file, filled from its lists."""
    parts = json.loads(_FILE.read_text(encoding="utf-8"))
    patterns = parts.pop("patterns")
    chance = random.Random(_SEED)
    found: dict[str, None] = {}
    while len(found) < count:
        words = {name: chance.choice(choices) for name, choices in parts.items()}
        found[chance.choice(patterns).format(**words)] = None
    return tuple(found)


def candidates(vocabulary: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` prompts to choose from, always the same: half from the list, half of the vocabulary's words.

    `vocabulary` are entries of the text model, the most frequent first. Words are drawn as they are in a language, the
    one of rank r with a weight of 1 / (r + 2.7) (Zipf's law, Mandelbrot's offset), 3 to 12 to a prompt. A model that
    has hardly a word of the list gets the list's prompts with words of its own in place of those it lacks.
    """
    words = whole_words(vocabulary)
    if len(words) < 12:
        return ordinary_prompts(count)
    chance = random.Random(_SEED)
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(words))))

    def draw(number: int) -> list[str]:
        return chance.choices(words, cum_weights=weights, k=number)

    listed, known = ordinary_prompts(count // 2), set(vocabulary)
    used = {word for prompt in listed for word in _words(prompt)}
    if len(used & known) < len(used) / 2:
        listed = tuple(
            _WORD.sub(lambda match: match[0] if match[0].lower() in known else draw(1)[0], prompt) for prompt in listed
        )
    found = dict.fromkeys(listed)
    while len(found) < count:
        found[" ".join(dict.fromkeys(draw(chance.randint(3, 12))))] = None
    return tuple(found)


def whole_words(vocabulary: Sequence[str]) -> list[str]:
    """Entries that are words, in their order: those that end a longer entry are mostly pieces ("een", of "green").

    A tokenizer that merges bytes into words keeps the pieces it went through, which no text ever shows to the model.
    """
    words = [word for word in vocabulary if re.fullmatch("[a-z]{3,}", word)]
    endings = {word[start:] for word in words for start in range(1, len(word) - 2)}
    return [word for word in words if word not in endings]


def _words(prompt: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(prompt)]


def kept(order: Sequence[T]) -> Sequence[T]:
    """Those to use of candidates in the order in which they move the model, the strongest first."""
    return order[round(len(order) * REPLAYS) : round(len(order) * KEPT)]


def best_read(prompts: Sequence[str], response: FloatArray) -> tuple[str, ...]:
    """Those of the candidates that move the model most, `response` [N], but for the few that do so most of all.

    In an order without meaning, always the same.
    """
    found = [prompts[place] for place in kept(np.argsort(-response, kind="stable").tolist())]
    random.Random(_SEED).shuffle(found)
    return tuple(found)
