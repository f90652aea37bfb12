"""Ordinary prompts for a calibration, and which of them a model reads.

What ordinary pictures of a checkpoint look like is learned from prompts it understands: a prompt it does not read pulls
at nothing, and a region learned from such prompts is far too narrow. So there are many more candidates than are used,
of three kinds: from a list made for this project, of frequent words of the model's own vocabulary, and of the words
that move the model most. One denoiser evaluation of each tells which are read, and two more of these, from different
noise, which replay a picture: that is the same then, whatever the noise is.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from statistics import median

from lib_memstab.core.profile import Covered

SOURCE = "MemStab's own list, and words of the model's vocabulary: those it reads best"
_FILE = Path(__file__).parent / "data" / "ordinary.json"
_SEED = 20_260_601

_WORD = re.compile("[A-Za-z]{3,}")

READ_FROM = 1 / 2
"""Share of what the median candidate moves the model from which on a candidate is read."""

FEWEST_WORDS = 12
"""A vocabulary of fewer words says nothing about what the model reads."""


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


def listed(vocabulary: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` prompts of the list, always the same; `vocabulary` are entries of the text model.

    A model that has hardly a word of the list gets its prompts with words of its own in place of those it lacks.
    """
    words, known, prompts = whole_words(vocabulary), set(vocabulary), ordinary_prompts(count)
    used = {word for prompt in prompts for word in _words(prompt)}
    if len(words) < FEWEST_WORDS or len(used & known) >= len(used) / 2:
        return prompts
    draw = _drawing(words)
    return tuple(
        _WORD.sub(lambda match: match[0] if match[0].lower() in known else draw(1)[0], prompt) for prompt in prompts
    )


def of_frequent(words: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` different prompts of 3 to 12 of these words, the most frequent first; always the same.

    They are drawn as they are in a language, the one of rank r with a weight of 1 / (r + 2.7) (Zipf's law, Mandelbrot's
    offset).
    """
    draw, chance = _drawing(words), random.Random(_SEED)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(dict.fromkeys(draw(chance.randint(3, 12))))] = None
    return tuple(found)


def of_read(words: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` different prompts of 3 to 8 of these words, one as likely as another; always the same."""
    chance = random.Random(_SEED)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(chance.sample(words, chance.randint(3, 8)))] = None
    return tuple(found)


def _drawing(words: Sequence[str]) -> Callable[[int], list[str]]:
    """Draws so many of the words at a time, the frequent ones more often."""
    chance = random.Random(_SEED)
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(words))))
    return lambda count: chance.choices(words, cum_weights=weights, k=count)


def chosen(covered: Covered) -> bool:
    """Whether MemStab chose prompts of a calibration: users' own may pull harder than these."""
    return SOURCE in covered.prompts


def whole_words(vocabulary: Sequence[str]) -> list[str]:
    """Entries that are words, in their order: those that end a longer entry are mostly pieces ("een", of "green").

    A tokenizer that merges bytes into words keeps the pieces it went through, which no text ever shows to the model.
    """
    words = [word for word in vocabulary if re.fullmatch("[a-z]{3,}", word)]
    endings = {word[start:] for word in words for start in range(1, len(word) - 2)}
    return [word for word in words if word not in endings]


def _words(prompt: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(prompt)]


def read_ones(candidates: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    """Those of the candidates that are read: prompts, each with how much it moves the model.

    One that moves it less than `READ_FROM` of what the median one does is not. In an order without meaning, always the
    same.
    """
    least = READ_FROM * median(moves for _, moves in candidates) if candidates else 0.0
    prompts = [prompt for prompt, moves in candidates if moves >= least]
    random.Random(_SEED).shuffle(prompts)
    return tuple(prompts)
