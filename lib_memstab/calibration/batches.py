"""What a calibration samples, batch by batch, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lib_memstab.calibration.ordinary import ordinary_prompts
from lib_memstab.calibration.plan import LOOK_STEPS, SIGMAS, Plan, Way
from lib_memstab.core.likeness import likeness
from lib_memstab.core.measurement import REFERENCE_GUIDANCE
from lib_memstab.core.profile import Mode
from lib_memstab.core.region import MIN_TRAJECTORIES, Conditions, FloatArray
from lib_memstab.core.second_look import GUIDANCE

SEED, OTHER_SEED = 700_000, 750_000
"""First seeds of the trajectories, and of their second look."""

REPLAYED = 0.35
"""Likeness to its second look from which a picture is a replay: a few of a hundred ordinary captions reach it."""

REPLAYED_AT_ONCE = 0.17
"""Likeness of two pictures of one evaluation each, from different noise, from which a prompt replays: of ordinary
captions about one in ten is above it."""

GLANCES = (800_000, 850_000)
"""First seeds of these two pictures."""

Places = TypeVar("Places", range, list[int])


@dataclass(frozen=True)
class Batch:
    """Images sampled at once: prompts, seeds and negative prompts of each, and how.

    Attributes:
        init: latents [B, C, H, W] that img2img starts from.
        final: whether the latents that come of it are wanted.
    """

    prompts: list[str]
    seeds: list[int]
    negatives: list[str]
    mode: Mode
    way: Way
    steps: int
    init: Tensor | None = None
    final: bool = False

    def part(self, places: Sequence[int]) -> Batch:
        """Some of its images."""
        return replace(
            self,
            prompts=[self.prompts[place] for place in places],
            seeds=[self.seeds[place] for place in places],
            negatives=[self.negatives[place] for place in places],
            init=None if self.init is None else self.init[list(places)],
        )

    def keys(self) -> list[str]:
        """One for each image; two images of one calibration with the same key come out the same."""
        shared = [self.mode, self.steps, *astuple(self.way)]
        images = zip(self.prompts, self.seeds, self.negatives, strict=True)
        return [hashlib.sha256(json.dumps([*shared, *image]).encode()).hexdigest() for image in images]

    def evaluations(self) -> int:
        """Denoiser evaluations of all its images, about: what its time goes with."""
        return len(self.prompts) * max(1, round(self.steps * self.way.strength))


@dataclass(frozen=True)
class Sampled:
    """What came of a batch.

    Attributes:
        curves: log path lengths on the region's grid [B, K].
        starts: first noise levels [B].
        response: guidance magnitudes at the first evaluation [B].
        latents: float16 [B, C, H, W] on the CPU; None where they are not wanted.
    """

    curves: FloatArray
    starts: FloatArray
    response: FloatArray
    latents: Tensor | None = None


@dataclass(frozen=True)
class Trajectory:
    """One image of a calibration: what was asked for, its curve [K], its final latent [C, H, W] if it was wanted."""

    prompt: str
    negative: str
    way: Way
    conditions: Conditions
    curve: FloatArray
    latent: Tensor | None


def trajectories(sampled: Sequence[tuple[Batch, Sampled]]) -> list[Trajectory]:
    """Those of all these batches, in order."""
    return [
        Trajectory(
            prompt,
            batch.negatives[place],
            batch.way,
            Conditions(batch.way.guidance, round(float(one.starts[place]), 3), batch.way.negative),
            one.curves[place],
            None if one.latents is None else one.latents[place],
        )
        for batch, one in sampled
        for place, prompt in enumerate(batch.prompts)
    ]


def second_looks(plan: Plan, sampled: Sequence[Trajectory]) -> list[Batch]:
    """Batches that sample every prompt once more, with another seed, as a watched job looks at a suspicious image."""
    prompts = list(dict.fromkeys(one.prompt for one in sampled))
    way = Way(GUIDANCE, SIGMAS)
    found = []
    for own in cut(range(len(prompts)), plan.batch_size):
        seeds = [OTHER_SEED + place for place in own]
        some = [prompts[place] for place in own]
        found.append(Batch(some, seeds, [""] * len(own), "txt2img", way, LOOK_STEPS, final=True))
    return found


def alike(sampled: Sequence[Trajectory], looks: Mapping[str, Tensor]) -> FloatArray:
    """How much each picture is like what the second look at its prompt gave, [C, H, W] by prompt: `likeness`, [N]."""
    pairs = [(one.latent.float(), looks[one.prompt].float()) for one in sampled if one.latent is not None]
    found = [likeness(latent[None], look[None]) for latent, look in pairs]
    return torch.cat(found).double().numpy() if found else np.zeros(0)


def without(sampled: Sequence[Trajectory], prompts: Collection[str]) -> list[Trajectory]:
    """Those of other prompts; a way of sampling of which too few are left to make a band goes as a whole."""
    others = [one for one in sampled if one.prompt not in prompts]
    left = Counter(one.conditions for one in others)
    return [one for one in others if left[one.conditions] >= MIN_TRAJECTORIES] or others


def batches_of(plan: Plan, mode: Mode, latents: Sequence[Tensor] = ()) -> list[Batch]:
    """The batches of one mode, of a plan that has prompts; a batch has one way of sampling.

    img2img goes round `latents`, each [C, H, W].
    """
    ways, found, begun = plan.ways(mode), [], 0
    for turn, way in enumerate(ways):
        for own in cut(range(turn, plan.trajectories, len(ways)), plan.batch_size):
            prompts = [plan.prompts[place % len(plan.prompts)] for place in own]
            negatives = [_negative(plan, place) if way.negative else "" for place in own]
            init = None
            if mode == "img2img":
                init = torch.stack([latents[(begun + place) % len(latents)] for place in range(len(own))])
            begun += len(own)
            seeds = [SEED + place for place in own]
            steps = way.steps or plan.steps
            found.append(Batch(prompts, seeds, negatives, mode, way, steps, init, final=True))
    return found


def _negative(plan: Plan, place: int) -> str:
    """A negative prompt: in turn another of the plan's prompts, and one of the list, which the model may not read."""
    source = plan.prompts if place // len(plan.ways("txt2img")) % 2 else ordinary_prompts()
    return source[(place + 1) % len(source)]


def reading(plan: Plan, prompts: Sequence[str]) -> list[Batch]:
    """Batches of one evaluation each, which tell how much the candidates move the model."""
    return _at_once(plan, prompts, SEED, final=False)


def glances(plan: Plan, prompts: Sequence[str]) -> tuple[list[Batch], list[Batch]]:
    """Batches of one evaluation each that sample every prompt from one noise, and from another.

    At a guidance scale so high that what the prompt recalls makes nearly all of the picture.
    """
    first, second = (_at_once(plan, prompts, seed, final=True) for seed in GLANCES)
    return first, second


def _at_once(plan: Plan, prompts: Sequence[str], seed: int, final: bool) -> list[Batch]:
    way, found = Way(REFERENCE_GUIDANCE, SIGMAS), []
    for own in cut(range(len(prompts)), plan.batch_size):
        some, seeds = [prompts[place] for place in own], [seed + place for place in own]
        found.append(Batch(some, seeds, [""] * len(own), "txt2img", way, 1, final=final))
    return found


def cut(places: Places, size: int) -> list[Places]:
    """These in pieces of at most `size`."""
    return [places[start : start + size] for start in range(0, len(places), size)]
