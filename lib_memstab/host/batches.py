"""What a calibration samples, batch by batch, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lib_memstab.core.profile import Mode
from lib_memstab.core.region import MIN_TRAJECTORIES, Conditions, FloatArray, scores
from lib_memstab.host.ordinary import ordinary_prompts
from lib_memstab.host.plan import SIGMAS, Plan, Way

SEED, OTHER_SEED = 700_000, 750_000
"""First seeds of the trajectories, and of their second look."""

SAME = 0.75
"""Correlation of two seeds' latents, channel means aside, from which they are the same picture."""

Places = TypeVar("Places", range, list[int])


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
    """What came of a batch: curves [B, K], first noise levels and update norms [B], final latents, the pictures.

    `latents` are float32 [B, C, H, W] on the host.
    """

    curves: FloatArray
    starts: FloatArray
    response: FloatArray
    latents: Tensor
    pictures: list[Any]


@dataclass(frozen=True)
class Trajectory:
    """One image of a calibration: what was asked for, its curve [K], its final latent [C, H, W] and picture, if any."""

    prompt: str
    negative: str
    way: Way
    conditions: Conditions
    curve: FloatArray
    latent: Tensor
    picture: Any


def trajectories(sampled: Sequence[tuple[Batch, Sampled]]) -> list[Trajectory]:
    """Those of all these batches, in order."""
    return [
        Trajectory(
            prompt,
            batch.negatives[place],
            batch.way,
            Conditions(batch.way.guidance, round(float(one.starts[place]), 3), batch.way.negative),
            one.curves[place],
            one.latents[place],
            one.pictures[place] if one.pictures else None,
        )
        for batch, one in sampled
        for place, prompt in enumerate(batch.prompts)
    ]


def second_look(plan: Plan, sampled: Sequence[Trajectory]) -> list[tuple[Batch, list[Trajectory]]]:
    """Batches that sample with other seeds what went farthest in each way of sampling, and what that was."""
    reached = scores(np.stack([one.curve for one in sampled]), [one.conditions for one in sampled])
    order, found = np.argsort(-reached, kind="stable"), []
    for way, looks in plan.looks().items():
        places = [int(place) for place in order if sampled[place].way == way][:looks]
        for own in _cut(places, plan.batch_size):
            before = [sampled[place] for place in own]
            seeds = [OTHER_SEED + place for place in own]
            prompts, negatives = [one.prompt for one in before], [one.negative for one in before]
            found.append((Batch(prompts, seeds, negatives, "txt2img", way, plan.steps), before))
    return found


def replays(before: Sequence[Trajectory], again: Sequence[Trajectory]) -> set[str]:
    """Prompts that gave the same picture twice: their latents correlate, channel means aside, by more than `SAME`."""
    if not before:
        return set()
    latents = [torch.stack([one.latent for one in some]) for some in (before, again)]
    first, second = ((one - one.mean(dim=(2, 3), keepdim=True)).flatten(1) for one in latents)
    likeness = torch.nn.functional.cosine_similarity(first, second)
    return {one.prompt for one, alike in zip(again, likeness.tolist(), strict=True) if alike > SAME}


def without(sampled: Sequence[Trajectory], prompts: Collection[str]) -> list[Trajectory]:
    """Those of other prompts; a way of sampling of which too few are left to make a band goes as a whole."""
    others = [one for one in sampled if one.prompt not in prompts]
    left = Counter(one.conditions for one in others)
    return [one for one in others if left[one.conditions] >= MIN_TRAJECTORIES] or others


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


def _cut(places: Places, size: int) -> list[Places]:
    return [places[start : start + size] for start in range(0, len(places), size)]
