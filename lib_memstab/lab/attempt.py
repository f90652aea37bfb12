"""What an attempt is and what attackers have, without the lab model: also what a WebUI is attacked with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Knows = Literal["prompt", "picture"]

FAULTS = "blurry, low quality, worst quality, bad anatomy, text, watermark, ugly"
"""What users write in negative prompts."""

COPY_NOISE = 0.25
"""Standard deviation of the noise in the bad copy that img2img starts from, in units of the range of its values."""


@dataclass(frozen=True)
class Attempt:
    """One picture that an attacker tried to get.

    Attributes:
        attack: its name.
        prompt: the memorized prompt, of a template without what fills it.
        kind: title, caption or template.
        seed: of the picture.
        effort: gradient steps spent on its text; 0 where there were none.
        penalty: weight of MemStab's statistic in the attacker's loss.
        without, suppressed: likeness of the picture to the training picture without MemStab and with it.
        flagged: whether MemStab flagged it.
        score: MemStab's score of it; None where it was not measured.
    """

    attack: str
    prompt: str
    kind: str
    seed: int
    effort: int
    penalty: float
    without: float
    suppressed: float
    flagged: bool
    score: float | None
