"""What is known of a sampling pass: how it samples, what it is judged by, and what can be learned from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lib_memstab.core.profile import Checkpoint, Mode, Profile
from lib_memstab.core.region import FloatArray
from lib_memstab.core.report import ImageReport, MatchState


@dataclass(frozen=True)
class PassFacts:
    """What a pass samples and how, as the host's job says.

    Attributes:
        name: "base" or "hires".
        mode: which of a profile's regions applies.
        prompts: each image's prompt, as it is encoded.
        negative: whether any image has a negative prompt.
        sampler, scheduler: names as the host writes them.
        steps: sampling steps the user asked for.
        schedule: steps that prompt editing counts in, and those of a hires pass, if it is one.
        guidance: the user's guidance scale.
        channels, size: of the latents; size is height and width.
        loras: names of the LoRAs that are active.
    """

    name: str
    mode: Mode
    prompts: Sequence[str]
    negative: bool
    sampler: str
    scheduler: str
    steps: int
    schedule: tuple[int, int | None]
    guidance: float
    channels: int
    size: tuple[int, int]
    loras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """The profile that applies to a pass and how well; without one, why there is none and what to do."""

    profile: Profile | None
    state: MatchState
    reason: str


@dataclass(frozen=True)
class Taught:
    """A pass of a batch as one learns from it.

    Attributes:
        curves, starts, whole: as `Recorder` gives them, [B, K], [B], [B].
        reports: of the images.
        judged: whether there was a profile to judge them by.
        latents: [B, C, H, W] that came of it; None where a picture they were made from would tell.
    """

    facts: PassFacts
    curves: FloatArray
    starts: FloatArray
    whole: NDArray[np.bool_]
    reports: Sequence[ImageReport]
    judged: bool
    latents: Tensor | None


Choose = Callable[[PassFacts, Checkpoint, str], Applied]
"""(facts, loaded checkpoint, the user's profile setting) -> what to judge by."""
