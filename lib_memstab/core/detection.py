"""The sequential score of a batch of trajectories, kept on their device: how far outside, since when, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lib_memstab.core.measurement import Measurement, PathLength
from lib_memstab.core.region import Region, at_start, interpolate, widening


@dataclass(frozen=True)
class Step:
    """One evaluation against the region, all [B]: sigma, path length, mean and deviation of its log, excess.

    The excess is in deviations above the mean, minus infinity where nothing could be measured. `narrow`: the deviation
    as it is where a path begins anew on its way, not `widened` towards the beginning.
    """

    sigma: Tensor
    length: Tensor
    mean: Tensor
    deviation: Tensor
    narrow: Tensor
    excess: Tensor


class Detector:
    """Scores each image of a batch at every evaluation against a region; all state is float32 or bool [B] on device.

    Attributes:
        score: largest standardised excess so far; minus infinity before the first valid evaluation.
        reach: the same by the narrow deviations: how far out an image may be, however early it is.
        measured: evaluations that allowed a measurement.
        outside_count: evaluations at which `judge` found the image outside.
        first_outside: index of the first of these among all evaluations, -1 while there is none.
        broken: an evaluation held values that are not finite.
        by_part: one part of its prompt was judged by, where there are several, as it pulls harder than all together.
        late: nothing could be measured above `LATE` of the first noise level: a path whose beginning is unknown cannot
            be held against the region, and scores nothing.
        steps: what `update` returned, evaluation by evaluation.

    A negative prompt takes away from the pull that is measured, or adds to it: ordinary paths spread widely then, and
    replays hide among them. So the beginning of such a path (`core.beginning`) is measured against no prompt at all and
    held against paths without a negative prompt; the rest, as it was guided.
    """

    LATE: ClassVar[float] = 0.6
    EARLY: ClassVar[float] = 0.7
    HARDER: ClassVar[float] = 1.01
    """How many times as long the hardest part's path is, at least, where an image is judged by it."""
    CLEARLY: ClassVar[float] = 10.0
    """A bound that one ordinary image in so many reaches, or a lower one, is that of an image clearly like its look."""

    def __init__(self, region: Region, threshold: float, guidance: float, negative: bool = False) -> None:
        self.region, self.threshold = region, threshold
        self._tables = [region.tables(guidance, kind) for kind in dict.fromkeys((negative, False))]
        self._clearly = min(threshold, region.threshold(self.CLEARLY)) if negative else -torch.inf
        self.steps: list[Step] = []
        self._bounds: list[Tensor] = []
        self._path, self._plain, self._hardest = PathLength(), PathLength(), PathLength()

    def _begin(self, like: Tensor) -> None:
        self._grid = torch.as_tensor(self.region.log_sigma, dtype=torch.float32).to(like.device)
        wider = widening((self._grid.exp() / like.float().clamp(min=1e-8)[:, None]).clamp(max=1))
        tables: list[Tensor] = []
        for known in self._tables:
            starts, values = (torch.as_tensor(part, dtype=torch.float32).to(like.device) for part in known)
            table = at_start(starts, values, like)
            tables.append(torch.cat([table, (table[:, 1] / wider)[:, None]], dim=1))
        self._table, self._plain_table = tables[0], tables[-1]
        self.score = self.reach = torch.full_like(like, -torch.inf)
        self.measured, self.outside_count = torch.zeros_like(like), torch.zeros_like(like)
        self.first_outside = torch.full_like(like, -1)
        self.broken, self.late, self.by_part = (torch.zeros_like(like, dtype=torch.bool) for _ in range(3))
        self._first = like

    def update(
        self,
        measurement: Measurement,
        hardest: Tensor | None = None,
        plain: Measurement | None = None,
        held: bool = False,
    ) -> Step:
        """Take one evaluation of the batch.

        `hardest` [B]: where a prompt has several parts, the update norm of the one that pulls hardest. Its path counts
        where it is longer, down to `EARLY` of the first noise level; below that every part pulls hard, at a picture
        that the others made.
        `plain`: the evaluation measured against no prompt where `measurement` is against a negative one; by it the
        images are judged, and `hardest` is against no prompt too. `held`: between two such evaluations, the verdict of
        the last one holds.
        """
        if not self.steps:
            self._begin(measurement.sigma)
        length = self._path.update(measurement.sigma, measurement.update_norm(), measurement.valid)
        valid, table = measurement.valid, self._table
        if plain is not None:
            valid, table = plain.valid, self._plain_table
            length = self._plain.update(plain.sigma, plain.update_norm(), valid)
        if hardest is not None:
            parts = self._hardest.update(measurement.sigma, hardest, valid)
            early = measurement.sigma >= self.EARLY * self._first
            self.by_part = self.by_part | (early & (parts > self.HARDER * length))
            length = torch.where(early, torch.maximum(length, parts), length)
        mean, deviation, narrow = interpolate(self._grid, table, measurement.sigma)
        self.late = self.late | ((self.measured == 0) & (measurement.sigma < self.LATE * self._first))
        excess = (length.log() - mean) / deviation
        if held and self.steps:
            last = self.steps[-1]
            length, mean, deviation, narrow, excess = last.length, last.mean, last.deviation, last.narrow, last.excess
        excess = torch.where(valid & ~self.late, excess, -torch.inf)
        self.score = torch.maximum(self.score, excess)
        self.reach = torch.maximum(self.reach, excess * deviation / narrow)
        self.measured = self.measured + valid
        self.broken = self.broken | ~measurement.finite
        step = Step(measurement.sigma, length, mean, deviation, narrow, excess)
        self.steps.append(step)
        return step

    def judge(self, bounds: Tensor | None = None) -> Tensor:
        """Who is outside at the evaluation just taken, bool [B]; it is counted, so ask once.

        `bounds` [B], where they are numbers, take the place of the threshold. Where a part of the prompt was judged by,
        lower ones hold for the largest excess so far, as that part counts at the beginning only. So does the path
        against no prompt where there is a negative one; but ordinary prompts go far out there as well, so that only the
        bounds of what is clearly like its second look do.
        """
        excess = self.steps[-1].excess
        threshold = torch.full_like(excess, self.threshold)
        bound = threshold if bounds is None else torch.where(bounds.isnan(), threshold, bounds)
        self._bounds.append(bound)
        lower = bound < torch.where(self.by_part, threshold, self._clearly)
        outside = torch.where(lower, self.score, excess) > bound
        now = float(len(self.steps) - 1)
        self.first_outside = torch.where(outside & (self.outside_count == 0), now, self.first_outside)
        self.outside_count = self.outside_count + outside
        return outside

    def spare(self) -> None:
        """In place of `judge`, where it is known that nobody is outside."""
        self._bounds.append(torch.full_like(self.steps[-1].excess, self.threshold))

    def against_no_prompt(self, plain: Measurement) -> Step:
        """Where the path against no prompt stands after this evaluation, which judges no image."""
        length = self._plain.update(plain.sigma, plain.update_norm(), plain.valid)
        mean, deviation, narrow = interpolate(self._grid, self._plain_table, plain.sigma)
        return Step(plain.sigma, length, mean, deviation, narrow, (length.log() - mean) / deviation)

    def trace(self) -> Tensor:
        """Sigma, path length, low and high bound at every evaluation: [B, 4, evaluations].

        The high one is what the image was held against; the low one, which judges nobody, is the region's own.
        """
        rows = []
        for step, bound in zip(self.steps, self._bounds, strict=True):
            low, high = step.mean - self.threshold * step.deviation, step.mean + bound * step.deviation
            rows.append(torch.stack([step.sigma, step.length, low.exp(), high.exp()]))
        return torch.stack(rows).permute(2, 1, 0)
