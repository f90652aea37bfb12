"""Rules that pull a flagged image's updates back into the region, and the text rows they may touch.

A rule sees a whole batch and answers for all of it; the monitor takes its answer only for flagged rows, so every other
image stays bit-identical. All of it runs on the device without a host synchronisation, and no rule here asks for extra
denoiser evaluations unless it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lib_memstab.core.measurement import PathLength, measure

Evaluate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x rows, sigma rows, text rows) -> conditional noise prediction of those rows: one extra evaluation each."""


@dataclass(frozen=True)
class TextRows:
    """The text conditioning of a batch as a host knows it.

    Attributes:
        empty: features of the empty prompt, [B, T, D] or [1, T, D].
        words: bool [B, T]; the begin mark and the user's words. All else is end marks and padding.
        owner: int64 [R], where an image has several text rows: which image each of the R rows belongs to.
    """

    empty: Tensor
    words: Tensor
    owner: Tensor | None = None


@dataclass(frozen=True)
class Flags:
    """What is known of each image at one evaluation, all [B].

    Attributes:
        flagged: outside now or at an earlier evaluation.
        before: flagged at an earlier evaluation.
        excess: standardised excess of this evaluation.
        length: path length so far.
        centre: path length at the region's centre, at this noise level.
        deviation: the region's standard deviation of the log path length, at this noise level.
        threshold: score from which an image is flagged.
    """

    flagged: Tensor
    before: Tensor
    excess: Tensor
    length: Tensor
    centre: Tensor
    deviation: Tensor
    threshold: float


@dataclass(frozen=True)
class Evaluation:
    """One denoiser evaluation: x = x0 + sigma noise, predictions [B, C, H, W], sigma [B], the guidance scale in use."""

    x: Tensor
    sigma: Tensor
    eps_cond: Tensor
    eps_uncond: Tensor
    eps: Tensor
    guidance: float
    text: Tensor | None
    evaluate: Evaluate | None


def spread(values: Tensor, like: Tensor) -> Tensor:
    """`values` [B] shaped to multiply `like` [B, ...]."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


class Rule:
    """Does nothing: the picture as it comes."""

    name: ClassVar[str] = "none"

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.extra: Tensor | None = None

    def condition(self, text: Tensor, rows: TextRows) -> Tensor:
        """Text rows for flagged images' next evaluation, [B, T, D]."""
        return text

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        """Guided noise prediction for flagged images, [B, C, H, W]."""
        return evaluation.eps


class ToBound(Rule):
    """Scale the update so that the path length comes back to the region's bound."""

    name = "rescale to bound"

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        bound = flags.centre * (flags.threshold * flags.deviation).exp()
        return evaluation.eps * spread((bound / flags.length).clamp(max=1), evaluation.eps)


class GuidanceToCentre(Rule):
    """Shrink guidance until the update norm is the region's centre, or to nothing where it cannot be."""

    name = "guidance to centre"

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        delta = evaluation.eps_cond - evaluation.eps_uncond
        square = (delta.float() ** 2).flatten(1).mean(1).clamp(min=1e-20)
        half = (delta.float() * evaluation.eps_uncond.float()).flatten(1).mean(1)
        rest = (evaluation.eps_uncond.float() ** 2).flatten(1).mean(1) - flags.centre**2
        scale = (-half + (half**2 - square * rest).clamp(min=0).sqrt()) / square
        return evaluation.eps_uncond + spread(scale.clamp(0, evaluation.guidance), delta) * delta


class GuidanceOff(Rule):
    """Unconditional prediction from the flag on."""

    name = "guidance off"

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        return evaluation.eps_uncond


class Transition(Rule):
    """No guidance above a fixed noise level, full guidance below it (after Jain et al. 2025)."""

    name = "transition point"
    SIGMA = 2.0

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        return torch.where(
            spread(evaluation.sigma > self.SIGMA, evaluation.eps) > 0, evaluation.eps_uncond, evaluation.eps
        )


def end_swapped(text: Tensor, rows: TextRows, share: float = 1.0) -> Tensor:
    """Text with its end mark and padding moved by `share` towards the empty prompt's; the user's words stay."""
    moved = torch.lerp(text, rows.empty.to(text).expand_as(text), share)
    return torch.where(rows.words[..., None], text, moved)


class EndSwap(Rule):
    """End mark and padding replaced by the empty prompt's from the flag on; no guidance at the flag itself."""

    name = "end swap"

    def condition(self, text: Tensor, rows: TextRows) -> Tensor:
        return end_swapped(text, rows, min(1.0, self.strength))

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        return torch.where(spread(flags.before, evaluation.eps) > 0, evaluation.eps, evaluation.eps_uncond)


class ClosedLoop(Rule):
    """Text steered away step by step until the path that begins there stays inside the region.

    Levels move first the end mark and padding, then half of the words, then all of them to the empty prompt's rows. At
    the flag, and whenever the path since the last move leaves the region again, that evaluation goes unguided and the
    next one sees the next level.
    """

    name = "closed loop"
    LEVELS = ((1.0, 0.0), (1.0, 0.5), (1.0, 1.0))

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)
        self._path = PathLength()
        self._level: Tensor | None = None

    def condition(self, text: Tensor, rows: TextRows) -> Tensor:
        if self._level is None:
            return text
        empty = rows.empty.to(text).expand_as(text)
        ends, words = (
            text.new_tensor(column)[self._level.long()].view(-1, 1, 1) for column in zip(*self.LEVELS, strict=True)
        )
        return torch.lerp(text, empty, torch.where(rows.words[..., None], words, ends))

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        measured = measure(evaluation.sigma, evaluation.eps_cond, evaluation.eps_uncond)
        length = self._path.update(measured.sigma, measured.update_norm(), measured.valid)
        if self._level is None:
            self._level = torch.zeros_like(length)
        bound = flags.centre * (flags.threshold * flags.deviation).exp()
        again = flags.before & (length > bound)
        moved = again | ~flags.before
        self._level = (self._level + again).clamp(max=len(self.LEVELS) - 1)
        self._path.restart(moved)
        return torch.where(spread(moved, evaluation.eps) > 0, evaluation.eps_uncond, evaluation.eps)


class EndSwapAway(EndSwap):
    """End swap, and from then on no guidance towards what the model recalled when the image was flagged.

    m = x - sigma eps_c at the first flagged evaluation is the picture that the prompt recalls. Of the guidance on x0
    only what does not point from the unconditional x0 towards m is kept.
    """

    name = "end swap, away"

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)
        self._recalled: Tensor | None = None

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        noise = spread(evaluation.sigma, evaluation.x)
        seen = evaluation.x - noise * evaluation.eps_cond
        fresh = spread(flags.before, seen) == 0
        self._recalled = seen if self._recalled is None else torch.where(fresh, seen, self._recalled)
        toward = (self._recalled - (evaluation.x - noise * evaluation.eps_uncond)).float()
        push = (-noise * (evaluation.eps_cond - evaluation.eps_uncond)).float()
        share = (push * toward).flatten(1).sum(1) / (toward**2).flatten(1).sum(1).clamp(min=1e-12)
        kept = push - spread(share.clamp(min=0), push) * toward
        guided = evaluation.eps_uncond - (evaluation.guidance * kept / noise.float()).to(evaluation.eps)
        return torch.where(fresh, evaluation.eps_uncond, guided)


RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (Rule, ToBound, GuidanceToCentre, Transition, GuidanceOff, EndSwap, EndSwapAway, ClosedLoop)
}
DEFAULT_RULE = "end swap, away"
"""The rule that ships as default: the best of the table that `bench --rules` prints."""
