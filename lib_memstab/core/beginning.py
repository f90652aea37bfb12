"""A path that has a negative prompt, measured against no prompt at its beginning, by extra evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lib_memstab.core.detection import Detector, Step
from lib_memstab.core.evaluation import Evaluation
from lib_memstab.core.measurement import Measurement, measure

Phase = Literal["begins", "holds", "steers", "waits", "over"]
"""An evaluation of the beginning, with an extra one or between two of them; after it, where a picture is being steered
away, likewise; and the rest.
"""

WithoutPrompt = Callable[[], tuple[Tensor, Tensor | None]]
"""Noise prediction [B, C, H, W] without any prompt, at one extra evaluation, where the other is of a negative prompt;
and, of prompts with several parts, the update norm [B] of the one that pulls hardest, against it."""


@dataclass(frozen=True)
class Judged:
    """An evaluation, and what its images are judged by.

    `limits`: what a rule is told of path length and region. `pull` [B, C, H, W]: the prompt's, as it was judged.
    """

    evaluation: Evaluation
    step: Step
    limits: Step
    pull: Tensor


class Levels:
    """Follows the noise levels of one batch down to the end of the beginning.

    Each extra evaluation is a step of noise level away from the last one, so that samplers with many small steps pay
    no more of them than those with few: seven at most, and eleven where a picture is steered away. Noise levels are
    read back from the device until then, as the samplers themselves do at every step.

    Attributes:
        evaluations: extra ones so far.
    """

    SHARE: ClassVar[float] = 0.4
    """Of the first noise level, where the beginning ends."""
    STEERED: ClassVar[float] = 0.2
    """The same where a picture is steered away: a negative prompt must not hide that it comes back."""
    SPACING: ClassVar[float] = 0.85
    """Noise level of an extra evaluation, at most, in units of that of the one before it."""

    def __init__(self) -> None:
        self.evaluations = 0
        self._first: float | None = None
        self._last = 0.0
        self._begins, self._over = True, False

    def at(self, sigma: Tensor, steered: Callable[[], bool]) -> Phase:
        """What this evaluation is, by its noise levels [B], which a batch's images share.

        `steered` is asked once, when the beginning ends: whether a picture is being steered away.
        """
        if self._over:
            return "over"
        level = float(sigma[0])
        first = self._first is None
        if self._first is None:
            self._first = level
        if self._begins and level < self.SHARE * self._first:
            self._begins = False
            self._over = not steered()
        self._over = self._over or level < self.STEERED * self._first
        if self._over:
            return "over"
        if not first and level > self.SPACING * self._last:
            return "holds" if self._begins else "waits"
        self._last = level
        self.evaluations += 1
        return "begins" if self._begins else "steers"


class Beginning:
    """Holds a batch's paths against no prompt for as long as it is their beginning.

    All images are judged so until it ends. After it only those that were flagged by then are steered so, and none is
    judged: what happens to an image must not depend on the others of its batch.
    """

    def __init__(self, detector: Detector) -> None:
        self.levels = Levels()
        self._detector = detector
        self._steered: Tensor | None = None

    def take(
        self,
        evaluation: Evaluation,
        judged: Tensor,
        hardest: Tensor | None,
        without: WithoutPrompt | None,
        steered: Callable[[], Tensor | None],
    ) -> Judged:
        """Measure an evaluation against its negative prompt, or against no prompt.

        Args:
            judged: conditional prediction that the images are judged by, [B, C, H, W].
            hardest: update norm of the part that pulls hardest, against the negative prompt, [B].
            steered: which images are being steered away, bool [B]; None: nothing is.

        Raises:
            ValueError: without `without`.
        """
        if without is None:
            raise ValueError("a job with a negative prompt has to say what the model predicts without any prompt")
        guided, pull = evaluation.measured, judged - evaluation.eps_uncond

        def goes_on() -> bool:
            self._steered = steered()
            return self._steered is not None and bool(self._steered.any())

        phase = self.levels.at(evaluation.sigma, goes_on)
        if phase in ("begins", "steers"):
            eps_plain, pulls = without()
            plain = measure(evaluation.sigma, judged, eps_plain)
            if phase == "begins":
                step = self._detector.update(guided, pulls, plain)
                return Judged(replace(evaluation, measured=plain, hardest=pulls), step, step, judged - eps_plain)
            step, bounds = self._detector.update(guided, hardest), self._detector.against_no_prompt(plain)
            assert self._steered is not None
            seen = Measurement(**_chosen(self._steered, plain, guided))
            limits = Step(**_chosen(self._steered, bounds, step))
            hard = None if pulls is None or hardest is None else torch.where(self._steered, pulls, hardest)
            return Judged(replace(evaluation, measured=seen, hardest=hard), step, limits, pull)
        if phase == "holds":
            unknown, step = torch.zeros_like(guided.valid), self._detector.update(guided, held=True)
            return Judged(replace(evaluation, measured=replace(guided, valid=unknown)), step, step, pull)
        step, anew = self._detector.update(guided, hardest), None
        if phase == "waits":
            assert self._steered is not None
            guided = replace(guided, valid=guided.valid & ~self._steered)
        else:
            anew, self._steered = self._steered, None
        return Judged(replace(evaluation, measured=guided, anew=anew), step, step, pull)


def _chosen(rows: Tensor, one: Measurement | Step, other: Measurement | Step) -> dict[str, Tensor]:
    """Fields by name: the one's where `rows`, bool [B], the other's elsewhere."""
    return {name: torch.where(rows, value, getattr(other, name)) for name, value in vars(one).items()}
