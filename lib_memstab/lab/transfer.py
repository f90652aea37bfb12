"""How far a calibration carries: a region from one way of sampling, held against trajectories of every other.

One matrix for samplers, step counts, guidance scales and latent sizes each, everything else as in the main cell: rows
are what the region was learned from, columns what it judges. Every way of sampling is sampled once. The statement that
is checked: nowhere does the observed rate of false alarms exceed twice the stated one without the status line having
said that the profile was calibrated for something else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from lib_memstab.calibration.batches import SEED
from lib_memstab.core.calibration import learn
from lib_memstab.core.matching import match
from lib_memstab.core.profile import Calibration, Covered, Profile
from lib_memstab.core.region import Region
from lib_memstab.lab.calibrate import lab_profile
from lib_memstab.lab.experiment import SCHEDULE, load_splits
from lib_memstab.lab.recording import Recording, record_calibration, record_trials
from lib_memstab.lab.sampling import SAMPLERS, Job
from lib_memstab.lab.sd1_layout import LabModel
from lib_memstab.lab.statistics import auc, rate_interval
from lib_memstab.lab.tools import SEED_BASES, load_tools, workers
from lib_memstab.lab.trials import Cell, Trial, memorized_trials, plain_trials

log = logging.getLogger("memstab.bench")


@dataclass(frozen=True)
class Way:
    """One way of sampling; by default that of the main cell. `size` is height and width in latent pixels."""

    sampler: str = Job.sampler
    steps: int = Job.steps
    guidance: float = Job.guidance
    size: tuple[int, int] = (Job.height // 8, Job.width // 8)

    @property
    def cell(self) -> Cell:
        """The bench's cell that samples this way."""
        height, width = self.size
        job = {"sampler": self.sampler, "steps": self.steps, "guidance": self.guidance}
        name = f"{self.sampler} {self.steps}, CFG {self.guidance:g}, {height}x{width}"
        return Cell(name, {**job, "height": 8 * height, "width": 8 * width})


Axes = Mapping[str, Mapping[str, Way]]

AXES: Axes = {
    "sampler": {name: Way(sampler=name) for name in SAMPLERS},
    "steps": {f"{steps}": Way(steps=steps) for steps in (10, 20, 30, 50)},
    "CFG": {f"{scale:g}": Way(guidance=scale) for scale in (1.0, 3.0, 5.0, 7.5, 12.0)},
    "latents": {f"{height}x{width}": Way(size=(height, width)) for height, width in ((16, 16), (24, 24), (16, 32))},
}
"""The matrices: what each row and column is called, and how it is sampled.

LMS, of order 4, falls apart at 20 steps of its own schedule and CFG 7.5: few of its pictures are copies of anything.
"""


@dataclass(frozen=True)
class Plan:
    """How much is sampled each way: calibration and ordinary prompts, and seeds of each memorized prompt of a split."""

    split: str = "tuning"
    calibration: int = 64
    ordinary: int = 200
    seeds: int = 2

    def trials(self) -> Trials:
        """The trajectories of every way of sampling."""
        splits = load_splits()
        split = splits[self.split]
        return Trials(
            plain_trials(splits["calibration"][: self.calibration], SEED),
            plain_trials(split["ordinary"][: self.ordinary], SEED_BASES["ordinary"]),
            memorized_trials(split, self.seeds, SEED_BASES["memorized"], rates=("heavy", "medium")),
        )


@dataclass(frozen=True)
class Trials:
    """What is sampled each way."""

    calibration: Sequence[Trial]
    ordinary: Sequence[Trial]
    memorized: Sequence[Trial]

    @property
    def count(self) -> int:
        """Trajectories in all."""
        return len(self.calibration) + len(self.ordinary) + len(self.memorized)


@dataclass(frozen=True)
class Sampled:
    """What came of one way of sampling: the region of its row, the trajectories of its column, and how long it took."""

    region: Region
    ordinary: Recording
    memorized: Recording
    seconds: float


def sample_way(way: Way, trials: Trials) -> Sampled:
    """Sample everything one way."""
    load_tools()
    start = time.perf_counter()
    region = learn(*record_calibration(way.cell, trials.calibration))
    ordinary, memorized = (record_trials(way.cell, some) for some in (trials.ordinary, trials.memorized))
    return Sampled(region, ordinary, memorized, time.perf_counter() - start)


