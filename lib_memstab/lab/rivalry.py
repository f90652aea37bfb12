"""Published detectors and mitigations beside ours: the same prompts, the same seeds, figures of one table.

Every trajectory is sampled once without any method, seen by all detectors, and once more with each mitigation. Ours
suppresses what it flags; the others mitigate every image, as their authors use them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib_memstab.calibration.batches import SEED
from lib_memstab.core.monitor import Settings
from lib_memstab.core.region import FloatArray
from lib_memstab.core.suppression import Windows
from lib_memstab.lab import truth
from lib_memstab.lab.attention import Reading, processed
from lib_memstab.lab.corpus import Kind
from lib_memstab.lab.experiment import batches, load_splits
from lib_memstab.lab.figures import BoolArray, Judge, kinds_of
from lib_memstab.lab.rival_detectors import OurDetector, RivalDetector, Scoring, detectors, rms
from lib_memstab.lab.rivals import MITIGATIONS, AdjustedPrompt, Mitigation
from lib_memstab.lab.sampling import Evaluate, sample
from lib_memstab.lab.sd1_layout import LabModel
from lib_memstab.lab.statistics import auc, tpr_at_fpr
from lib_memstab.lab.tools import SEED_BASES, load_judge, load_tools, workers
from lib_memstab.lab.trials import MAIN, Cell, Trial, job_of, memorized_trials, plain_trials, run_trials

log = logging.getLogger("memstab.bench")

FIRST = (1, 3, None)
"""Over how many of the first steps each detector is held against the truth; None: all."""


@dataclass(frozen=True)
class Plan:
    """How much is sampled: the split, seeds of each of its memorized prompts, ordinary prompts; our sensitivity.

    `memorized` are how many memorized trajectories of each kind are taken, None for all.
    """

    split: str = "tuning"
    seeds: int = 1
    ordinary: int = 100
    sensitivity: float = Settings().sensitivity
    memorized: int | None = None

    def trials(self) -> list[Trial]:
        """The memorized trajectories, then the ordinary ones."""
        split = load_splits()[self.split]
        memorized = memorized_trials(split, self.seeds, SEED_BASES["memorized"])
        kinds = [[one for one in memorized if one.pair and one.pair.kind == kind] for kind in get_args(Kind)]
        return [
            *(one for own in kinds for one in own[: self.memorized]),
            *plain_trials(split["ordinary"][: self.ordinary], SEED_BASES["ordinary"]),
        ]


@dataclass(frozen=True)
class Sampled:
    """What one method made of all trials, as arrays, because between processes every tensor would cost a file handle.

    Attributes:
        latents: the pictures, float32 [N, C, h, w].
        extra: evaluations of the denoiser beside the sampler's own, [N].
        seen: what each detector, by name, says of the trajectories.
    """

    latents: NDArray[np.float32]
    extra: FloatArray
    seen: Mapping[str, Seen] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """A detector's scores, [N] for each of `FIRST`, and the evaluations that it asked for at each image."""

    scores: Sequence[FloatArray]
    extra: float


def watched(cell: Cell, trials: Sequence[Trial]) -> Sampled:
    """No method at all, and what every detector says of it."""
    model, _, regions = load_tools()
    latents, seen = [], []
    for part in batches(job_of(model, cell, trials)):
        reading = Reading()
        found = detectors(model, regions[cell.mode], part.guidance)
        negative = [part.negative] * len(part.prompts) if isinstance(part.negative, str) else list(part.negative)
        scoring = Scoring(found, model.encode_prompts(negative), reading)
        with processed(model.unet, reading.make):
            latents.append(sample(model, part, scoring))
        scores = scoring.scores()
        seen.append({one.name: _seen(one, scores[one.name]) for one in found})
    return Sampled(
        torch.cat(latents).numpy(),
        np.zeros(len(trials)),
        {name: _joined([part[name] for part in seen]) for name in seen[0]},
    )


def _seen(detector: RivalDetector, scores: FloatArray) -> Seen:
    return Seen([detector.over(scores[:first]) for first in FIRST], float(detector.extra * len(scores)))


def _joined(parts: Sequence[Seen]) -> Seen:
    columns = zip(*(part.scores for part in parts), strict=True)
    return Seen([np.concatenate(column) for column in columns], parts[0].extra)


def suppressed(cell: Cell, trials: Sequence[Trial], sensitivity: float) -> Sampled:
    """Ours: the default rule on what is flagged."""
    model, _, regions = load_tools()
    settings = Settings("suppress", sensitivity)
    run = run_trials(model, cell, trials, regions[cell.mode], settings, Windows.name)
    extra = np.array([float(report.extra_evaluations) for report in run.reports])
    return Sampled(run.latents.numpy(), extra)


