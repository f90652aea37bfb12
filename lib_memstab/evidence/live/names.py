"""Names of the attacks that need no weights, without what makes them: enough for forms and for counting pictures."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

AS_IT_IS: Final = "the prompt as it is"

SAMPLERS: Final = ("DPM++ 2M", "Euler a", "DDIM")
"""Other samplers that are tried where the WebUI has them; each name is an attack's."""

BLIND: Final = (
    AS_IT_IS,
    "beginning dropped",
    "end dropped",
    "one word dropped",
    "text appended",
    "text prepended",
    "words reordered",
    "written twice",
    "one letter changed",
    "an ordinary caption appended",
    "negative prompt",
    "negative prompt: faults",
    "negative prompt: its own half",
    "negative prompt: itself",
    "CFG 1",
    "CFG 3",
    "CFG 12",
    *SAMPLERS,
    "6 steps",
    "[ordinary:prompt:.1]",
    "[ordinary:prompt:.3]",
    "[prompt:ordinary:.3]",
    "prompt AND ordinary",
    "half AND half",
)
"""Those of attackers who do not hold the training picture."""

WITH_PICTURE: Final = (
    "img2img 0.9 of a noisy copy",
    "img2img 0.9 of a noisy copy, ordinary prompt",
    "img2img 0.75 of a noisy copy",
    "img2img 0.75 of a noisy copy, ordinary prompt",
)
"""Those of attackers who do, and their controls."""

NAMES: Final = (*BLIND, *WITH_PICTURE)
"""All of them, in the order in which they are tried."""

HEADS: Final = (
    "attack",
    "holds the picture",
    "copies without MemStab",
    "of these flagged",
    "copies with MemStab",
    "not measured",
    "prompts won",
)
"""Columns of the table of what came of them."""

HOLDS: Final = ("no", "yes", "control")
"""What the second of them says."""

ALL_BLIND: Final = "all who do not hold the picture"
"""The last row."""


def chosen_attacks(asked: Collection[str] | None, samplers: Collection[str]) -> tuple[list[str], list[str]]:
    """Of those asked for (None or empty: all) what can be tried, in their order, and samplers that the WebUI lacks."""
    wanted = [name for name in NAMES if not asked or name in asked]
    lacking = [name for name in wanted if name in SAMPLERS and name not in samplers]
    return [name for name in wanted if name not in lacking], lacking


def most_pictures(prompts: int, seeds: int, names: Iterable[str], pictures: bool) -> int:
    """How many pictures an attack on so many prompts is at most: each attack and seed without MemStab and with it.

    The prompt as it is comes always; `pictures` says whether there are training pictures to begin from.
    """
    tried = {AS_IT_IS, *names} - (set() if pictures else set(WITH_PICTURE))
    return prompts * seeds * 2 * len(tried)
