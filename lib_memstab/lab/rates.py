"""Whether a stated rate of false alarms is the observed one: regions held against many prompts that nothing has seen.

Two kinds of prompts, because a rate holds for prompts of the kind that a region was learned from: those of a
calibration, which are mixed on purpose, and plain captions, as one user writes them and as learning while one generates
sees them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from lib_memstab.calibration.batches import SEED
from lib_memstab.core.calibration import learn
from lib_memstab.core.lessons import REPLAY
from lib_memstab.core.region import Region
from lib_memstab.lab.corpus import Corpus
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.recording import cut, join, record_calibration, record_trials
from lib_memstab.lab.tools import CURVE, SEED_BASES, STATED, workers
from lib_memstab.lab.trials import MAIN, Trial, plain_trials

log = logging.getLogger("memstab.bench")


@dataclass(frozen=True)
class Plan:
    """How many trajectories: a region is learned from `calibration` and held against `ordinary` of each kind."""

    calibration: int = 512
    ordinary: int = 4000


@dataclass(frozen=True)
class Kind:
    """A kind of prompts: its name, `count` of them by a stream's name, and from how far out a path is left out."""

    name: str
    prompts: Callable[[str, int], list[str]]
    learn: Callable[..., Region]


def kinds() -> list[Kind]:
    """Prompts as in a calibration, and captions as a user writes them, each with how regions are learned of them."""
    corpus = Corpus(load_splits()["seed"])
    return [
        Kind("a calibration's prompts", lambda stream, count: corpus.calibration(count, stream), learn),
        Kind(
            "captions",
            lambda stream, count: [one.text for one in corpus.ordinary(stream, count)],
            partial(learn, replay=REPLAY),
        ),
    ]


def measure(plan: Plan, jobs: int) -> dict[str, Any]:
    """All figures as plain data, sampled by `jobs` processes: each kind's region against the prompts of each kind."""
    found = kinds()
    with workers(jobs) as pool:
        regions, recordings = {}, {}
        for kind in found:
            chosen = plain_trials(kind.prompts("rates-calibration", plan.calibration), SEED)
            parts = list(pool.map(partial(record_calibration, MAIN), cut(chosen)))
            regions[kind.name] = kind.learn(
                np.concatenate([curves for curves, _ in parts]), [one for _, own in parts for one in own]
            )
            held_out: Sequence[Trial] = plain_trials(
                kind.prompts("rates-held-out", plan.ordinary), SEED_BASES["ordinary"]
            )
            recordings[kind.name] = join(list(pool.map(partial(record_trials, MAIN), cut(held_out))))
            log.info("%s: %d trajectories", kind.name, len(chosen) + len(held_out))
    rows = []
    for learned, region in regions.items():
        for judged, recording in recordings.items():
            scores = recording.scores(region)
            flagged = [[one, int((scores > region.threshold(one)).sum()), len(scores)] for one in (*STATED, *CURVE)]
            rows.append(
                {
                    "learned": learned,
                    "judged": judged,
                    "supported": region.supported,
                    "stated": flagged[: len(STATED)],
                    "curve": flagged[len(STATED) :],
                }
            )
    return {**asdict(plan), "rows": rows}
