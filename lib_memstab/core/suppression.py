"""What a suppression rule is told and what it may touch, and the rule that steers a flagged image away.

A rule sees a whole batch and answers for all of it; the monitor takes its answer only for flagged rows, so every other
image stays bit-identical. All of it runs on the device without a host synchronisation, and without extra denoiser
evaluations. `lab.rules` has the rules that this one was held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lib_memstab.core.evaluation import Evaluation, spread
from lib_memstab.core.likeness import details
from lib_memstab.core.measurement import PathLength


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
        deviation: the region's deviation of the log path length, at this noise level.
        anew: the same for a path that begins anew on its way, which is not widened towards a beginning.
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
    anew: Tensor
    threshold: float
    comes_back: Tensor


class Rule:
    """Does nothing: the picture as it comes. `strength`: how much of a rule is applied, all of it from 1 on."""

    name: ClassVar[str] = "none"

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = min(1.0, strength)

    def condition(self, text: Tensor, rows: TextRows) -> Tensor:
        """Text rows for flagged images' next evaluation, [B, T, D]."""
        return text

    def spare(self, evaluation: Evaluation) -> None:
        """In place of `guide`, where no image has been flagged so far."""

    def guide(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        """Guided noise prediction for flagged images, [B, C, H, W]."""
        return evaluation.eps


def end_swapped(text: Tensor, rows: TextRows) -> Tensor:
    """Text with the empty prompt's end mark and padding; the user's words stay."""
    return torch.where(rows.words[..., None], text, rows.empty.to(text))


def unguided(evaluation: Evaluation, images: Tensor, strength: float) -> Tensor:
    """Guided noise prediction [B, C, H, W], with as much less guidance as `strength` says for `images`, bool [B]."""
    without = torch.lerp(evaluation.eps, evaluation.eps_uncond, strength)
    return torch.where(spread(images, evaluation.eps) > 0, without, evaluation.eps)


class Recalling(Rule):
    """A rule that keeps what each prompt recalls: m = x - sigma eps_c at the first flagged evaluation."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength)
        self._recalled: Tensor | None = None

    def recall(self, evaluation: Evaluation, flags: Flags) -> Tensor:
        """m of each image, float32 [B, C, H, W]; of one not flagged before, this evaluation's."""
        seen = evaluation.x0(evaluation.eps_cond)
        known = spread(flags.before, seen) > 0
        self._recalled = seen if self._recalled is None else torch.where(known, self._recalled, seen)
        return self._recalled


def _centred(latent: Tensor) -> Tensor:
    """`latent` [B, C, H, W] without the mean of each of its channels."""
    return latent - latent.mean(dim=(2, 3), keepdim=True)


def _share_of_way(evaluation: Evaluation, recalled: Tensor) -> Tensor:
    """Share of the way from the unconditional x0 to `recalled` [B, C, H, W] that the conditional one goes, [B].

    In details only: what is coarse, captions of one content share.
    """
    without = details(evaluation.x0(evaluation.eps_uncond))
    way, gone = details(recalled) - without, details(evaluation.x0(evaluation.eps_cond)) - without
    return (gone * way).sum(1) / way.square().sum(1).clamp(min=1e-12)


class Windows(Recalling):
    """The prompt read in windows of half of it from the flag on, and the recalled picture kept out of the prediction.

    The words and their bindings stay, the caption as a whole is gone (`core.windows`); no guidance at the flag itself.
    The predicted x0 correlates with what the prompt recalls, channel means aside, by no more than `KEPT`.
    A piece of the prompt may be enough to recall the picture. That is so where the path, begun anew at the flag, goes
    as far out as one ordinary path in 100 does, or beyond the lower bound of an image that still is like its second
    look, and the windows have led `LED` of the way to what was recalled, or the path has come so far since its first
    evaluation (it alone would not do: after a large step without guidance every prompt pulls hard). Then words are read
    three tokens at a time, and the end is the empty prompt's. Where the windows led to the picture at that very
    evaluation, it has no guidance either: in few steps that one is enough to make the copy. Of a prompt with several
    parts it is the path of the one that pulls hardest, as a replay hides in their mean.

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
        if self._again is None:
            return text
        first, again = rows.halves, rows.glimpses
        if first is None or again is None:
            first, again = end_swapped(text, rows), rows.empty.expand_as(text)
        read = torch.where(spread(rows.of_rows(self._again), text) > 0, again.to(text), first.to(text))
        return torch.lerp(text, read, self.strength)

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
        recalled = self.recall(evaluation, flags)
        out = (length / flags.centre).log() / flags.anew
        leads = self._comes_back(flags, out, _share_of_way(evaluation, recalled) > self.LED)
        guided = unguided(evaluation, ~flags.before | leads, self.strength).float()
        excess = too_alike(evaluation.x0(guided), recalled, self.KEPT)
        return (guided + self.strength * excess / spread(evaluation.sigma, excess)).to(evaluation.eps.dtype)

    def _comes_back(self, flags: Flags, out: Tensor, led: Tensor) -> Tensor:
        """Take how far `out` each path is, in deviations [B], and whether windows `led` to the picture, bool [B].

        Which images come back at this evaluation, for the first time, and were led there, bool [B]. `out` is not a
        number where nothing was measured since the flag; the first number is what counts as the first.
        """
        nobody = torch.zeros_like(flags.before)
        first = torch.full_like(out, torch.nan) if self._first is None else self._first
        self._first = torch.where(flags.before & first.isnan(), out.clamp(min=0), first)
        self._led = (nobody if self._led is None else self._led) | (flags.before & led)
        least = flags.comes_back + torch.where(self._led, 0.0, self._first)
        known = nobody if self._again is None else self._again
        self._again = known | (flags.before & (out > least))
        return self._again & ~known & led


def too_alike(latent: Tensor, other: Tensor, kept: float) -> Tensor:
    """What to take from each latent [B, C, H, W] so that it correlates with `other` by `kept` and no more.

    Correlation is the cosine without channel means; `kept` is below 1. Zero where it is lower already.
    """
    centred, toward = _centred(latent), _centred(other)
    toward = toward / spread(toward.flatten(1).norm(dim=1).clamp(min=1e-9), toward)
    along = (centred * toward).flatten(1).sum(1)
    rest = (centred - spread(along, toward) * toward).flatten(1).norm(dim=1)
    return spread((along - kept / (1 - kept**2) ** 0.5 * rest).clamp(min=0), toward) * toward
