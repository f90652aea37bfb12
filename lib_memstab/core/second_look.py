"""A second look at a suspicious image: its prompt from other noise, and how much the two pictures are alike.

A prompt that replays gives its picture whatever the noise is (many seeds tell a replay: Carlini et al. 2023). One path
does not show that; so where an image goes farther out than one ordinary image in five, or is judged by one part of a
prompt of several, its prompt is sampled from noise of our own, in a few extra evaluations, at a guidance of its own and
against no prompt. The more the picture that the image is becoming is like that one from then on, the lower the bound
that it is held against; where it is no more like it than ordinary pictures are, the bound is higher.

A part of a prompt may replay although the sum does not at every seed, and so may the parts as one text: a memorized
prompt beside an ordinary one, and one that was cut in two. So an image that is judged by one part gets two looks at
once, at that part and at the parts' texts in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lib_memstab.core.evaluation import Evaluation
from lib_memstab.core.likeness import evened
from lib_memstab.core.region import MOST_ALIKE, Region, at_start

Of = Literal["prompt", "hardest part", "one text"]
"""What a look samples: the prompt as the image does, or of a prompt of several parts the one that pulls hardest, or the
texts of all in a row."""

Again = Callable[[Tensor, Tensor, Tensor, Of], tuple[Tensor, Tensor]]
"""(images, int64 [n]; x [n, C, H, W] and sigma [n], x = x0 + sigma noise; what of) -> noise predictions of these
images' prompts as they are now, and without any prompt: two extra evaluations of each."""

LEVELS = (14.6, 7.0, 2.5, 0.7)
"""Noise levels of a look's evaluations, the last one's x0 is the picture."""

GUIDANCE = 4.0
"""Guidance scale of a look, whatever the user samples with: more distorts a picture of so few steps, and with less
fewer reworded prompts were seen to replay."""

SUSPICIOUS = 5.0
"""An image gets a look where it goes as far out as one ordinary image in so many, were bounds nowhere wider: a look
judges nobody by itself, and the earlier a replay is found, the less of it has formed."""


class Mark(NamedTuple):
    """A likeness from which the bound is the one that an ordinary image in `rarity` reaches.

    It is `least`, or `usual` deviations above the likeness of the checkpoint's ordinary pictures if that is more.
    """

    rarity: float
    least: float
    usual: float


MARKS = (Mark(math.inf, 0.3, 2.0), Mark(10, 0.4, 3.0), Mark(3, 0.55, 4.0))
"""From the first one on the bound is lower than without a look; in between it is linear in deviations."""

PART = Mark(1.01, 0.7, 5.0)
"""One more for an image that is judged by one part of its prompt. The path of a part, or of the parts' mean, may be an
ordinary one while the sum replays, so what has nearly all details of its look is a replay, whatever the path was."""

UNLIKE, RISE = Mark(math.inf, 0.25, 3.0), 0.1
"""From `UNLIKE` on, and from the first mark on at the latest, the bound is as without a look. Below it rises, and is
highest from so much below on (likeness as an inverse hyperbolic tangent). Not by the usual likeness alone: pictures of
captions are more alike than those of words that a calibration strings together."""

RARER, IN_A_PICTURE, MUCH_RARER = 3.0, 5.0, 1000.0
"""The highest bound is the one for so many times rarer false alarms than the user asks for: from noise alone, where the
region is of ways of sampling like this one; from a picture, where prompts differ more in how they pull than those of a
calibration; and where the region is of other ways, or of prompts that nobody uses, so that ordinary paths may go
farther out than it knows."""

FROM_NOISE = 0.75
"""An image begins from noise alone where it does so at no less than this share of the first of `LEVELS`."""

LOOKS = 3
"""Looks that an image may get: each from other noise, the later ones a third and two thirds of the way to the bound."""

NO_LOOK = -2.0
"""The likeness of an image that had no look."""

