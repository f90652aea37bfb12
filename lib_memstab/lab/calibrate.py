"""Calibrate the lab model: ordinary prompts sampled and measured, and the profile that comes of it.

One profile, one region a mode, by a rule that is stated and not tuned to any cell of the bench: Euler, 20 steps, the
training size. txt2img goes round `WAYS`, guidance with or without a negative prompt (another calibration prompt);
img2img starts from ordinary scenes at strengths going round `STRENGTHS`. Prompts are the split's calibration prompts,
which no table uses.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lib_memstab import __version__
from lib_memstab.core import profile as profiles
from lib_memstab.core.learning import learn
from lib_memstab.core.profile import Calibration, Checkpoint, Covered, Latent, Mode, Profile, Statistic, Versions
from lib_memstab.core.region import Conditions, FloatArray
from lib_memstab.lab import scenes
from lib_memstab.lab.corpus import scene_of
from lib_memstab.lab.experiment import CHECKPOINT, PROFILE, load_lab_model, load_splits, record
from lib_memstab.lab.sampling import Job
from lib_memstab.lab.sd1_layout import LabModel

log = logging.getLogger("memstab.lab")

WAYS = (
    (7.5, False),
    (1.0, False),
    (7.5, False),
    (3.0, False),
    (7.5, False),
    (12.0, False),
    (7.5, True),
    (7.5, False),
)
STRENGTHS = (0.75, 0.5, 0.9, 0.3)
SEED = 700_000


def calibration_jobs(prompts: Sequence[str], mode: Mode, first: int) -> list[Job]:
    """Jobs of each way of sampling in turn; `first` seeds the first prompt."""
    count = len(WAYS if mode == "txt2img" else STRENGTHS)
    jobs = []
    for index in range(count):
        texts = list(prompts[index::count])
        job = Job(texts, [first + index + count * place for place in range(len(texts))])
        if mode == "img2img":
            jobs.append(replace(job, strength=STRENGTHS[index]))
            continue
        guidance, negative = WAYS[index]
        jobs.append(replace(job, guidance=guidance, negative=[*texts[1:], *texts[:1]] if negative else ""))
    return jobs


def measure_jobs(jobs: Sequence[Job], mode: Mode) -> tuple[FloatArray, list[Conditions]]:
    """Curves [N, K] of these jobs and what each was sampled under; img2img gets a scene of its own for every seed."""
    torch.set_num_threads(1)
    model = load_lab_model()
    curves, conditions = [], []
    for job in jobs:
        start = job
        if mode == "img2img":
            pictures = torch.cat([scenes.render(scene_of(seed)) for seed in job.seeds])
            with torch.no_grad():
                start = replace(job, init=torch.cat([model.encode_images(part) for part in pictures.split(32)]))
        _, own, first = record(model, start)
        curves.append(own)
        conditions += [Conditions(job.guidance, round(float(sigma), 3), bool(job.negative)) for sigma in first]
    return np.concatenate(curves), conditions


def calibrate_mode(prompts: Sequence[str], mode: Mode, workers: int) -> Calibration:
    """One mode's region from these prompts, shared out to `workers` processes of one thread."""
    parts = [calibration_jobs(prompts[rank::workers], mode, SEED + 10_000 * rank) for rank in range(workers)]
    with ProcessPoolExecutor(workers) as pool:
        measured = list(pool.map(partial(measure_jobs, mode=mode), parts))
    curves = np.concatenate([part for part, _ in measured])
    conditions = [one for _, part in measured for one in part]
    guidance = [one.guidance for one in conditions]
    region = learn(curves, conditions)
    covered = Covered(
        samplers=("Euler",),
        schedulers=("Automatic",),
        steps=(Job.steps, Job.steps),
        guidance=(min(guidance), max(guidance)),
        sizes=((Job.height // 8, Job.width // 8),),
        trajectories=region.count,
        prompts="the lab's calibration split: captions, never-seen titles, both joined, bare words",
    )
    log.info(
        "%s: %d trajectories, %d left out as replays, 1 in 100 at score %.2f, 1 in 1000 at %.2f",
        mode,
        region.count,
        len(curves) - region.count,
        region.threshold(100),
        region.threshold(1000),
    )
    return Calibration(region, covered)


def lab_profile(model: LabModel, modes: Mapping[Mode, Calibration]) -> Profile:
    """The lab model's profile, with these calibrations, as of today."""
    digest = hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    return Profile(
        name=PROFILE.stem,
        checkpoint=Checkpoint(CHECKPOINT.name, digest),
        latent=Latent(model.config.latent_channels),
        prediction=model.config.prediction_type,
        created=datetime.date.today().isoformat(),
        versions=Versions(__version__, torch.__version__, "memstab lab"),
        statistic=Statistic(),
        modes=modes,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab calibrate`."""
    parser.add_argument("--trajectories", type=int, default=512, help="ordinary prompts in each mode, at most 512")
    parser.add_argument("--out", type=Path, default=PROFILE.parent, help="folder of the profile")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")


def run(args: argparse.Namespace) -> int:
    """Calibrate both modes and save the profile."""
    prompts = load_splits()["calibration"][: args.trajectories]
    modes: tuple[Mode, ...] = ("txt2img", "img2img")
    calibrations = {mode: calibrate_mode(prompts, mode, args.jobs) for mode in modes}
    profile = lab_profile(load_lab_model(), calibrations)
    args.out.mkdir(parents=True, exist_ok=True)
    path = profiles.save(profile, args.out)
    sys.stdout.write(json.dumps({"profile": str(path), "checksum": profile.checksum}) if args.json else f"{path}\n")
    return 0
