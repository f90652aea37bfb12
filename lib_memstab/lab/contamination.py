"""What becomes of learning while one generates when some of the prompts are memorized: streams of lessons, judged.

A stream is what a user generates one after the other, ordinary prompts and a share of memorized ones, each once or in
two seeds. It is learned from as in the WebUI: a profile comes when there are enough lessons, is made anew with every
few more, and from then on what it flags is not learned from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lib_memstab.core.lessons import AGAIN, Lesson, calibrations, digest, lesson_path, ordinary, sketch_of
from lib_memstab.core.region import Conditions, Region
from lib_memstab.lab.experiment import load_splits, record
from lib_memstab.lab.recording import Recording, cut, join, record_trials
from lib_memstab.lab.sampling import Job
from lib_memstab.lab.tools import SEED_BASES, load_judge, workers
from lib_memstab.lab.trials import MAIN, Trial, job_of, memorized_trials, plain_trials

log = logging.getLogger("memstab.bench")

SHARES = (0.0, 0.01, 0.05, 0.2)

_OTHER_SEEDS = 5_000
"""What is added to a seed where a prompt is sampled once more, or learned from and tested."""


@dataclass(frozen=True)
class Plan:
    """How much is learned from and tested with: images in a stream, streams of each kind, and the split of the tests.

    Ordinary prompts that are learned from are the calibration split's.
    """

    split: str = "tuning"
    images: int = 256
    draws: int = 5
    ordinary: int = 400
    seeds: int = 1


@dataclass(frozen=True)
class Pool:
    """Lessons to draw streams from, those of ordinary prompts and of copies; of each prompt in two seeds."""

    plain: list[tuple[Lesson, Lesson]]
    copies: list[tuple[Lesson, Lesson]]


def lessons_of(trials: Sequence[Trial]) -> list[Lesson]:
    """Sample trials and take down what they teach."""
    job = job_of(load_judge()[0], MAIN, trials)
    latents, curves, starts = record(load_judge()[0], job)
    found = []
    for trial, latent, curve, start in zip(trials, latents, curves, starts, strict=True):
        path = lesson_path(curve)
        assert path is not None
        found.append(
            Lesson(
                mode="txt2img",
                sampler=job.sampler,
                scheduler="Automatic",
                steps=job.steps,
                channels=len(latent),
                size=(latent.shape[1], latent.shape[2]),
                conditions=Conditions(job.guidance, round(float(start), 4)),
                offset=path[0],
                path=path[1],
                prompt=digest(trial.text),
                sketch=sketch_of(latent),
                day="",
            )
        )
    return found


def stream(pool: Pool, share: float, twice: bool, images: int, chance: np.random.Generator) -> list[Lesson]:
    """`images` lessons in a random order, a `share` of them of copies; with `twice` every prompt in both its seeds."""
    replays = round(images * share)
    found: list[Lesson] = []
    for some, count in ((pool.copies, replays), (pool.plain, images - replays)):
        order = chance.permutation(len(some))
        prompts = [some[order[place % len(some)]] for place in range(-(-count // 2) if twice else count)]
        found += [one for pair in prompts for one in (pair if twice else pair[:1])][:count]
    return [found[place] for place in chance.permutation(len(found))]


def learn_from(lessons: Sequence[Lesson], sensitivity: float = 100) -> tuple[Region | None, list[Lesson]]:
    """The region that a stream has taught in the end, and the lessons it was learned from."""
    taken: list[Lesson] = []
    region: Region | None = None
    for place, lesson in enumerate(lessons):
        if region is None or _score(region, lesson) <= region.threshold(sensitivity):
            taken.append(lesson)
        if place % AGAIN == AGAIN - 1:
            found = calibrations(taken).get("txt2img")
            region = region if found is None else found.region
    return region, ordinary(taken)


def _score(region: Region, lesson: Lesson) -> float:
    """The largest excess of a lesson's path over the region."""
    _, tables = region.tables(lesson.conditions.guidance)
    mean, deviation = (np.interp(lesson.levels(), region.log_sigma, row) for row in tables[0])
    return float(((lesson.path - mean) / deviation).max())


def measure(plan: Plan, jobs: int) -> dict[str, Any]:
    """All figures, as plain data."""
    splits = load_splits()
    split = splits[plan.split]
    plain = plain_trials(splits["calibration"], SEED_BASES["ordinary"] + 2 * _OTHER_SEEDS)
    copies = memorized_trials(split, plan.seeds, SEED_BASES["memorized"] + _OTHER_SEEDS, ("heavy", "medium"))
    tests = {
        "ordinary": plain_trials(split["ordinary"][: plan.ordinary], SEED_BASES["ordinary"]),
        "copies": memorized_trials(split, plan.seeds, SEED_BASES["memorized"], ("heavy", "medium")),
    }
    with workers(jobs) as pool:

        def taught(trials: Sequence[Trial]) -> list[Lesson]:
            return [one for part in pool.map(lessons_of, cut(trials)) for one in part]

        both = [list(zip(taught(some), taught(_again(some)), strict=True)) for some in (plain, copies)]
        log.info("lessons: %d of ordinary prompts, %d of memorized ones, two seeds each", *map(len, both))
        judged = {name: join(list(pool.map(_tested, cut(some)))) for name, some in tests.items()}
        log.info("tests: %d ordinary, %d copies", len(tests["ordinary"]), judged["copies"].copied.sum())
    lessons = Pool(*both)
    return {
        **asdict(plan),
        "job": {"sampler": Job.sampler, "steps": Job.steps, "guidance": Job.guidance},
        "rows": [
            {"share": share, "twice": twice, **judge(lessons, share, twice, plan, judged)}
            for share in SHARES
            for twice in (False, True)
        ],
    }


def judge(pool: Pool, share: float, twice: bool, plan: Plan, tests: dict[str, Recording]) -> dict[str, Any]:
    """What streams of one kind come to: lessons of copies learned from, false alarms and hits at 1 in 100."""
    chance = np.random.default_rng([int(1000 * share), int(twice)])
    replayed = {one.prompt for pair in pool.copies for one in pair}
    used, alarms, hits = [], [], []
    for _ in range(plan.draws):
        region, lessons = learn_from(stream(pool, share, twice, plan.images, chance))
        used.append(sum(one.prompt in replayed for one in lessons))
        bound = np.inf if region is None else region.threshold(100)
        scores = {name: np.full(1, -np.inf) if region is None else one.scores(region) for name, one in tests.items()}
        alarms.append(int((scores["ordinary"] > bound).sum()))
        hits.append(int((scores["copies"] > bound)[tests["copies"].copied].sum()))
    return {
        "learned from": used,
        "alarms": alarms,
        "ordinary": len(tests["ordinary"].copied),
        "hits": hits,
        "copies": int(tests["copies"].copied.sum()),
    }


def _tested(trials: Sequence[Trial]) -> Recording:
    return record_trials(MAIN, trials)


def _again(trials: Sequence[Trial]) -> list[Trial]:
    return [replace(trial, seed=trial.seed + _OTHER_SEEDS) for trial in trials]
