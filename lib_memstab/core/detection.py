"""The sequential score of a batch of trajectories, kept on their device: how far outside, since when, for how long."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lib_memstab.core.measurement import Measurement, PathLength
from lib_memstab.core.region import Region, interpolate


class Detector:
    """Scores each image of a batch at every evaluation against a region; all state is float32 or bool [B] on device.

    Attributes:
        score: largest standardised excess so far; minus infinity before the first valid evaluation.
        measured: evaluations that allowed a measurement.
        outside_count: evaluations at which the image was outside.
        first_outside: index of the first of these among all evaluations, -1 while there is none.
        broken: an evaluation held values that are not finite.
    """

    def __init__(self, region: Region, threshold: float) -> None:
        self.region, self.threshold = region, threshold
        self.evaluations = 0
        self.trace: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._path = PathLength()

    def _begin(self, like: Tensor) -> None:
        self._grid = torch.as_tensor(self.region.log_sigma, dtype=torch.float32).to(like.device)
        self._table = torch.as_tensor(np.stack([self.region.mean, self.region.deviation]), dtype=torch.float32).to(like.device)
        self.score = torch.full_like(like, -torch.inf)
        self.measured, self.outside_count = torch.zeros_like(like), torch.zeros_like(like)
        self.first_outside = torch.full_like(like, -1)
        self.broken = torch.zeros_like(like, dtype=torch.bool)

    def update(self, measurement: Measurement) -> Tensor:
        """Take one evaluation; the standardised excess now [B], minus infinity where nothing could be measured."""
        if self.evaluations == 0:
            self._begin(measurement.sigma)
        length = self._path.update(measurement.sigma, measurement.update_norm(), measurement.valid)
        mean, deviation = interpolate(self._grid, self._table, measurement.sigma)
        excess = torch.where(measurement.valid, (length.log() - mean) / deviation, -torch.inf)
        outside = excess > self.threshold
        self.score = torch.maximum(self.score, excess)
        self.measured = self.measured + measurement.valid
        self.broken = self.broken | ~measurement.finite
        self.first_outside = torch.where(outside & (self.outside_count == 0), float(self.evaluations), self.first_outside)
        self.outside_count = self.outside_count + outside
        width = self.threshold * deviation
        self.trace.append((measurement.sigma, length, (mean - width).exp(), (mean + width).exp()))
        self.evaluations += 1
        return excess
