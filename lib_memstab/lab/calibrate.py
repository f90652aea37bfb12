"""Calibrate the lab model, by the very calibration that a WebUI runs (`lib_memstab.calibration`), on the lab's sampler.

By default with the split's calibration prompts, which no table uses; with `--stranger` as a checkpoint is calibrated of
which nobody knows a prompt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lib_memstab.calibration.batches import Batch, Sampled
from lib_memstab.calibration.journal import open_journal
from lib_memstab.calibration.plan import SCALES, Plan
from lib_memstab.calibration.work import Work, new_profile
from lib_memstab.core import profile as profiles
from lib_memstab.core.profile import Calibration, Checkpoint, Mode, Prediction, Profile
from lib_memstab.lab.experiment import CHECKPOINT, PROFILE, Watching, load_lab_model, load_splits
from lib_memstab.lab.sampling import Job, sample
from lib_memstab.lab.sd1_layout import LabModel
from lib_memstab.lab.tools import workers

log = logging.getLogger("memstab.lab")

HOST = "memstab lab"
END_OF_WORD = "</w>"
OWN = Plan(
    sampler=Job.sampler,
    scheduler="Automatic",
    steps=Job.steps,
    width=Job.width,
    height=Job.height,
    guidance=(7.5, 1.0, 3.0, 12.0),
    trajectories=512,
    batch_size=64,
)
"""The shipped profile's calibration, but for its prompts."""

STRANGER = replace(OWN, guidance=SCALES, trajectories=256)


def sample_batch(batch: Batch) -> Sampled:
    """Sample a calibration's batch with the lab model."""
    torch.set_num_threads(1)
    job = Job(
        batch.prompts,
        batch.seeds,
        negative=batch.negatives if any(batch.negatives) else "",
        sampler=batch.way.sampler,
        guidance=batch.way.guidance,
        steps=batch.steps,
        init=None if batch.init is None else batch.init.float(),
        strength=batch.way.strength,
    )
    watching = Watching()
    latents = sample(load_lab_model(), job, watching)
    curves, starts = watching.recorder.curves()
    return Sampled(curves, starts, watching.recorder.response(), latents.half())


class Lab:
    """The lab as a calibration needs it: `jobs` processes share each batch."""

    name = HOST

    def __init__(self, jobs: int) -> None:
        self._pool, self._jobs = workers(jobs), jobs

    def checkpoint(self) -> Checkpoint:
        """The lab model."""
        return lab_checkpoint()

    def prediction(self) -> Prediction:
        """What it predicts."""
        return load_lab_model().config.prediction_type

    def networks(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """None: the lab has no LoRAs."""
        return ()

    def vocabulary(self) -> Sequence[str]:
        """Words of its tokenizer, the most frequent first."""
        entries = sorted(load_lab_model().tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        return [entry.removesuffix(END_OF_WORD) for entry, _ in entries if entry.endswith(END_OF_WORD)]

    def run(self, work: Callable[[], None], batches: int) -> None:
        """Do `work` now."""
        work()

    def interrupt(self) -> None:
        """Nothing: on the command line Ctrl+C ends it, and the journal keeps what was measured."""

    def sample(self, plan: Plan, batch: Batch) -> Sampled:
        """Sample a batch, a part of it in each process."""
        parts = [batch.part(range(rank, len(batch.prompts), self._jobs)) for rank in range(self._jobs)]
        done = list(self._pool.map(sample_batch, [part for part in parts if part.prompts]))
        places = [place for rank in range(self._jobs) for place in range(rank, len(batch.prompts), self._jobs)]
        order = np.argsort(places)
        latents = [one.latents for one in done if one.latents is not None]
        return Sampled(
            np.concatenate([one.curves for one in done])[order],
            np.concatenate([one.starts for one in done])[order],
            np.concatenate([one.response for one in done])[order],
            torch.cat(latents)[order],
        )


def lab_checkpoint() -> Checkpoint:
    """The lab model's name and hash."""
    return Checkpoint(CHECKPOINT.stem, hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest())


def lab_profile(model: LabModel, modes: Mapping[Mode, Calibration]) -> Profile:
    """The lab model's profile, with these calibrations, as of today."""
    config = model.config
    return new_profile(PROFILE.stem, lab_checkpoint(), config.latent_channels, config.prediction_type, HOST, modes)


def calibrate(plan: Plan, jobs: int, unfinished: Path) -> Profile:
    """The profile of this plan; what was measured before a stop lies in the folder `unfinished` until it is done."""
    lab = Lab(jobs)
    journal = open_journal(unfinished, lab.checkpoint(), plan)
    total, done = plan.images(), 0

    def sampled(batch: Batch, now: bool) -> None:
        nonlocal done
        done += len(batch.prompts)
        if now:
            log.info("%d of %d images", done, total)

    work = Work(lab, journal, replace(plan, name=PROFILE.stem), lambda: False, log.info, sampled)
    profile = work.profile()
    journal.close()
    log.info("%d prompts that replay a picture were left out", work.replays)
    for mode, calibration in profile.modes.items():
        region = calibration.region
        bounds = ", ".join(f"1 in {stated} at {region.threshold(stated):.2f}" for stated in (10, 100, 1000))
        log.info("%s: %d trajectories, %s deviations", mode, region.count, bounds)
    return profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab calibrate`."""
    parser.add_argument("--trajectories", type=int, help="ordinary images in each mode")
    parser.add_argument(
        "--stranger", action="store_true", help="choose prompts as for a checkpoint of which nobody knows a prompt"
    )
    parser.add_argument("--out", type=Path, default=PROFILE.parent, help="folder of the profile")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")


def run(args: argparse.Namespace) -> int:
    """Calibrate both modes and save the profile; 2 for too few trajectories."""
    plan = STRANGER if args.stranger else replace(OWN, prompts=tuple(load_splits()["calibration"]))
    plan = replace(plan, trajectories=args.trajectories or plan.trajectories)
    if plan.trajectories < plan.fewest():
        log.error("calibrate: %d trajectories are too few for its bands: at least %d", plan.trajectories, plan.fewest())
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    path = profiles.save(calibrate(plan, args.jobs, args.out / "unfinished"), args.out)
    sys.stdout.write(json.dumps({"profile": str(path)}) if args.json else f"{path}\n")
    return 0
