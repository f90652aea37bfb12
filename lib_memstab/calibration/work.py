"""A calibration: ordinary prompts sampled on the loaded checkpoint and measured, and the profile that comes of it.

First single evaluations of many candidates tell which prompts the checkpoint reads (see `ordinary`). txt2img then goes
round the guidance scales, with and without a negative prompt, and a sampler that begins lower. Every prompt gets a
second look: one that gives the same picture with another seed replays it, and is no ordinary one (many seeds tell a
replay: Carlini et al. 2023). img2img starts from the latents of the others, at strengths in turn. Every image goes into
a journal, from which a calibration that was stopped goes on.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from lib_memstab import __version__
from lib_memstab.calibration.batches import (
    REPLAYED,
    REPLAYED_AT_ONCE,
    Batch,
    Sampled,
    Trajectory,
    alike,
    batches_of,
    cut,
    glances,
    reading,
    second_looks,
    trajectories,
    without,
)
from lib_memstab.calibration.journal import Journal
from lib_memstab.calibration.ordinary import (
    FEWEST_WORDS,
    SOURCE,
    listed,
    of_frequent,
    of_read,
    read_ones,
    whole_words,
)
from lib_memstab.calibration.plan import FEWEST_PROMPTS, Plan
from lib_memstab.core.calibration import learn, with_likeness
from lib_memstab.core.likeness import likeness
from lib_memstab.core.profile import (
    STATISTIC,
    Calibration,
    Checkpoint,
    Covered,
    Latent,
    Mode,
    Prediction,
    Profile,
    Versions,
)
from lib_memstab.core.region import Region, RegionError

log = logging.getLogger("memstab")

GIVEN = "prompts the caller gave"


class Stopped(Exception):
    """The user stopped the calibration."""


class Machine(Protocol):
    """The host's part of a calibration; see `a1111_calibrate`."""

    name: str
    """Program and version."""

    def checkpoint(self) -> Checkpoint:
        """The checkpoint that is loaded."""

    def prediction(self) -> Prediction:
        """What the model predicts."""

    def networks(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Names of the extra networks, such as LoRAs, that these prompts switch on."""

    def run(self, work: Callable[[], None], batches: int) -> None:
        """Do `work` as one job of the host's queue, with a progress over so many batches."""

    def vocabulary(self) -> Sequence[str]:
        """Words the text model has an entry for, the most frequent first; empty if it does not say."""

    def interrupt(self) -> None:
        """End the batch that is being sampled at its next step."""

    def sample(self, plan: Plan, batch: Batch) -> Sampled | None:
        """Sample a batch; None if the user interrupted. torch.cuda.OutOfMemoryError where it is too large."""


class Work:
    """One calibration: samples what the journal lacks, and learns.

    `replays` counts the prompts that were left out because they replay a picture.
    """

    def __init__(
        self,
        machine: Machine,
        journal: Journal,
        plan: Plan,
        stopping: Callable[[], bool],
        tell: Callable[[str], None],
        sampled: Callable[[Batch, bool], None],
    ) -> None:
        """`tell` takes what is being done, `sampled` what has been sampled, and whether just now or for the journal."""
        self.replays = 0
        self._machine, self._journal, self._plan = machine, journal, plan
        self._stopping, self._tell, self._sampled = stopping, tell, sampled
        self._at_once = plan.batch_size
        self._so_far: dict[Mode, list[Trajectory]] = {}

    def profile(self) -> Profile:
        """Sample everything and learn.

        Raises:
            Stopped: if the user stopped it.
            RegionError: if what came of it makes no region.
        """
        machine, plan = self._machine, self._plan
        checkpoint, source = machine.checkpoint(), GIVEN
        if not plan.prompts:
            plan, source = replace(plan, prompts=self._chosen(plan)), SOURCE
        else:
            plan = replace(plan, prompts=tuple(map(plan.with_suffix, plan.prompts)))
        # img2img goes round the same prompts: those that nobody looked at twice may be replays.
        plan = replace(plan, prompts=plan.prompts[: plan.trajectories])
        calibrations: dict[Mode, Calibration] = {}
        latents: list[torch.Tensor] = []
        looks: dict[str, torch.Tensor] = {}
        for mode in plan.modes:
            self._tell(f"sampling ordinary prompts, {mode}")
            ordinary = trajectories(self._sample(batches_of(plan, mode, latents), mode))
            if mode == "txt2img":
                self._tell("looking for prompts that replay a picture")
                looks = self._looks(plan, ordinary)
                likenesses = alike(ordinary, looks).tolist()
                found = {one.prompt for one, much in zip(ordinary, likenesses, strict=True) if much > REPLAYED}
                ordinary, plan = without(ordinary, found), plan.without(found)
                self._so_far[mode], self.replays = ordinary, len(found)
                latents = [one.latent for one in ordinary if one.latent is not None]
            calibrations[mode] = self._calibration(plan, ordinary, source, latents[0], looks)
        name = plan.name or profile_name(checkpoint)
        return new_profile(name, checkpoint, latents[0].shape[0], machine.prediction(), machine.name, calibrations)

    def regions(self) -> dict[Mode, Region]:
        """The regions as far as they can be learned from what has been measured by now."""
        found: dict[Mode, Region] = {}
        for mode, some in list(self._so_far.items()):
            measured = without(list(some), ())
            try:
                found[mode] = learn(np.stack([one.curve for one in measured]), [one.conditions for one in measured])
            except (RegionError, ValueError):
                continue
        return found

    def _chosen(self, plan: Plan) -> tuple[str, ...]:
        """The prompts that MemStab chooses: such as the checkpoint reads, and that replay nothing.

        Raises:
            RegionError: if there are hardly any.
        """
        vocabulary, choosing = self._machine.vocabulary(), plan.choosing()
        words, count, shares = whole_words(vocabulary), choosing.candidates, choosing.kinds
        if len(words) < FEWEST_WORDS:
            kinds, shares = [listed(vocabulary, count * len(shares))], [choosing.prompts]
        else:
            self._tell("looking which words the checkpoint reads")
            kinds = [listed(vocabulary, count), of_frequent(words, count)]
            read = [word for word, _ in self._strongest(plan, words[: choosing.words], choosing.read)]
            if len(read) >= FEWEST_WORDS:
                kinds.append(of_read(read, count))
        self._tell("looking which prompts the checkpoint reads")
        found = [self._strongest(plan, kind, share) for kind, share in zip(kinds, shares, strict=False)]
        prompts = read_ones([one for kind in found for one in kind])
        if len(prompts) < FEWEST_PROMPTS:
            raise RegionError(
                "of the prompts that MemStab tries this checkpoint reads hardly one without giving the same picture "
                "with every seed: calibrate with prompts of your own"
            )
        return tuple(map(plan.with_suffix, prompts))

    def _strongest(self, plan: Plan, texts: Sequence[str], wanted: int) -> list[tuple[str, float]]:
        """Of words or prompts those that move the model most and do not replay, the strongest first, with how much."""
        asked = [plan.with_suffix(text) for text in texts]
        response = np.concatenate([one.response for _, one in self._sample(reading(plan, asked))])
        order: list[int] = np.argsort(-response, kind="stable").tolist()
        found: list[tuple[str, float]] = []
        for places in cut(order, wanted):
            first, second = (
                torch.cat([one.latents for _, one in self._sample(batches) if one.latents is not None]).float()
                for batches in glances(plan, [asked[place] for place in places])
            )
            fresh = (likeness(first, second) <= REPLAYED_AT_ONCE).tolist()
            found += [
                (texts[place], float(response[place])) for place, is_so in zip(places, fresh, strict=True) if is_so
            ]
            if len(found) >= wanted:
                break
        return found[:wanted]

    def _looks(self, plan: Plan, ordinary: Sequence[Trajectory]) -> dict[str, torch.Tensor]:
        """What every prompt gives with another seed, [C, H, W] by prompt."""
        again = trajectories(self._sample(second_looks(plan, ordinary)))
        return {one.prompt: one.latent for one in again if one.latent is not None}

    def _calibration(
        self,
        plan: Plan,
        ordinary: Sequence[Trajectory],
        source: str,
        latent: torch.Tensor,
        looks: Mapping[str, torch.Tensor],
    ) -> Calibration:
        """One mode's region and what it was learned from, `source` the prompts; RegionError as `learn`."""
        conditions = [one.conditions for one in ordinary]
        region = learn(np.stack([one.curve for one in ordinary]), conditions)
        region = with_likeness(region, conditions, alike(ordinary, looks))
        scales = [one.conditions.guidance for one in ordinary]
        height, width = latent.shape[1:]
        covered = Covered(
            samplers=(plan.sampler,),
            schedulers=(plan.scheduler,),
            steps=(plan.steps, plan.steps),
            guidance=(min(scales), max(scales)),
            sizes=((height, width),),
            trajectories=region.count,
            prompts=source,
            loras=self._machine.networks(plan.prompts),
        )
        return Calibration(region, covered)

    def _sample(self, batches: Sequence[Batch], mode: Mode | None = None) -> list[tuple[Batch, Sampled]]:
        """All of these batches; with a `mode` they are what its region is learned from."""
        found: list[tuple[Batch, Sampled]] = []
        for batch in batches:
            keys = batch.keys()
            known = [key in self._journal for key in keys]
            self._sampled(batch.part([place for place, one in enumerate(known) if one]), False)
            missing = [place for place, one in enumerate(known) if not one]
            while missing:
                missing = self._sample_some(batch, missing)
            found.append((batch, self._journal.get(keys)))
            if mode is not None:
                self._so_far.setdefault(mode, []).extend(trajectories(found[-1:]))
        return found

    def _sample_some(self, batch: Batch, places: list[int]) -> list[int]:
        """Sample as many of a batch's images as fit at once, into the journal; those that are left."""
        own = cut(places, self._at_once)[0]
        part = batch.part(own)
        try:
            sampled = None if self._stopping() else self._machine.sample(self._plan, part)
        except torch.cuda.OutOfMemoryError:
            if len(own) == 1:
                raise
            self._at_once = (len(own) + 1) // 2
            log.info("MemStab's calibration goes on with %d images at once: more do not fit the memory", self._at_once)
            return places
        if sampled is None or self._stopping():
            raise Stopped
        self._journal.add(part, sampled)
        self._sampled(part, True)
        return places[len(own) :]


def new_profile(
    name: str,
    checkpoint: Checkpoint,
    channels: int,
    prediction: Prediction,
    host: str,
    modes: Mapping[Mode, Calibration],
) -> Profile:
    """A profile that is made today, by this MemStab in this `host`."""
    return Profile(
        name=name,
        checkpoint=checkpoint,
        latent=Latent(channels),
        prediction=prediction,
        created=datetime.date.today().isoformat(),
        versions=Versions(__version__, torch.__version__, host),
        statistic=STATISTIC,
        modes=modes,
    )


def profile_name(checkpoint: Checkpoint) -> str:
    """A checkpoint's name as a profile may be called."""
    plain = re.sub(r"[^A-Za-z0-9 ._+()-]+", "-", checkpoint.name)[:80].strip(" .-(")
    return plain if re.match(r"[A-Za-z0-9]", plain) else f"checkpoint {(checkpoint.sha256 or 'unknown')[:10]}"
