"""Ordinary prompts for a calibration, diverse in what they show and how they are written; made for this project."""

from __future__ import annotations

import json
import random
from functools import lru_cache
from pathlib import Path

SOURCE = "MemStab's own list of ordinary prompts"
_FILE = Path(__file__).parent / "data" / "ordinary.json"
_SEED = 20_260_601


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
