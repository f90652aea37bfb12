"""Calibration inside the WebUI: ordinary prompts on the loaded checkpoint, measured, and a profile saved.

First one evaluation of many candidates tells which prompts the checkpoint reads (see `ordinary`). txt2img then goes
round the guidance scales, with and without a negative prompt, and a sampler that begins lower; img2img starts from the
pictures that came of it, at strengths in turn. One calibration runs at a time, in a thread of its own, in the WebUI's
queue.
"""

from __future__ import annotations

import datetime
import logging
import math
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch

from lib_memstab import __version__
from lib_memstab.core.profile import Calibration, Checkpoint, Covered, Latent, Mode, Profile, Statistic, Versions
from lib_memstab.core.region import MIN_TRAJECTORIES, Conditions, FloatArray, learn
from lib_memstab.host.ordinary import KEPT, SOURCE, best_read, candidates, ordinary_prompts

log = logging.getLogger("memstab")

STRENGTHS = (0.75, 0.5, 0.9, 0.3)
SCALES = (7.0, 3.0, 1.0, 12.0)
"""Guidance scales where the caller names none; as many of them as the trajectories are enough for."""

MOST_PROMPTS = 256
"""Trajectories up to which more of them bring more prompts to choose from."""

SEED = 700_000
TIMESTEPS, SIGMAS = "DDIM", "Euler"
"""A sampler over timesteps begins at another noise level than those over sigmas: a calibration tries both kinds."""
FEWEST_STEPS = 4
OVER_TIMESTEPS = ("DDIM", "DDIM CFG++", "PLMS", "UniPC")
State = Literal["idle", "waiting", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Plan:
    """What to calibrate.

    Attributes:
        name: of the profile; empty: the checkpoint's.
        sampler, scheduler, steps, width, height: as in any job.
        guidance: scales to calibrate at; the first one gets most trajectories.
        prompts: ordinary prompts, gone round; empty: MemStab chooses those that the checkpoint reads.
        trajectories: ordinary images in each mode.
        batch_size: images at once.
        modes: what to calibrate for; img2img also serves hires passes, and needs txt2img before it.
    """

    sampler: str
    scheduler: str
    steps: int
    width: int
    height: int
    guidance: tuple[float, ...]
    prompts: tuple[str, ...] = ()
    name: str = ""
    trajectories: int = 256
    batch_size: int = 4
    modes: tuple[Mode, ...] = ("txt2img", "img2img")

    def ways(self, mode: Mode) -> list[Way]:
        """Ways of sampling, each with its share of the trajectories."""
        first, *others = self.guidance
        if mode == "img2img":
            return [Way(first, self.sampler, strength=strength) for strength in STRENGTHS]
        other_kind = SIGMAS if self.sampler in OVER_TIMESTEPS else TIMESTEPS
        low = sorted(scale for scale in others if 2 <= scale < first)[:1]
        return [
            Way(first, self.sampler),
            Way(first, self.sampler, negative=True),
            # With very few steps samplers over timesteps evaluate next to nothing.
            Way(first, other_kind if self.steps >= FEWEST_STEPS else self.sampler),
            Way(first, self.sampler),
            *(Way(scale, self.sampler) for scale in others),
            *(Way(scale, self.sampler, negative=True) for scale in low),
        ]

    def fewest(self) -> int:
        """Trajectories below which some way of sampling has too few to make a band."""
        return MIN_TRAJECTORIES * max(len(self.ways(mode)) for mode in self.modes)

    def candidates(self) -> int:
        """How many prompts MemStab chooses from; none where the caller gave prompts."""
        return 0 if self.prompts else round(min(self.trajectories, MOST_PROMPTS) / KEPT)

    def batches(self) -> int:
        """Batches in all."""
        turns = [(turn, len(ways)) for ways in map(self.ways, self.modes) for turn in range(len(ways))]
        jobs = [self.candidates(), *(len(range(turn, self.trajectories, count)) for turn, count in turns)]
        return sum(math.ceil(images / self.batch_size) for images in jobs)


@dataclass(frozen=True)
class Way:
    """One way of sampling: guidance scale, sampler, whether with a negative prompt, img2img's denoising strength."""

    guidance: float
    sampler: str
    negative: bool = False
    strength: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Images sampled at once: prompts, seeds and negative prompts of each, and how.

    `wanted`: whether its pictures are; they cost the decoder's time.
    """

    prompts: list[str]
    seeds: list[int]
    negatives: list[str]
    mode: Mode
    way: Way
    steps: int
    wanted: bool = False


@dataclass(frozen=True)
class Sampled:
    """What came of a batch: curves [B, K], first noise levels [B] and update norms [B], latent size, the pictures."""

    curves: FloatArray
    starts: FloatArray
    response: FloatArray
    channels: int
    size: tuple[int, int]
    pictures: list[Any]


class Machine(Protocol):
    """The host's part of a calibration; see `a1111_calibrate`."""

    name: str
    """Program and version."""

    def checkpoint(self) -> Checkpoint:
        """The checkpoint that is loaded."""

    def prediction(self) -> Literal["epsilon", "v_prediction"]:
        """What the model predicts."""

    def run(self, work: Callable[[], None], batches: int) -> None:
        """Do `work` as one job of the host's queue, with a progress over so many batches."""

    def vocabulary(self) -> Sequence[str]:
        """Words the text model has an entry for, the most frequent first; empty if it does not say."""

    def interrupt(self) -> None:
        """End the batch that is being sampled at its next step."""

    def sample(self, plan: Plan, batch: Batch, pictures: Sequence[Any]) -> Sampled | None:
        """Sample a batch, img2img from `pictures`; None if the user interrupted."""


def batches_of(plan: Plan, mode: Mode) -> list[Batch]:
    """The batches of one mode, of a plan that has prompts; a batch has one way of sampling."""
    ways, found = plan.ways(mode), []
    wanted = mode == "txt2img" and "img2img" in plan.modes
    for turn, way in enumerate(ways):
        for own in _cut(range(turn, plan.trajectories, len(ways)), plan.batch_size):
            prompts = [plan.prompts[place % len(plan.prompts)] for place in own]
            negatives = [_negative(plan, place) if way.negative else "" for place in own]
            found.append(Batch(prompts, [SEED + place for place in own], negatives, mode, way, plan.steps, wanted))
    return found


def _negative(plan: Plan, place: int) -> str:
    """A negative prompt: in turn another of the plan's prompts, and one of the list, which the model may not read."""
    source = plan.prompts if place // len(plan.ways("txt2img")) % 2 else ordinary_prompts()
    return source[(place + 1) % len(source)]


def reading(plan: Plan, prompts: Sequence[str]) -> list[Batch]:
    """Batches of one evaluation each, which tell how much the candidates move the model."""
    way = Way(plan.guidance[0], SIGMAS)
    return [
        Batch([prompts[place] for place in own], [SEED + place for place in own], [""] * len(own), "txt2img", way, 1)
        for own in _cut(range(len(prompts)), plan.batch_size)
    ]


def _cut(places: range, size: int) -> list[range]:
    return [places[start : start + size] for start in range(0, len(places), size)]


@dataclass
class Progress:
    """How far a calibration is, as the API tells it."""

    state: State = "idle"
    done: int = 0
    total: int = 0
    message: str = ""
    profile: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


class Calibrator:
    """Runs one calibration at a time."""

    def __init__(self, machine: Machine, save: Callable[[Profile], object]) -> None:
        self.progress = Progress()
        self._machine, self._save = machine, save
        self._guard = threading.Lock()
        self._stop = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether one waits or runs."""
        return self.progress.state in ("waiting", "running")

    def start(self, plan: Plan) -> bool:
        """Begin in a thread; False if one is on its way already."""
        with self._guard:
            if self.busy:
                return False
            total = plan.candidates() + plan.trajectories * len(plan.modes)
            self.progress = Progress("waiting", 0, total, "waiting for the job before it")
            self._stop.clear()
        threading.Thread(target=self._run, args=(plan,), name="memstab-calibration", daemon=True).start()
        return True

    def stop(self) -> bool:
        """Ask the one on its way to stop; what it measured is thrown away. False if there is none."""
        self._stop.set()
        if self.progress.state == "running":
            self._machine.interrupt()
        return self.busy

    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def _run(self, plan: Plan) -> None:
        try:
            self._machine.run(lambda: self._work(plan), plan.batches())
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            log.warning("MemStab's calibration failed: %s", error, exc_info=error)

    def _work(self, plan: Plan) -> None:
        if self.stopping():
            self._end("stopped", "stopped before it began; nothing was saved")
            return
        self.progress.state = "running"
        profile = self._calibrate(plan)
        if profile is None:
            self._end("stopped", "stopped; nothing was saved, and an older profile is as it was")
            return
        self._save(profile)
        self.progress.profile = profile.name
        self._end("done", f"saved as {profile.name}; the next generation uses it")

    def _end(self, state: State, message: str) -> None:
        self.progress.message, self.progress.state = message, state

    def _calibrate(self, plan: Plan) -> Profile | None:
        """The profile, or None if it was stopped."""
        checkpoint = self._machine.checkpoint()
        calibrations: dict[Mode, Calibration] = {}
        pictures: list[Any] = []
        channels, source = 0, "prompts the caller gave"
        if not plan.prompts:
            self.progress.message = "looking which prompts the checkpoint reads"
            prompts = candidates(self._machine.vocabulary(), plan.candidates())
            read = self._sample(plan, reading(plan, prompts), pictures)
            if read is None:
                return None
            response = np.concatenate([one.response for _, one in read])
            plan, source = replace(plan, prompts=best_read(prompts, response)), SOURCE
        self.progress.message = "sampling ordinary prompts"
        for mode in plan.modes:
            sampled = self._sample(plan, batches_of(plan, mode), pictures)
            if sampled is None:
                return None
            conditions = [
                Conditions(batch.way.guidance, round(float(start), 3), batch.way.negative)
                for batch, one in sampled
                for start in one.starts
            ]
            curves = np.concatenate([one.curves for _, one in sampled])
            channels, size = sampled[0][1].channels, sampled[0][1].size
            pictures = [picture for _, one in sampled for picture in one.pictures]
            calibrations[mode] = calibration(plan, curves, conditions, size, source)
        return Profile(
            name=plan.name or profile_name(checkpoint),
            checkpoint=checkpoint,
            latent=Latent(channels),
            prediction=self._machine.prediction(),
            created=datetime.date.today().isoformat(),
            versions=Versions(__version__, torch.__version__, self._machine.name),
            statistic=Statistic(),
            modes=calibrations,
        )

    def _sample(
        self, plan: Plan, batches: Sequence[Batch], pictures: Sequence[Any]
    ) -> list[tuple[Batch, Sampled]] | None:
        """All of these batches; img2img goes round `pictures`. None if it was stopped."""
        found: list[tuple[Batch, Sampled]] = []
        done = 0
        for batch in batches:
            count, from_picture = len(batch.prompts), batch.mode == "img2img"
            start = [pictures[(done + place) % len(pictures)] for place in range(count)] if from_picture else []
            sampled = None if self.stopping() else self._machine.sample(plan, batch, start)
            if sampled is None or self.stopping():
                return None
            found.append((batch, sampled))
            done += count
            self.progress.done += count
        return found


def calibration(
    plan: Plan, curves: FloatArray, conditions: Sequence[Conditions], size: tuple[int, int], source: str
) -> Calibration:
    """One mode's region and what it was learned from, `source` the prompts; RegionError as `learn`."""
    region = learn(curves, conditions)
    scales = [one.guidance for one in conditions]
    covered = Covered(
        samplers=(plan.sampler,),
        schedulers=(plan.scheduler,),
        steps=(plan.steps, plan.steps),
        guidance=(min(scales), max(scales)),
        sizes=(size,),
        trajectories=region.count,
        prompts=source,
    )
    return Calibration(region, covered)


def profile_name(checkpoint: Checkpoint) -> str:
    """A checkpoint's name as a profile may be called."""
    plain = re.sub(r"[^A-Za-z0-9 ._+()-]+", "-", checkpoint.name)[:80].strip(" .-(")
    return plain if re.match(r"[A-Za-z0-9]", plain) else f"checkpoint {(checkpoint.sha256 or 'unknown')[:10]}"
