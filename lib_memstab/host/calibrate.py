"""Calibration inside the WebUI: ordinary prompts on the loaded checkpoint, measured, and a profile saved.

txt2img goes round the guidance scales, with and without a negative prompt; img2img starts from the pictures that came
of it, at strengths in turn. One calibration runs at a time, in a thread of its own, in the WebUI's queue.
"""

from __future__ import annotations

import datetime
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch

from lib_memstab import __version__
from lib_memstab.core.profile import Calibration, Checkpoint, Covered, Latent, Mode, Profile, Statistic, Versions
from lib_memstab.core.region import MIN_TRAJECTORIES, Conditions, FloatArray, learn

log = logging.getLogger("memstab")

STRENGTHS = (0.75, 0.5, 0.9, 0.3)
SEED = 700_000
State = Literal["idle", "waiting", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Plan:
    """What to calibrate.

    Attributes:
        name: of the profile; empty: the checkpoint's.
        sampler, scheduler, steps, width, height: as in any job.
        guidance: scales to calibrate at; the first one gets most trajectories.
        trajectories: ordinary images in each mode.
        batch_size: images at once.
        modes: what to calibrate for; img2img also serves hires passes, and needs txt2img before it.
        prompts: ordinary prompts; as many as there are are gone round.
        source: one line on where they come from.
    """

    sampler: str
    scheduler: str
    steps: int
    width: int
    height: int
    guidance: tuple[float, ...]
    prompts: tuple[str, ...]
    source: str
    name: str = ""
    trajectories: int = 256
    batch_size: int = 4
    modes: tuple[Mode, ...] = ("txt2img", "img2img")

    def ways(self) -> list[tuple[float, bool]]:
        """Guidance scale and whether there is a negative prompt, in turn."""
        first = self.guidance[0]
        return [(first, False), (first, True), (first, False), *((scale, False) for scale in self.guidance[1:])]

    def fewest(self) -> int:
        """Trajectories below which some way of sampling has too few to make a band."""
        return MIN_TRAJECTORIES * max(len(self.ways()) + 1, len(STRENGTHS))


@dataclass(frozen=True)
class Batch:
    """Images sampled at once: prompts, seeds and negative prompts of each, and how."""

    prompts: list[str]
    seeds: list[int]
    negatives: list[str]
    guidance: float
    mode: Mode
    strength: float = 1.0


@dataclass(frozen=True)
class Sampled:
    """What came of a batch: its curves [B, K], first noise levels [B], latent size, and the pictures."""

    curves: FloatArray
    starts: FloatArray
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

    def interrupt(self) -> None:
        """End the batch that is being sampled at its next step."""

    def sample(self, plan: Plan, batch: Batch, pictures: Sequence[Any]) -> Sampled | None:
        """Sample a batch, img2img from `pictures`; None if the user interrupted."""


def batches_of(plan: Plan, mode: Mode) -> list[Batch]:
    """The batches of one mode; a batch has one way of sampling."""
    ways = plan.ways() if mode == "txt2img" else [(plan.guidance[0], False)] * len(STRENGTHS)
    count, found = len(ways), []
    for turn, (guidance, negative) in enumerate(ways):
        places = range(turn, plan.trajectories, count)
        for start in range(0, len(places), plan.batch_size):
            own = places[start : start + plan.batch_size]
            prompts = [plan.prompts[place % len(plan.prompts)] for place in own]
            others = [plan.prompts[(place + 1) % len(plan.prompts)] for place in own]
            found.append(
                Batch(
                    prompts,
                    [SEED + place for place in own],
                    others if negative else [""] * len(own),
                    guidance,
                    mode,
                    1.0 if mode == "txt2img" else STRENGTHS[turn],
                )
            )
    return found


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
            modes = len(plan.modes)
            self.progress = Progress("waiting", 0, plan.trajectories * modes, "waiting for the job before it")
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
            batches = sum(len(batches_of(plan, mode)) for mode in plan.modes)
            self._machine.run(lambda: self._work(plan), batches)
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            log.warning("MemStab's calibration failed: %s", error, exc_info=error)

    def _work(self, plan: Plan) -> None:
        if self.stopping():
            self._end("stopped", "stopped before it began; nothing was saved")
            return
        self.progress.state, self.progress.message = "running", "sampling ordinary prompts"
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
        channels = 0
        for mode in plan.modes:
            sampled = self._sample(plan, mode, pictures)
            if sampled is None:
                return None
            conditions = [
                Conditions(batch.guidance, round(float(start), 3), any(batch.negatives))
                for batch, one in sampled
                for start in one.starts
            ]
            curves = np.concatenate([one.curves for _, one in sampled])
            channels, size = sampled[0][1].channels, sampled[0][1].size
            pictures = [picture for _, one in sampled for picture in one.pictures]
            calibrations[mode] = calibration(plan, mode, curves, conditions, size)
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

    def _sample(self, plan: Plan, mode: Mode, pictures: Sequence[Any]) -> list[tuple[Batch, Sampled]] | None:
        """All batches of one mode; img2img goes round `pictures`. None if it was stopped."""
        found: list[tuple[Batch, Sampled]] = []
        done = 0
        for batch in batches_of(plan, mode):
            count = len(batch.prompts)
            start = [pictures[(done + place) % len(pictures)] for place in range(count)] if mode == "img2img" else []
            sampled = None if self.stopping() else self._machine.sample(plan, batch, start)
            if sampled is None or self.stopping():
                return None
            found.append((batch, sampled))
            done += count
            self.progress.done += count
        return found


def calibration(
    plan: Plan, mode: Mode, curves: FloatArray, conditions: Sequence[Conditions], size: tuple[int, int]
) -> Calibration:
    """One mode's region and what it was learned from; RegionError as `learn`."""
    region = learn(curves, conditions)
    scales = [one.guidance for one in conditions]
    covered = Covered(
        samplers=(plan.sampler,),
        schedulers=(plan.scheduler,),
        steps=(plan.steps, plan.steps),
        guidance=(min(scales), max(scales)),
        sizes=(size,),
        trajectories=region.count,
        prompts=plan.source,
    )
    return Calibration(region, covered)


def profile_name(checkpoint: Checkpoint) -> str:
    """A checkpoint's name as a profile may be called."""
    plain = re.sub(r"[^A-Za-z0-9 ._+()-]+", "-", checkpoint.name)[:80].strip(" .-(")
    return plain if re.match(r"[A-Za-z0-9]", plain) else f"checkpoint {(checkpoint.sha256 or 'unknown')[:10]}"
