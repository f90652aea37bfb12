"""One region for all models? Learned from all but one of several lab models, held against the one that is left out.

If false alarms and hits held there, a checkpoint without a calibration could be judged by a region of others, and be
told so. Every model is sampled in processes of its own, which know it by MEMSTAB_LAB_MODEL.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib_memstab.core.calibration import learn
from lib_memstab.core.region import Conditions, FloatArray, Region
from lib_memstab.lab.experiment import MODEL_FOLDER, OTHER_MODEL_NAME
from lib_memstab.lab.recording import Recording, cut, join, record_calibration, record_trials
from lib_memstab.lab.statistics import auc, rate_interval
from lib_memstab.lab.transfer import Plan
from lib_memstab.lab.trials import MAIN

log = logging.getLogger("memstab.bench")


@dataclass(frozen=True)
class Recorded:
    """One model: curves [N, K] of ordinary prompts with what they were sampled under, and trajectories to judge."""

    name: str
    curves: FloatArray
    conditions: list[Conditions]
    ordinary: Recording
    memorized: Recording


def record_model(folder: Path, plan: Plan, jobs: int) -> Recorded:
    """Sample one model, in `jobs` processes that know no other."""
    before = os.environ.get(OTHER_MODEL_NAME)
    os.environ[OTHER_MODEL_NAME] = str(folder.resolve())
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            parts = list(pool.map(_record, [(plan, rank, jobs) for rank in range(jobs)]))
    finally:
        if before is None:
            del os.environ[OTHER_MODEL_NAME]
        else:
            os.environ[OTHER_MODEL_NAME] = before
    log.info("%s: %d calibration trajectories", folder, sum(len(part.curves) for part in parts))
    return Recorded(
        "/".join(folder.resolve().parts[-2:]),
        np.concatenate([part.curves for part in parts]),
        [one for part in parts for one in part.conditions],
        join([part.ordinary for part in parts]),
        join([part.memorized for part in parts]),
    )


def _record(work: tuple[Plan, int, int]) -> Recorded:
    """One process's share of a model's trajectories."""
    plan, rank, jobs = work
    trials = plan.trials()
    curves, conditions = record_calibration(MAIN, trials.calibration[rank::jobs])
    ordinary, memorized = (
        join([record_trials(MAIN, part) for part in cut(some[rank::jobs])])
        for some in (trials.ordinary, trials.memorized)
    )
    return Recorded(str(MODEL_FOLDER), curves, conditions, ordinary, memorized)


def judged(region: Region, model: Recorded, sensitivity: float) -> dict[str, Any]:
    """How a region does on a model: AUC, false alarms and hits at 1 in `sensitivity`."""
    plain, copies = model.ordinary.scores(region), model.memorized.scores(region)[model.memorized.copied]
    bound = region.threshold(sensitivity)
    alarms = int((plain > bound).sum())
    return {
        "auc": auc(copies, plain) if len(copies) else None,
        "alarms": [alarms, len(plain)],
        "interval": list(rate_interval(alarms, len(plain))),
        "copies": [int((copies > bound).sum()), len(copies)],
    }


def leave_one_out(models: Sequence[Recorded], sensitivity: float) -> list[dict[str, Any]]:
    """Each model by its own region, and by one of all the others together."""
    rows = []
    for own in models:
        others = [one for one in models if one is not own]
        # All begin at nearly the same noise level: they share a band.
        provisional = learn(np.concatenate([one.curves for one in others]))
        rows.append(
            {
                "model": own.name,
                "own": judged(learn(own.curves, own.conditions), own, sensitivity),
                "others": judged(provisional, own, sensitivity),
            }
        )
    return rows


def measure(folders: Sequence[Path], plan: Plan, sensitivity: float, jobs: int) -> dict[str, Any]:
    """All figures, as plain data; `folders` are those of the models, two or more."""
    models = [record_model(folder, plan, jobs) for folder in folders]
    return {
        **asdict(plan),
        "sensitivity": sensitivity,
        "trained": [json.loads((folder / "training.json").read_text(encoding="utf-8")) for folder in folders],
        "rows": leave_one_out(models, sensitivity),
    }
