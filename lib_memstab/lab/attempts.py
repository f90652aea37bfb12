"""Attempts to make the lab model replay a picture while MemStab suppresses, and what came of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.region import Region
from lib_memstab.core.report import ImageReport
from lib_memstab.core.suppression import TextRows, Windows
from lib_memstab.lab.attempt import Attempt
from lib_memstab.lab.experiment import calibrated, text_rows
from lib_memstab.lab.figures import Judge
from lib_memstab.lab.sampling import Job, Watcher, sample
from lib_memstab.lab.sd1_layout import LabModel
from lib_memstab.lab.trials import Trial

Wrap = Callable[[LabModel, Monitor], Watcher]


@dataclass(frozen=True)
class Play:
    """One batch that an attacker samples.

    Attributes:
        job: what is sampled.
        rows: what MemStab may replace in the text; None for what a host knows of the job's prompts.
        wrap: makes the job's watcher of the monitor, where the text is not the same all along.
    """

    job: Job
    rows: TextRows | None = None
    wrap: Wrap | None = None


def carried(model: LabModel, text: Tensor) -> TextRows:
    """What a host knows of text features [B, T, D] that come from no prompt, such as 75 vectors of an inversion.

    All rows are the user's, so no end mark or padding can be replaced, and no prompt can be read in windows.
    """
    return TextRows(model.encode_prompts([""]), torch.ones(text.shape[:2], dtype=torch.bool, device=text.device))


def play(model: LabModel, plan: Play, region: Region, settings: Settings) -> tuple[Tensor, list[ImageReport]]:
    """Sample a batch under MemStab: final latents [B, 4, h, w] and a report of each image."""
    job = plan.job
    rows = plan.rows if plan.rows is not None or plan.wrap is not None else text_rows(model, job.prompts)
    rule = Windows(settings.strength)
    monitor = Monitor(
        region, settings, rule, job.guidance, rows, negative=bool(job.negative), calibrated=calibrated(job)
    )
    latents = sample(model, job, monitor if plan.wrap is None else plan.wrap(model, monitor))
    return latents, monitor.reports(len(job.prompts), host="memstab lab")


def attempts(
    judge: Judge,
    plan: Play,
    trials: Sequence[Trial],
    region: Region,
    settings: Settings,
    attack: str,
    effort: int = 0,
    penalty: float = 0.0,
) -> list[Attempt]:
    """Sample a batch without suppression and with it, at equal seeds; `trials` say whose picture each image is after.

    What is not flagged is the same both times, bit for bit, so a batch without a flag is sampled once.
    """
    plain, reports = play(judge.model, plan, region, replace(settings, mode="detect"))
    flagged = [report.verdict == "flagged" for report in reports]
    after = plain
    if any(flagged):
        after, _ = play(judge.model, plan, region, replace(settings, mode="suppress"))
    without, _ = judge.similarities(plain, trials)
    suppressed, _ = judge.similarities(after, trials)
    return [
        Attempt(
            attack,
            trial.text if trial.pair is None else trial.pair.text,
            "" if trial.pair is None else trial.pair.kind,
            trial.seed,
            effort,
            penalty,
            round(float(before), 4),
            round(float(left), 4),
            found,
            report.score,
        )
        for trial, before, left, found, report in zip(trials, without, suppressed, flagged, reports, strict=True)
    ]
