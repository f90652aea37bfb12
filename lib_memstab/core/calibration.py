"""From ordinary trajectories to a region: what a calibration measures on its way."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib_memstab.core.learning import on_grid
from lib_memstab.core.measurement import Measurement, PathLength
from lib_memstab.core.region import FloatArray


class Recorder:
    """Keeps the path lengths of one batch of trajectories; touches nothing, waits for no device before the end."""

    def __init__(self) -> None:
        self._path = PathLength()
        self._curve: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, measurement: Measurement) -> None:
        """Take one evaluation of the batch."""
        length = self._path.update(measurement.sigma, measurement.update_norm(), measurement.valid)
        self._curve.append((measurement.sigma, length, measurement.valid))

    def whole(self) -> NDArray[np.bool_]:
        """Whether every evaluation of an image could be measured, [B]."""
        return torch.stack([valid for _, _, valid in self._curve]).all(0).cpu().numpy()

    def curves(self) -> tuple[FloatArray, FloatArray]:
        """Log path lengths of the batch on the region's grid, [B, K], and the noise levels it began at, [B].

        Evaluations that could not be measured are left out; an image without any has a curve of NaN.
        """
        sigma, length, valid = (torch.stack(column).cpu().double().numpy() for column in zip(*self._curve, strict=True))
        rows = []
        for image in range(sigma.shape[1]):
            there = valid[:, image] > 0
            if there.any():
                rows.append(on_grid(sigma[there, image], np.log(length[there, image])))
            else:
                rows.append(np.full_like(on_grid(np.ones(1), np.zeros(1)), np.nan))
        return np.stack(rows), sigma[0]
