"""All suppression rules, and the default one at several strengths, on the same trajectories: effect and cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional

from lib_memstab.core.monitor import Settings
from lib_memstab.core.suppression import Windows
from lib_memstab.lab import truth
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.figures import Watched, detect, kinds_of, suppress
from lib_memstab.lab.rules import RULES
from lib_memstab.lab.tools import SEED_BASES, load_tools
from lib_memstab.lab.trials import MAIN, memorized_trials, plain_trials

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
FALSE_ALARM_SENSITIVITY = 10.0
"""Sensitivity at which ordinary trajectories are flagged to see what a false alarm costs: one in ten is."""


@dataclass(frozen=True)
class Contender:
    """A rule at a strength, and how much is sampled to judge it."""

    rule: str
    strength: float
    split: str
    seeds: int
    ordinary: int
    sensitivity: float


def contenders(split: str, seeds: int, ordinary: int, sensitivity: float) -> list[Contender]:
    """Every rule at strength 1, then the one that ships at every other strength."""
    rows = [(rule, 1.0) for rule in RULES] + [(Windows.name, value) for value in STRENGTHS if value != 1]
    return [Contender(rule, strength, split, seeds, ordinary, sensitivity) for rule, strength in rows]


@lru_cache(maxsize=1)
def _detected(split: str, seeds: int, ordinary: int, sensitivity: float) -> tuple[Watched, Watched]:
    """Memorized trajectories as they come, and ordinary ones at the sensitivity of false alarms; once per process."""
    model, _, regions = load_tools()
    prompts = load_splits()[split]
    memorized = memorized_trials(prompts, seeds, SEED_BASES["memorized"], rates=("heavy", "medium"))
    plain = plain_trials(prompts["ordinary"][:ordinary], SEED_BASES["ordinary"])
    region = regions[MAIN.mode]
    return (
        detect(model, MAIN, memorized, region, Settings("detect", sensitivity)),
        detect(model, MAIN, plain, region, Settings("detect", FALSE_ALARM_SENSITIVITY)),
    )


def judge_contender(contender: Contender) -> dict[str, Any]:
    """Copies, likeness to others, fit to captions, and what a false alarm costs, under one rule at one strength."""
    model, judge, regions = load_tools()
    replayed, plain = _detected(contender.split, contender.seeds, contender.ordinary, contender.sensitivity)
    region, settings = regions[MAIN.mode], Settings("suppress", contender.sensitivity, contender.strength)
    replayed = suppress(model, MAIN, replayed, region, settings, contender.rule)
    alarms = suppress(
        model, MAIN, plain, region, Settings("suppress", FALSE_ALARM_SENSITIVITY, contender.strength), contender.rule
    )
    before, _ = judge.similarities(replayed.plain.latents, replayed.trials)
    after, other = judge.similarities(replayed.after, replayed.trials)
    copied, kinds = before > truth.COPY_THRESHOLD, kinds_of(replayed.trials)
    fits, _ = judge.fits(replayed.after, replayed.trials)
    fits_plain, _ = judge.fits(plain.plain.latents, plain.trials)
    touched = torch.from_numpy(alarms.flagged)
    fits_touched, _ = judge.fits(alarms.after, alarms.trials)
    likeness = functional.cosine_similarity(alarms.after[touched].flatten(1), plain.plain.latents[touched].flatten(1))
    return {
        "rule": contender.rule,
        "strength": contender.strength,
        "copies": {
            kind: [
                int((copied & (kinds == kind) & (after > truth.COPY_THRESHOLD)).sum()),
                int((copied & (kinds == kind)).sum()),
            ]
            for kind in ("title", "caption", "template")
        },
        "other": [int((copied & (other > truth.COPY_THRESHOLD)).sum()), int(copied.sum())],
        "fits": {kind: float(fits[copied & (kinds == kind)].mean()) for kind in ("caption", "template")},
        "fits_ordinary": float(fits_plain.mean()),
        "false_alarms": {
            "count": int(touched.sum()),
            "likeness": float(likeness.mean()) if touched.any() else None,
            "fits": float(fits_touched[alarms.flagged].mean()) if touched.any() else None,
            "fits_untouched": float(fits_plain[alarms.flagged].mean()) if touched.any() else None,
        },
        "extra": float(replayed.extra[copied].mean()) if copied.any() else 0.0,
    }
