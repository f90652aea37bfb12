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

from lib_memstab.core.likeness import details
from lib_memstab.core.measurement import Measurement, PathLength

Evaluate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x rows, sigma rows, text rows) -> conditional noise prediction of those rows: one extra evaluation each."""


@dataclass(frozen=True)
class TextRows:
    """The text conditioning of a batch as a host knows it.

    Attributes:
        empty: features of the empty prompt, [B, T, D] or [1, T, D].
        words: bool [B, T]; the begin mark and the user's words. All else is end marks and padding.
        owner: int64 [R], where an image has several text rows: which image each of the R rows belongs to.
        halves, glimpses: features of the prompt read in windows of half of it, and of three tokens, [B, T, D] (see
            `core.windows`); None where the host cannot encode pieces of a prompt.
    """

    empty: Tensor
    words: Tensor
    owner: Tensor | None = None
    halves: Tensor | None = None
    glimpses: Tensor | None = None

    def of_rows(self, values: Tensor) -> Tensor:
        """What each image has, [B], as its text rows have it, [R]."""
        return values if self.owner is None else values[self.owner]


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
        comes_back: score from which a steered image's path, begun anew, says that the replay comes back: what one
            ordinary image in 100 reaches, whatever the sensitivity is, or less where a second look lowers the bound.
    """

    flagged: Tensor
    before: Tensor
    excess: Tensor
    length: Tensor
    centre: Tensor
    deviation: Tensor
    threshold: float
    comes_back: Tensor


@dataclass(frozen=True)
class Evaluation:
    """One denoiser evaluation: x = x0 + sigma noise, predictions [B, C, H, W], sigma [B], the guidance scale in use.

    `measured` is its measurement, as it is judged. `hardest` [B]: where a prompt has several parts, the update norm of
    the one that pulls hardest. `anew`, bool [B]: images that are held against something else from now on, so that their
    paths begin anew.
    """

    x: Tensor
    sigma: Tensor
    eps_cond: Tensor
    eps_uncond: Tensor
    eps: Tensor
    guidance: float
    text: Tensor | None
    evaluate: Evaluate | None
    measured: Measurement
    hardest: Tensor | None = None
    anew: Tensor | None = None


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

    def spare(self, evaluation: Evaluation) -> None:
        """In place of `guide`, where no image has been flagged so far."""

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


def end_swapped(text: Tensor, rows: TextRows, share: Tensor) -> Tensor:
    """Text with its end mark and padding moved by `share` [B] towards the empty prompt's; the user's words stay."""
    moved = torch.lerp(text, rows.empty.to(text).expand_as(text), spread(share, text))
    return torch.where(rows.words[..., None], text, moved)


class EndSwap(Rule):
    """End mark and padding replaced by the empty prompt's from the flag on; no guidance at the flag itself.

    Strength is the share of both, whatever the evidence.
    """

    name = "end swap"

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)
        self._firm: Tensor | None = None

    def firmness(self, flags: Flags) -> Tensor:
        """How much of the rule is applied to each image, [B] in 0..1."""
        return torch.full_like(flags.excess, min(1.0, self.strength))

    def condition(self, text: Tensor, rows: TextRows) -> Tensor:
        return text if self._firm is None else end_swapped(text, rows, rows.of_rows(self._firm))

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        self._firm = self.firmness(flags)
        first = torch.lerp(evaluation.eps, evaluation.eps_uncond, spread(self._firm, evaluation.eps))
        return torch.where(spread(flags.before, evaluation.eps) > 0, evaluation.eps, first)


class Recalling(EndSwap):
    """End swap that keeps what each prompt recalls: m = x - sigma eps_c at the first flagged evaluation."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)
        self._recalled: Tensor | None = None

    def recall(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        """m of each image, float32 [B, C, H, W]; of one not flagged before, this evaluation's."""
        seen = evaluation.x.float() - spread(evaluation.sigma, evaluation.x).float() * evaluation.eps_cond.float()
        known = spread(flags.before, seen) > 0
        self._recalled = seen if self._recalled is None else torch.where(known, self._recalled, seen)
        return self._recalled


class EndSwapAway(Recalling):
    """End swap, and from then on no guidance towards what the model recalled when the image was flagged.

    Of the guidance on x0 only what does not point from the unconditional x0 towards m is kept.
    """

    name = "end swap, away"

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        noise = spread(evaluation.sigma, evaluation.x)
        toward = self.recall(evaluation, flags) - (evaluation.x - noise * evaluation.eps_uncond).float()
        push = (-noise * (evaluation.eps_cond - evaluation.eps_uncond)).float()
        share = (push * toward).flatten(1).sum(1) / (toward**2).flatten(1).sum(1).clamp(min=1e-12)
        first = super().guide(evaluation, flags)
        assert self._firm is not None
        kept = push - spread(self._firm * share.clamp(min=0), push) * toward
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
        assert self._firm is not None
        noise = spread(evaluation.sigma, evaluation.x).float()
        part = too_alike(evaluation.x.float() - noise * guided, self._recalled, 0.0)
        return (guided + spread(self._firm, part) * part / noise).to(evaluation.eps.dtype)


def _centred(latent: Tensor) -> Tensor:
    """`latent` [B, C, H, W] without the mean of each of its channels."""
    return latent - latent.mean(dim=(2, 3), keepdim=True)


