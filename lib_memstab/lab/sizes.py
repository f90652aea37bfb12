"""How many trajectories a calibration needs: regions from draws of a pool, judged on the same test trajectories."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib_memstab.core.calibration import learn
from lib_memstab.core.region import Conditions, FloatArray
from lib_memstab.lab.recording import Recording, cut, join, record_calibration, record_trials
from lib_memstab.lab.statistics import auc
from lib_memstab.lab.tools import STATED, workers
from lib_memstab.lab.transfer import Plan as Sampling
from lib_memstab.lab.trials import MAIN

log = logging.getLogger("memstab.bench")

SIZES = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Plan(Sampling):
    """As for the matrices, but of the main cell only; `calibration` is the pool, with up to `draws` of each size."""

    calibration: int = 512
    ordinary: int = 1000
    seeds: int = 3
    draws: int = 8


def draws(pool: int, size: int, most: int) -> list[NDArray[np.int_]]:
    """Places of up to `most` calibrations of `size` in the pool, none of which share a trajectory; always the same."""
    order = np.random.default_rng(size).permutation(pool)
    return [order[size * index : size * (index + 1)] for index in range(min(most, pool // size))]


def judge_size(
    curves: FloatArray,
    conditions: Sequence[Conditions],
    chosen: Sequence[NDArray[np.int_]],
    ordinary: Recording,
    memorized: Recording,
) -> dict[str, Any]:
    """Figures of each draw: false alarms and flagged copies by stated rate, and AUC."""
    regions = [learn(curves[places], [conditions[place] for place in places]) for places in chosen]
    plain = [ordinary.scores(region) for region in regions]
    copies = [memorized.scores(region)[memorized.copied] for region in regions]
    flagged = {
        name: {
            f"{stated:g}": [
                int((one > region.threshold(stated)).sum()) for region, one in zip(regions, scores, strict=True)
            ]
            for stated in STATED
        }
        for name, scores in (("alarms", plain), ("copies", copies))
    }
    return {
        **flagged,
        "auc": [auc(*pair) for pair in zip(copies, plain, strict=True)] if memorized.copied.any() else [],
    }


def measure(plan: Plan, sizes: Sequence[int], jobs: int) -> dict[str, Any]:
    """All figures of these sizes, as plain data, sampled by `jobs` processes."""
    trials = plan.trials()
    with workers(jobs) as pool:
        measured = list(pool.map(partial(record_calibration, MAIN), cut(trials.calibration)))
        log.info("calibration: %d trajectories", len(trials.calibration))
        ordinary = join(list(pool.map(partial(record_trials, MAIN), cut(trials.ordinary))))
        log.info("ordinary: %d trajectories", len(trials.ordinary))
        memorized = join(list(pool.map(partial(record_trials, MAIN), cut(trials.memorized))))
        log.info("memorized: %d trajectories, %d copies", len(trials.memorized), memorized.copied.sum())
    curves = np.concatenate([part for part, _ in measured])
    conditions = [one for _, part in measured for one in part]
    rows = []
    for size in sizes:
        chosen = draws(len(curves), size, plan.draws)
        if chosen:
            rows.append(
                {"size": size, "draws": len(chosen), **judge_size(curves, conditions, chosen, ordinary, memorized)}
            )
    return {
        **asdict(plan),
        "trajectories": {"ordinary": len(trials.ordinary), "copies": int(memorized.copied.sum())},
        "sizes": rows,
    }
