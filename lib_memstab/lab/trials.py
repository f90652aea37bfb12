"""Trials: which prompts are sampled how, under which watch, and everything that was measured on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib_memstab.core.measurement import Measurement, measure
from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.region import FloatArray, Region
from lib_memstab.core.report import ImageReport
from lib_memstab.lab import scenes
from lib_memstab.lab.corpus import Memorized, scene_of
from lib_memstab.lab.experiment import batches, calibrated, text_rows
from lib_memstab.lab.rules import RULES
from lib_memstab.lab.sampling import Evaluate, Job, sample
from lib_memstab.lab.sd1_layout import LabModel


@dataclass(frozen=True)
class Cell:
    """One way to sample: a name for the table and what of `Job` it changes; `picture` starts img2img from a scene."""

    name: str
    job: dict[str, Any] = field(default_factory=dict)
    picture: bool = False

    @property
    def mode(self) -> str:
        """Which of a profile's regions applies."""
        return "img2img" if self.picture else "txt2img"


MAIN = Cell("Euler 20, CFG 7.5")
CELLS = (
    MAIN,
    Cell("DPM++ 2M Karras 25", {"sampler": "DPM++ 2M Karras", "steps": 25}),
    Cell("Euler a 30", {"sampler": "Euler a", "steps": 30}),
    Cell("Heun 15", {"sampler": "Heun", "steps": 15}),
    Cell("DPM++ SDE 12", {"sampler": "DPM++ SDE", "steps": 12}),
    Cell("DDIM 20", {"sampler": "DDIM"}),
    Cell("Euler 10", {"steps": 10}),
    Cell("Euler 50", {"steps": 50}),
    Cell("CFG 1", {"guidance": 1.0}),
    Cell("CFG 3", {"guidance": 3.0}),
    Cell("CFG 5", {"guidance": 5.0}),
    Cell("CFG 12", {"guidance": 12.0}),
    Cell("negative prompt", {"negative": "a red circle on a striped background"}),
    Cell("img2img .5", {"strength": 0.5}, picture=True),
    Cell("img2img .75", {"strength": 0.75}, picture=True),
    Cell("latents 24x24", {"height": 192, "width": 192}),
    Cell("latents 16x32", {"width": 256}),
)


@dataclass(frozen=True)
class Trial:
    """One trajectory to run: a prompt with its claims, a seed, and the memorized pair it belongs to, if any."""

    text: str
    claims: dict[str, Any]
    seed: int
    pair: Memorized | None = None


def memorized_trials(
    split: dict[str, Any], seeds: int, base: int, rates: Sequence[str] = ("heavy", "medium", "light")
) -> list[Trial]:
    """`seeds` trajectories of every memorized prompt of a split; templates go through their fillings."""
    trials: list[Trial] = []
    for row in split["memorized"]:
        pair = Memorized(**{name: value for name, value in row.items() if name != "fillings"})
        for index in range(seeds):
            prompt = row["fillings"][index % len(row["fillings"])] if pair.kind == "template" else row
            if pair.rate in rates:
                trials.append(Trial(prompt["text"], prompt["claims"], base + len(trials), pair))
    return trials


def plain_trials(prompts: Iterable[dict[str, Any] | str], base: int) -> list[Trial]:
    """One trajectory of each prompt."""
    rows: list[dict[str, Any]] = [
        prompt if isinstance(prompt, dict) else {"text": prompt, "claims": {}} for prompt in prompts
    ]
    return [Trial(row["text"], row["claims"], base + index) for index, row in enumerate(rows)]


def job_of(model: LabModel, cell: Cell, trials: Sequence[Trial]) -> Job:
    """The cell's job over these trials; img2img starts from an ordinary scene drawn by each trial's seed."""
    init = None
    if cell.picture:
        with torch.no_grad():
            init = torch.cat([model.encode_images(scenes.render(scene_of(trial.seed + 10**6))) for trial in trials])
    return Job([trial.text for trial in trials], [trial.seed for trial in trials], init=init, **cell.job)


_MEASURED = ("sigma", "uncond", "cross", "delta")


class Probe:
    """Keeps every evaluation's measurement and passes all calls on to a monitor, if there is one."""

    def __init__(self, monitor: Monitor | None) -> None:
        self.monitor = monitor
        self.measurements: list[Measurement] = []

    def condition(self, text: Tensor) -> Tensor:
        """As the monitor has it."""
        return text if self.monitor is None else self.monitor.condition(text)

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """As the monitor has it, measured first."""
        self.measurements.append(measure(sigma, eps_cond, eps_uncond))
        return eps if self.monitor is None else self.monitor.evaluated(x, sigma, eps_cond, eps_uncond, eps, evaluate)


@dataclass(frozen=True)
class Outcome:
    """What came of trials: latents [N, 4, h, w], measurements (each [steps, N]), reports if they were watched."""

    latents: Tensor
    sigma: FloatArray
    uncond: FloatArray
    cross: FloatArray
    delta: FloatArray
    excess: FloatArray
    reports: list[ImageReport]


def _rows(values: Sequence[Tensor]) -> FloatArray:
    """What was measured at each evaluation, [steps, B]."""
    rows: FloatArray = torch.stack(list(values)).double().cpu().numpy()
    return rows


def run_trials(
    model: LabModel, cell: Cell, trials: Sequence[Trial], region: Region | None, settings: Settings, rule: str = "none"
) -> Outcome:
    """Sample trials under a monitor and keep everything that was measured; no region, no excess."""
    latents, parts, reports, excess = [], [], [], []
    for part in batches(job_of(model, cell, trials)):
        monitor = Monitor(
            region,
            settings,
            RULES[rule](settings.strength),
            part.guidance,
            text_rows(model, part.prompts),
            negative=bool(part.negative),
            calibrated=calibrated(part),
        )
        probe = Probe(monitor)
        latents.append(sample(model, part, probe))
        reports += monitor.reports(len(part.prompts), host="memstab lab")
        parts.append([_rows([getattr(m, name) for m in probe.measurements]) for name in _MEASURED])
        steps = [] if monitor.detector is None else monitor.detector.steps
        excess.append(_rows([step.excess for step in steps]) if steps else np.zeros((0, len(part.prompts))))
    sigma, uncond, cross, delta = (np.concatenate(column, axis=1) for column in zip(*parts, strict=True))
    return Outcome(torch.cat(latents), sigma, uncond, cross, delta, np.concatenate(excess, axis=1), reports)