def _share_of_way(evaluation: Evaluation, recalled: Tensor) -> Tensor:
    """Share of the way from the unconditional x0 to `recalled` [B, C, H, W] that the conditional one goes, [B].

    In details only: what is coarse, captions of one content share.
    """
    x, noise = evaluation.x.float(), spread(evaluation.sigma, evaluation.x).float()
    without = details(x - noise * evaluation.eps_uncond.float())
    way = details(recalled) - without
    gone = details(x - noise * evaluation.eps_cond.float()) - without
    return (gone * way).sum(1) / way.square().sum(1).clamp(min=1e-12)


class Windows(Recalling):
    """The prompt read in windows of half of it from the flag on, and the recalled picture kept out of the prediction.

    The words and their bindings stay, the caption as a whole is gone (`core.windows`); no guidance at the flag itself.
    The predicted x0 correlates with what the prompt recalls, channel means aside, by no more than `KEPT`.
    A piece of the prompt may be enough to recall the picture. That is so where the path, begun anew at the flag, goes
    as far out as one ordinary path in 100 does, or beyond the lower bound of an image that still is like its second
    look, and the windows have led `LED` of the way to what was recalled, or the path has come so far since its first
    evaluation (it alone would not do: after a large step without guidance every prompt pulls hard). Then words are read
    three tokens at a time, and the end is the empty prompt's. Of a prompt with several parts it is the path of the one
    that pulls hardest, as a replay hides in their mean.

    Without the windows' text the end is swapped instead, and the second time the prompt is the empty one: an embedding
    that fills the prompt has no end to swap, and its words alone may recall the picture.
    """

    name = "windows"
    KEPT: ClassVar[float] = 0.15
    LED: ClassVar[float] = 0.15

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)
        self._path = PathLength()
        self._first: Tensor | None = None
        self._led: Tensor | None = None
        self._again: Tensor | None = None

    def condition(self, text: Tensor, rows: TextRows) -> Tensor:
        if self._firm is None or self._again is None:
            return text
        first, again = rows.halves, rows.glimpses
        if first is None or again is None:
            first = end_swapped(text, rows, torch.ones_like(rows.of_rows(self._firm)))
            again = rows.empty.expand_as(text)
        read = torch.where(spread(rows.of_rows(self._again), text) > 0, again.to(text), first.to(text))
        return torch.lerp(text, read, spread(rows.of_rows(self._firm), text))

    def spare(self, evaluation: Evaluation) -> None:
        if not self._path.begun:
            # What `guide` leaves of the path of an image that is not flagged.
            sigma = evaluation.measured.sigma
            self._path.update(sigma, sigma, torch.zeros_like(evaluation.measured.valid))
            self._path.restart(torch.ones_like(evaluation.measured.valid))

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        measured = evaluation.measured
        if evaluation.anew is not None:
            self._path.restart(evaluation.anew)
        norm = measured.update_norm()
        if evaluation.hardest is not None:
            norm = torch.maximum(norm, evaluation.hardest)
        length = self._path.update(measured.sigma, norm, measured.valid)
        self._path.restart(~flags.before)
        guided = super().guide(evaluation, flags).float()
        recalled = self.recall(evaluation, flags)
        out = (length / flags.centre).log() / flags.deviation
        self._comes_back(flags, out, _share_of_way(evaluation, recalled) > self.LED)
        assert self._firm is not None
        noise = spread(evaluation.sigma, evaluation.x).float()
        excess = too_alike(evaluation.x.float() - noise * guided, recalled, self.KEPT)
        return (guided + spread(self._firm, excess) * excess / noise).to(evaluation.eps.dtype)

    def _comes_back(self, flags: Flags, out: Tensor, led: Tensor) -> None:
        """Take how far `out` each path is, in deviations [B], and whether windows `led` to the picture, bool [B].

        `out` is not a number where nothing was measured since the flag; the first number is what counts as the first.
        """
        nobody = torch.zeros_like(flags.before)
        first = torch.full_like(out, torch.nan) if self._first is None else self._first
        self._first = torch.where(flags.before & first.isnan(), out.clamp(min=0), first)
        self._led = (nobody if self._led is None else self._led) | (flags.before & led)
        least = flags.comes_back + torch.where(self._led, 0.0, self._first)
        self._again = (nobody if self._again is None else self._again) | (flags.before & (out > least))


def too_alike(latent: Tensor, other: Tensor, kept: float) -> Tensor:
    """What to take from each latent [B, C, H, W] so that it correlates with `other` by `kept` and no more.

    Correlation is the cosine without channel means; `kept` is below 1. Zero where it is lower already.
    """
    centred, toward = _centred(latent), _centred(other)
    toward = toward / spread(toward.flatten(1).norm(dim=1).clamp(min=1e-9), toward)
    along = (centred * toward).flatten(1).sum(1)
    rest = (centred - spread(along, toward) * toward).flatten(1).norm(dim=1)
    return spread((along - kept / (1 - kept**2) ** 0.5 * rest).clamp(min=0), toward) * toward


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
DEFAULT_RULE = "windows"
"""The rule that ships as default; `bench --rules` prints the table to hold it against."""