_SEED = 20_261_126
_OF: tuple[Of, ...] = ("hardest part", "one text", "prompt")
"""What the looks at an image that is judged by a part are of, in turn; all others are of the prompt."""


class SecondLooks:
    """The second looks at one batch's images, and the bounds that come of them.

    `sensitivity` says the bound of an image without a look; `guidance` and `negative`, how the batch is sampled;
    `calibrated`, whether the region is of such ways of sampling and such prompts. A region that does not say how much
    ordinary pictures are alike gives no looks.
    """

    def __init__(
        self, region: Region, sensitivity: float, guidance: float, negative: bool = False, calibrated: bool = True
    ) -> None:
        rarer = (RARER, IN_A_PICTURE) if calibrated else (MUCH_RARER, MUCH_RARER)
        self._suspicious = region.threshold(SUSPICIOUS)
        self._from_noise, self._from_picture = (region.threshold(times * sensitivity) for times in rarer)
        self._bounds = [region.threshold(min(mark.rarity, sensitivity)) for mark in (*MARKS, PART)]
        self._bound = self._bounds[0]
        self._ordinary = region.likeness(guidance, negative) if self._suspicious < self._bound else None
        self._table: Tensor | None = None
        self._highest: Tensor | None = None
        self._awake = self._ordinary is None
        self._details: Tensor | None = None
        self._looked: Tensor | None = None
        self._alike: Tensor | None = None
        self._lowest: Tensor | None = None

    def awake(self, sigma: Tensor, reach: Tensor, by_part: Tensor | None = None) -> bool:
        """Whether an image of the batch has been suspicious by now: until then none is flagged, and none gets a look.

        `sigma` [B] of this evaluation, `reach` and `by_part` as for `bounds`, at every evaluation until then. It is
        read back from the device; where there are no looks, nothing is, and it is true.
        """
        if not self._awake:
            self._begin(sigma)
            suspicious = reach > self._suspicious
            self._awake = bool((suspicious if by_part is None else suspicious | by_part).any())
        return self._awake

    def _begin(self, sigma: Tensor) -> None:
        """Take how alike ordinary pictures are that begin where this batch does, and the highest bounds [B]."""
        if self._table is None and self._ordinary is not None:
            starts, table = (torch.as_tensor(part, dtype=torch.float32).to(sigma.device) for part in self._ordinary)
            self._table = at_start(starts, table, sigma)
            noise = sigma.float() >= FROM_NOISE * LEVELS[0]
            self._highest = torch.where(noise, self._from_noise, self._from_picture)

    def bounds(
        self,
        evaluation: Evaluation,
        score: Tensor,
        flagged: Tensor,
        again: Again,
        by_part: Tensor | None = None,
        reach: Tensor | None = None,
    ) -> Tensor | None:
        """What images that had a look are held against at this evaluation, float32 [B].

        Not a number for the others, and None while there is none. A look is due by `score` [B], the largest excess so
        far; the first by `reach` [B], the same by deviations that are nowhere wider (None: by the score). An image that
        was `flagged` before, bool [B], gets none, and neither does one beyond the highest bound. One that is judged
        `by_part`, bool [B], gets its first two however far out it is. Whether one is due is read back from the device
        at each evaluation.
        """
        if self._ordinary is None:
            return None
        self._begin(evaluation.sigma)
        assert self._highest is not None
        if self._looked is None:
            self._looked = torch.zeros_like(score)
        far = score if reach is None else torch.where(self._looked == 0, reach, score)
        due = far > self._suspicious + self._looked / LOOKS * (self._bound - self._suspicious)
        due = due if by_part is None else due | (by_part & (self._looked < 2))
        images = (due & (score <= self._highest) & (self._looked < LOOKS) & ~flagged).nonzero().flatten()
        if len(images):
            turns = torch.full_like(self._looked, 2) if by_part is None else torch.where(by_part, self._looked, 2)
            for turn, of in enumerate(_OF):
                some = images[turns[images] == turn]
                if len(some):
                    self._take(evaluation, some, again, of)
        if self._details is None:
            return None
        alike = _alike(evaluation, self._details)
        bounds = torch.where(alike > NO_LOOK, self._bounds_at(alike, by_part), torch.nan)
        self._alike = alike if self._alike is None else torch.maximum(self._alike, alike)
        self._lowest = bounds if self._lowest is None else torch.fmin(self._lowest, bounds)
        return bounds

    def _bounds_at(self, alike: Tensor, by_part: Tensor | None) -> Tensor:
        """The bounds of images that are so much like their looks, all [B]."""
        assert self._table is not None
        assert self._highest is not None
        mean, deviation = self._table[..., 0].unbind(1)
        place = alike.clamp(-MOST_ALIKE, MOST_ALIKE).arctanh()
        unlike, *marks = (
            (mean + mark.usual * deviation).clamp(min=math.atanh(mark.least)) for mark in (UNLIKE, *MARKS, PART)
        )
        higher = ((torch.minimum(unlike, marks[0]) - place) / RISE).clamp(0, 1)
        bound = self._bound + higher * (self._highest - self._bound)
        lowered = [
            ((place - low) / (high - low)).clamp(0, 1) * (above - below)
            for (low, high), (above, below) in zip(pairwise(marks), pairwise(self._bounds), strict=True)
        ]
        bound = bound - torch.stack(lowered[:-1]).sum(0)
        return bound if by_part is None else torch.where(by_part, bound - lowered[-1], bound)

    def told(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Extra evaluations, largest likeness (`NO_LOOK`: none) and lowest bound of each image, all [B] as `like`."""
        if self._looked is None or self._alike is None or self._lowest is None:
            return torch.zeros_like(like), torch.full_like(like, NO_LOOK), torch.full_like(like, self._bound)
        return self._looked * len(LEVELS), self._alike, self._lowest.nan_to_num(self._bound)

    def _take(self, evaluation: Evaluation, images: Tensor, again: Again, of: Of) -> None:
        """Look at these images, int64 [n], each from the noise of its next look."""
        assert self._looked is not None
        turns = self._looked[images].long()
        found = evened(look(noises(evaluation.x)[turns], lambda x, sigma: again(images, x, sigma, of)))
        if self._details is None:
            self._details = found.new_full((LOOKS, len(evaluation.x), found.shape[1]), torch.nan)
        self._details[turns, images] = found
        self._looked[images] += 1


def look(noise: Tensor, predict: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """The picture that comes of `noise` [B, C, H, W], standard normal, in as many evaluations as there are `LEVELS`.

    `predict` gives the noise predictions at x and sigma [B], with the prompt and without any.
    """
    x = noise * LEVELS[0]
    for level, below in zip(LEVELS, (*LEVELS[1:], 0.0), strict=True):
        eps_cond, eps_uncond = predict(x, x.new_full((len(x),), level))
        x = x + (below - level) * (eps_uncond + GUIDANCE * (eps_cond - eps_uncond)).to(x)
    return x


def _alike(evaluation: Evaluation, looks: Tensor) -> Tensor:
    """How much each image's predicted picture, guided or not, is like one of its looks', [B]; `NO_LOOK` without.

    `looks` [LOOKS, B, C H W], the evened details of theirs, are not finite where there was none.
    """
    becoming = torch.stack([evaluation.x0(eps) for eps in (evaluation.eps, evaluation.eps_cond)])
    own = evened(becoming.flatten(0, 1)).unflatten(0, becoming.shape[:2])
    found = functional.cosine_similarity(own[:, None], looks[None], dim=3)
    return torch.where(found.isfinite(), found, NO_LOOK).amax((0, 1))


def noises(like: Tensor) -> Tensor:
    """Each look's noise [LOOKS, C, H, W]: always the same, so that a verdict does not depend on the rest of a batch."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.stack([torch.randn(like.shape[1:], generator=generator) for _ in range(LOOKS)]).to(like)
