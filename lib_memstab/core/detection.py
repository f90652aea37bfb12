"""The sequential score of a batch of trajectories, kept on their device: how far outside, since when, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lib_memstab.core.measurement import Measurement, PathLength
from lib_memstab.core.region import Region, at_start, interpolate


@dataclass(frozen=True)
class Step:
    """One evaluation against the region, all [B]: sigma, path length, mean and deviation of its log, excess.

    The excess is in deviations above the mean, minus infinity where nothing could be measured.
    """

    sigma: Tensor
    length: Tensor
    mean: Tensor
    deviation: Tensor
    excess: Tensor


class Detector:
    """Scores each image of a batch at every evaluation against a region; all state is float32 or bool [B] on device.

    Attributes:
        score: largest standardised excess so far; minus infinity before the first valid evaluation.
        measured: evaluations that allowed a measurement.
        outside_count: evaluations at which the image was outside.
        first_outside: index of the first of these among all evaluations, -1 while there is none.
        broken: an evaluation held values that are not finite.
        late: nothing could be measured above `LATE` of the first noise level: a path whose beginning is unknown cannot
            be held against the region, and scores nothing.
        steps: what `update` returned, evaluation by evaluation.
    """

    LATE: ClassVar[float] = 0.6
    EARLY: ClassVar[float] = 0.7

    def __init__(self, region: Region, threshold: float, guidance: float, negative: bool = False) -> None:
        self.region, self.threshold = region, threshold
        self._log_starts, self._tables = region.tables(guidance, negative)
        self.steps: list[Step] = []
        self._path, self._hardest = PathLength(), PathLength()

    def _begin(self, like: Tensor) -> None:
        self._grid = torch.as_tensor(self.region.log_sigma, dtype=torch.float32).to(like.device)
        starts = torch.as_tensor(self._log_starts, dtype=torch.float32).to(like.device)
        self._table = at_start(starts, torch.as_tensor(self._tables, dtype=torch.float32).to(like.device), like)
        self.score = torch.full_like(like, -torch.inf)
        self.measured, self.outside_count = torch.zeros_like(like), torch.zeros_like(like)
        self.first_outside = torch.full_like(like, -1)
        self.broken, self.late = (torch.zeros_like(like, dtype=torch.bool) for _ in range(2))
        self._first = like

    def update(self, measurement: Measurement, hardest: Tensor | None = None) -> Step:
        """Take one evaluation of the batch.

        `hardest` [B]: where a prompt has several parts, the update norm of the one that pulls hardest. Its path counts
        where it is longer, down to `EARLY` of the first noise level; below that every part pulls hard, at a picture
        that the others made.
        """
        if not self.steps:
            self._begin(measurement.sigma)
        length = self._path.update(measurement.sigma, measurement.update_norm(), measurement.valid)
        if hardest is not None:
            parts = self._hardest.update(measurement.sigma, hardest, measurement.valid)
            early = measurement.sigma >= self.EARLY * self._first
            length = torch.where(early, torch.maximum(length, parts), length)
        mean, deviation = interpolate(self._grid, self._table, measurement.sigma)
        self.late = self.late | ((self.measured == 0) & (measurement.sigma < self.LATE * self._first))
        excess = torch.where(measurement.valid & ~self.late, (length.log() - mean) / deviation, -torch.inf)
        outside = excess > self.threshold
        self.score = torch.maximum(self.score, excess)
        self.measured = self.measured + measurement.valid
        self.broken = self.broken | ~measurement.finite
        self.first_outside = torch.where(
            outside & (self.outside_count == 0), float(len(self.steps)), self.first_outside
        )
        self.outside_count = self.outside_count + outside
        step = Step(measurement.sigma, length, mean, deviation, excess)
        self.steps.append(step)
        return step

    def trace(self) -> Tensor:
        """Sigma, path length, and the region's low and high bound at every evaluation: [B, 4, evaluations]."""
        rows = []
        for step in self.steps:
            width = self.threshold * step.deviation
            rows.append(torch.stack([step.sigma, step.length, (step.mean - width).exp(), (step.mean + width).exp()]))
        return torch.stack(rows).permute(2, 1, 0)
