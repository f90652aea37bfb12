"""Suppression rules that the one that ships was held against, and the table of all of them (`bench --rules`)."""

from __future__ import annotations

import torch
from torch import Tensor

from lib_memstab.core.evaluation import Evaluation, spread
from lib_memstab.core.suppression import (
    Flags,
    Recalling,
    Rule,
    TextRows,
    Windows,
    end_swapped,
    too_alike,
    unguided,
)


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


class EndSwap(Rule):
    """End mark and padding replaced by the empty prompt's from the flag on; no guidance at the flag itself."""

    name = "end swap"

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)
        self._begun = False

    def condition(self, text: Tensor, rows: TextRows) -> Tensor:
        return torch.lerp(text, end_swapped(text, rows), self.strength) if self._begun else text

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        self._begun = True
        return unguided(evaluation, ~flags.before, self.strength)


class EndSwapAway(EndSwap, Recalling):
    """End swap, and from then on no guidance towards what the model recalled when the image was flagged.

    Of the guidance on x0 only what does not point from the unconditional x0 towards m is kept.
    """

    name = "end swap, away"

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        noise = spread(evaluation.sigma, evaluation.x)
        toward = self.recall(evaluation, flags) - evaluation.x0(evaluation.eps_uncond)
        push = (-noise * (evaluation.eps_cond - evaluation.eps_uncond)).float()
        share = (push * toward).flatten(1).sum(1) / (toward**2).flatten(1).sum(1).clamp(min=1e-12)
        first = super().guide(evaluation, flags)
        kept = push - spread(self.strength * share.clamp(min=0), push) * toward
        guided = evaluation.eps_uncond - (evaluation.guidance * kept / noise.float()).to(evaluation.eps)
        return torch.where(spread(flags.before, guided) > 0, guided, first)


class Expel(EndSwapAway):
    """End swap, away, and the recalled picture is taken out of what the latent has already become.

    A picture that is flagged late has begun to be the copy, and a denoiser finishes what has begun, with guidance or
    without. So of the predicted x0 the part that lies along m (both without their channel means, where it is positive)
    is left out at every evaluation, until the model has moved elsewhere and there is none.
    """

    name = "end swap, away, expel"

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        guided = super().guide(evaluation, flags).float()
        assert self._recalled is not None
        part = too_alike(evaluation.x0(guided), self._recalled, 0.0)
        return (guided + self.strength * part / spread(evaluation.sigma, part)).to(evaluation.eps.dtype)


RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        Rule,
        ToBound,
        GuidanceToCentre,
        Transition,
        GuidanceOff,
        EndSwap,
        EndSwapAway,
        Expel,
        Windows,
    )
}