def mitigated(make: Callable[[], Mitigation], cell: Cell, trials: Sequence[Trial]) -> Sampled:
    """A rival's mitigation of every trajectory."""
    model, _ = load_judge()
    latents, extra = [], []
    for part in batches(job_of(model, cell, trials)):
        mitigation = make()
        job = replace(part, prompts=mitigation.prompts(model, part.prompts, part.seeds))
        with mitigation.sampling(model, job):
            latents.append(sample(model, job, mitigation))
        extra.append(torch.zeros(len(job.prompts)) if mitigation.extra is None else mitigation.extra.cpu())
    return Sampled(torch.cat(latents).numpy(), torch.cat(extra).double().numpy())


class _FirstSize:
    """Keeps the size of the guidance term."""

    size: Tensor

    def condition(self, text: Tensor) -> Tensor:
        """The text as it is."""
        return text

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """The prediction as it is, measured."""
        self.size = rms(eps_cond - eps_uncond)
        return eps


def usual_size(model: LabModel, cell: Cell, prompts: Sequence[str]) -> float:
    """Median size of the guidance term at the first step of these prompts: the target of `AdjustedPrompt`."""
    first = replace(cell, job={**cell.job, "steps": 1})
    sizes = []
    for part in batches(job_of(model, first, plain_trials(prompts, SEED))):
        watching = _FirstSize()
        sample(model, part, watching)
        sizes.append(watching.size)
    return float(torch.cat(sizes).median())


def measure(plan: Plan, jobs: int) -> dict[str, Any]:
    """All figures as plain data, each method sampled by one of `jobs` processes."""
    return {**asdict(plan), **compare(MAIN, plan.trials(), plan.sensitivity, jobs)}


def compare(cell: Cell, trials: Sequence[Trial], sensitivity: float, jobs: int) -> dict[str, Any]:
    """Every method on the same trials, memorized and ordinary ones, as rows of plain data."""
    model, judge = load_judge()
    target = usual_size(model, cell, load_splits()["calibration"][:64])
    mitigations: dict[str, Callable[[], Mitigation]] = {kind.name: kind for kind in MITIGATIONS}
    mitigations[AdjustedPrompt.name] = partial(AdjustedPrompt, target)
    work: dict[str, Callable[[Cell, Sequence[Trial]], Sampled]] = {
        Mitigation.name: watched,
        OurDetector.name: partial(suppressed, sensitivity=sensitivity),
        **{name: partial(mitigated, make) for name, make in mitigations.items()},
    }
    sampled: dict[str, Sampled] = {}
    with workers(jobs) as pool:
        waiting = {name: pool.submit(method, cell, trials) for name, method in work.items()}
        for name, one in waiting.items():
            sampled[name] = one.result()
            log.info("%s: done, %d of %d", name, len(sampled), len(work))
    plain = sampled[Mitigation.name]
    copied = judge.similarities(torch.from_numpy(plain.latents), trials)[0] > truth.COPY_THRESHOLD
    ordinary = kinds_of(trials) == "plain"
    return {
        "target": target,
        "memorized": int((~ordinary).sum()),
        "copied": int(copied.sum()),
        "rows": [
            {
                "method": name,
                "detection": ranking(plain.seen[name], copied, ordinary) if name in plain.seen else None,
                "mitigation": left(judge, trials, plain, sampled[name], copied) if name in sampled else None,
            }
            for name in dict.fromkeys([Mitigation.name, *plain.seen, *sampled])
        ],
    }


def ranking(seen: Seen, copied: BoolArray, ordinary: BoolArray) -> dict[str, Any] | None:
    """How a detector ranks copies above ordinary trajectories; None where there are none of either."""
    if not copied.any() or not ordinary.any():
        return None
    return {
        "auc": [auc(scores[copied], scores[ordinary]) for scores in seen.scores],
        "tpr_at_1": tpr_at_fpr(seen.scores[-1][copied], seen.scores[-1][ordinary], 0.01),
        "extra": seen.extra,
    }


def left(judge: Judge, trials: Sequence[Trial], plain: Sampled, after: Sampled, copied: BoolArray) -> dict[str, Any]:
    """What a mitigation leaves of the copies, how many of their captions fit, and what it costs.

    Counts are [hits, trajectories]. A caption fits or not of those copies whose prompt has a meaning, and an ordinary
    picture is changed if it is not bit for bit the one without a method. `extra` is the mean of the copies.
    """
    latents, kinds = torch.from_numpy(after.latents), kinds_of(trials)
    own, _ = judge.similarities(latents, trials)
    told, ordinary = np.flatnonzero(copied & (kinds == "caption")), kinds == "plain"
    fits = judge.fits(latents[told], [trials[int(row)] for row in told])[0] if len(told) else np.zeros(0, dtype=bool)
    changed = (after.latents != plain.latents).any(axis=(1, 2, 3))
    return {
        "copies": [int((copied & (own > truth.COPY_THRESHOLD)).sum()), int(copied.sum())],
        "fits": [int(fits.sum()), len(told)],
        "changed": [int(changed[ordinary].sum()), int(ordinary.sum())],
        "extra": float(after.extra[copied].mean()) if copied.any() else 0.0,
    }