def profile_of(model: LabModel, way: Way, region: Region) -> Profile:
    """The profile that a calibration of only this way of sampling would have saved."""
    covered = Covered(
        samplers=(way.sampler,),
        schedulers=(SCHEDULE,),
        steps=(way.steps, way.steps),
        guidance=(way.guidance, way.guidance),
        sizes=(way.size,),
        trajectories=region.count,
        prompts="the lab's calibration split",
    )
    return lab_profile(model, {"txt2img": Calibration(region, covered)})


def status(profile: Profile, way: Way) -> str:
    """What the status line says of a job sampled this way under the profile: "exact", or "transfer", the warning."""
    return match(
        profile,
        checkpoint=profile.checkpoint,
        channels=profile.latent.channels,
        mode="txt2img",
        sampler=way.sampler,
        scheduler=SCHEDULE,
        steps=way.steps,
        guidance=way.guidance,
        size=way.size,
    ).state


def judge_cell(region: Region, tested: Sampled, sensitivity: float) -> dict[str, Any]:
    """How well a region tells a column's copies from its ordinary trajectories, and its rate of false alarms."""
    threshold = region.threshold(sensitivity)
    copies = tested.memorized.scores(region)[tested.memorized.copied]
    ordinary = tested.ordinary.scores(region)
    alarms = int((ordinary > threshold).sum())
    return {
        "auc": auc(copies, ordinary) if len(copies) else None,
        "copies": [int((copies > threshold).sum()), len(copies)],
        "alarms": [alarms, len(ordinary)],
        "interval": list(rate_interval(alarms, len(ordinary))),
    }


def matrices(model: LabModel, axes: Axes, sampled: Mapping[Way, Sampled], sensitivity: float) -> dict[str, Any]:
    """The cells of every matrix, row by row."""
    found: dict[str, Any] = {}
    for axis, ways in axes.items():
        found[axis] = []
        for row, calibrated in ways.items():
            region = sampled[calibrated].region
            profile = profile_of(model, calibrated, region)
            found[axis] += [
                {
                    "calibrated": row,
                    "tested": column,
                    **judge_cell(region, sampled[way], sensitivity),
                    "status": status(profile, way),
                }
                for column, way in ways.items()
            ]
    return found


def above_twice(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cells whose observed rate of false alarms is above twice the stated one, with their matrix as "axis".

    "significant": even the lower end of the rate's interval is. "warned": the status line says anything but "exact".
    """
    sensitivity = figures["sensitivity"]
    return [
        {
            "axis": axis,
            **cell,
            "significant": cell["interval"][0] * sensitivity > 2,
            "warned": cell["status"] != "exact",
        }
        for axis, cells in figures["matrices"].items()
        for cell in cells
        if cell["alarms"][0] * sensitivity > 2 * cell["alarms"][1]
    ]


def unwarned(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cells that speak against the statement: significantly above twice the stated rate, and no warning."""
    return [cell for cell in above_twice(figures) if cell["significant"] and not cell["warned"]]


def measure(plan: Plan, axes: Axes, sensitivity: float, jobs: int) -> dict[str, Any]:
    """All figures of these matrices, as plain data, sampled by `jobs` processes."""
    trials = plan.trials()
    ways = list(dict.fromkeys(way for column in axes.values() for way in column.values()))
    sampled: dict[Way, Sampled] = {}
    with workers(jobs) as pool:
        for way, one in zip(ways, pool.map(partial(sample_way, trials=trials), ways), strict=True):
            sampled[way] = one
            log.info(
                "%s: done, %d of %d; %.2f s each trajectory",
                way.cell.name,
                len(sampled),
                len(ways),
                one.seconds / trials.count,
            )
    return {
        **asdict(plan),
        "sensitivity": sensitivity,
        "ways": [
            {
                "way": way.cell.name,
                "calibration": one.region.count,
                "copies": [int(one.memorized.copied.sum()), len(trials.memorized)],
                "ordinary that are copies": [int(one.ordinary.alike.sum()), len(trials.ordinary)],
            }
            for way, one in sampled.items()
        ],
        "matrices": matrices(load_tools()[0], axes, sampled, sensitivity),
    }
