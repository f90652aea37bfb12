"""Recordings: trajectories sampled once, with all that was measured on the way, for any region to judge afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lib_memstab.core.detection import Detector
from lib_memstab.core.measurement import Measurement
from lib_memstab.core.region import Conditions, FloatArray, Region
from lib_memstab.lab import truth
from lib_memstab.lab.experiment import BATCH, batches, record
from lib_memstab.lab.sampling import sample
from lib_memstab.lab.tools import load_judge
from lib_memstab.lab.trials import Cell, Probe, Trial, job_of

_FIELDS = [field.name for field in fields(Measurement)]


@dataclass(frozen=True)
class Recording:
    """Trajectories of one way of sampling, before any region.

    Attributes:
        guidance: scale they were sampled with.
        measured: each field of `Measurement`, [steps, N]; arrays, because between processes every tensor would cost a
            file handle.
        copied: bool [N]; the picture is a copy of the trial's own memorized one.
        alike: bool [N]; the picture is a copy of a memorized one that is not the trial's.
    """

    guidance: float
    measured: dict[str, NDArray[Any]]
    copied: NDArray[np.bool_]
    alike: NDArray[np.bool_]

    def scores(self, region: Region) -> FloatArray:
        """Largest excess [N] over the whole trajectory, as a watched job's detector has it."""
        # The threshold counts steps outside; it has no part in the score.
        detector = Detector(region, np.inf, self.guidance)
        for row in range(len(self.measured["sigma"])):
            detector.update(Measurement(**{name: torch.from_numpy(self.measured[name][row]) for name in _FIELDS}))
        scores: FloatArray = detector.score.double().numpy()
        return scores


def record_trials(cell: Cell, trials: Sequence[Trial]) -> Recording:
    """Sample trials, unwatched, and keep what was measured and which became copies."""
    model, judge = load_judge()
    latents, parts = [], []
    job = job_of(model, cell, trials)
    for part in batches(job):
        probe = Probe(None)
        latents.append(sample(model, part, probe))
        parts.append(
            [torch.stack([getattr(one, name) for one in probe.measurements]).cpu().numpy() for name in _FIELDS]
        )
    columns = (np.concatenate(column, axis=1) for column in zip(*parts, strict=True))
    own, other = judge.similarities(torch.cat(latents), trials)
    return Recording(
        job.guidance,
        dict(zip(_FIELDS, columns, strict=True)),
        own > truth.COPY_THRESHOLD,
        other > truth.COPY_THRESHOLD,
    )


def cut(trials: Sequence[Trial]) -> list[Sequence[Trial]]:
    """Trials in pieces of one batch, to be shared out to processes."""
    return [trials[start : start + BATCH] for start in range(0, len(trials), BATCH)]


def join(parts: Sequence[Recording]) -> Recording:
    """One recording of several of the same way of sampling."""
    return Recording(
        parts[0].guidance,
        {name: np.concatenate([part.measured[name] for part in parts], axis=1) for name in _FIELDS},
        np.concatenate([part.copied for part in parts]),
        np.concatenate([part.alike for part in parts]),
    )


def record_calibration(cell: Cell, trials: Sequence[Trial]) -> tuple[FloatArray, list[Conditions]]:
    """Curves [N, K] and conditions of trials without a negative prompt, as `region.learn` takes them."""
    model, _ = load_judge()
    job = job_of(model, cell, trials)
    _, curves, starts = record(model, job)
    return curves, [Conditions(job.guidance, round(float(start), 3)) for start in starts]
