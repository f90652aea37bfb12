"""Calibration inside the WebUI: ordinary prompts on the loaded checkpoint, measured, and a profile saved.

First one evaluation of many candidates tells which prompts the checkpoint reads (see `ordinary`). txt2img then goes
round the guidance scales, with and without a negative prompt, and a sampler that begins lower. The trajectories that
went farthest get a second look: a prompt that gives the same picture with another seed replays it, and is no ordinary
one (many seeds tell a replay: Carlini et al. 2023). img2img starts from the pictures of the others, at strengths in
turn. One calibration runs at a time, in a thread of its own, in the WebUI's queue.
"""

from __future__ import annotations

import datetime
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch

from lib_memstab import __version__
from lib_memstab.core.profile import Calibration, Checkpoint, Covered, Latent, Mode, Profile, Statistic, Versions
from lib_memstab.core.region import learn
from lib_memstab.host.batches import (
    Batch,
    Sampled,
    Trajectory,
    batches_of,
    reading,
    replays,
    second_look,
    trajectories,
    without,
)
from lib_memstab.host.ordinary import SOURCE, best_read, candidates
from lib_memstab.host.plan import Plan

log = logging.getLogger("memstab")

State = Literal["idle", "waiting", "running", "done", "stopped", "failed"]


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
        self.replays = 0
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
            self.progress = Progress("waiting", 0, plan.images(), "waiting for the job before it")
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
        left_out = f" ({self.replays} prompts that replay a picture were left out)" if self.replays else ""
        self._end("done", f"saved as {profile.name}; the next generation uses it{left_out}")

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
        for mode in plan.modes:
            self.progress.message = "sampling ordinary prompts"
            sampled = self._sample(plan, batches_of(plan, mode), pictures)
            if sampled is None:
                return None
            ordinary = trajectories(sampled)
            if mode == "txt2img":
                self.progress.message = "looking again at those that went farthest"
                found = self._replays(plan, ordinary)
                if found is None:
                    return None
                ordinary, plan = without(ordinary, found), plan.without(found)
                pictures, self.replays = [one.picture for one in ordinary], len(found)
            channels = ordinary[0].latent.shape[0]
            calibrations[mode] = calibration(plan, ordinary, source)
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

    def _replays(self, plan: Plan, ordinary: Sequence[Trajectory]) -> set[str] | None:
        """Prompts that give the same picture with another seed; None if it was stopped."""
        looks = second_look(plan, ordinary)
        sampled = self._sample(plan, [batch for batch, _ in looks], [])
        if sampled is None:
            return None
        return replays([one for _, before in looks for one in before], trajectories(sampled))

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


def calibration(plan: Plan, ordinary: Sequence[Trajectory], source: str) -> Calibration:
    """One mode's region and what it was learned from, `source` the prompts; RegionError as `learn`."""
    curves, conditions = np.stack([one.curve for one in ordinary]), [one.conditions for one in ordinary]
    height, width = ordinary[0].latent.shape[1:]
    region = learn(curves, conditions)
    scales = [one.guidance for one in conditions]
    covered = Covered(
        samplers=(plan.sampler,),
        schedulers=(plan.scheduler,),
        steps=(plan.steps, plan.steps),
        guidance=(min(scales), max(scales)),
        sizes=((height, width),),
        trajectories=region.count,
        prompts=source,
    )
    return Calibration(region, covered)


def profile_name(checkpoint: Checkpoint) -> str:
    """A checkpoint's name as a profile may be called."""
    plain = re.sub(r"[^A-Za-z0-9 ._+()-]+", "-", checkpoint.name)[:80].strip(" .-(")
    return plain if re.match(r"[A-Za-z0-9]", plain) else f"checkpoint {(checkpoint.sha256 or 'unknown')[:10]}"
