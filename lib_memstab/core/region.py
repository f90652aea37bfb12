"""The stability region: where ordinary trajectories of a checkpoint stay, over noise level, and how sure that is.

The region is learned from the log path length (`measurement.PathLength`) of ordinary trajectories on a fixed grid of
noise levels. A trajectory's score is its largest standardised excess over the region's centre; the chance that an
ordinary trajectory scores as high anywhere on its way is estimated from the calibration trajectories themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]

GRID = np.linspace(math.log(0.03), math.log(15.0), 40)
"""Log noise levels of every region: the range of SD's schedule."""

MIN_TRAJECTORIES = 8
"""Fewer trajectories than this make no region: their bounds would not be honest."""

_TAIL_SHARE = 0.25


class RegionError(ValueError):
    """A region that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Region:
    """Centre and spread of ordinary log path lengths over log noise level, with the scores of its own trajectories.

    Attributes:
        log_sigma: grid [K], rising.
        mean: mean log path length [K].
        deviation: standard deviation of log path length [K], above zero.
        peaks: score [N] of each calibration trajectory against the region of the others (leave one out), rising.
    """

    log_sigma: FloatArray
    mean: FloatArray
    deviation: FloatArray
    peaks: FloatArray

    def __post_init__(self) -> None:
        sizes = {len(self.log_sigma), len(self.mean), len(self.deviation)}
        if len(sizes) != 1 or self.count < MIN_TRAJECTORIES:
            raise RegionError(
                f"a region needs one mean and deviation per noise level and {MIN_TRAJECTORIES} trajectories"
            )
        numbers = np.concatenate([self.log_sigma, self.mean, self.deviation, self.peaks])
        if not np.isfinite(numbers).all() or (self.deviation <= 0).any():
            raise RegionError("a region needs finite numbers and deviations above zero; calibrate again")
        if (np.diff(self.log_sigma) <= 0).any() or (np.diff(self.peaks) < 0).any():
            raise RegionError("a region needs rising noise levels and rising peaks; calibrate again")

    @property
    def count(self) -> int:
        """Calibration trajectories."""
        return len(self.peaks)

    @cached_property
    def _tail(self) -> tuple[float, float, int]:
        """Where the tail begins, its mean excess, and how many peaks it holds."""
        size = max(4, round(self.count * _TAIL_SHARE))
        start = float(self.peaks[-size - 1])
        return start, max(float((self.peaks[-size:] - start).mean()), 1e-6), size

    def p_value(self, score: FloatArray | float) -> FloatArray:
        """Chance that an ordinary trajectory scores at least this high anywhere on its way; array in, array out.

        Ranks among the calibration peaks in the body; above their upper quartile the predictive distribution of an
        exponential tail under Jeffreys' prior, (1 + x / (k m))^-k for k peaks of mean excess m: heavier the fewer they
        are, so that the rate is not understated by a small calibration.
        """
        value = np.asarray(score, dtype=np.float64)
        start, excess, size = self._tail
        share = (size + 1) / (self.count + 1)
        above = share * (1 + np.maximum(value - start, 0) / (size * excess)) ** -float(size)
        ranks = (self.count + 1 - np.arange(1, self.count + 1)) / (self.count + 1)
        body = np.interp(value, self.peaks, ranks, left=1.0)
        return np.where(value > start, above, np.maximum(body, share))

    def threshold(self, sensitivity: float) -> float:
        """Score that about one ordinary trajectory in `sensitivity` reaches.

        Raises:
            RegionError: if `sensitivity` is not above 1.
        """
        if not sensitivity > 1:
            raise RegionError(
                f"sensitivity is 'about one false alarm in N ordinary images': N must be above 1, not {sensitivity}"
            )
        rate = 1 / sensitivity
        start, excess, size = self._tail
        share = (size + 1) / (self.count + 1)
        if rate < share:
            return start + size * excess * ((share / rate) ** (1 / size) - 1)
        ranks = (self.count + 1 - np.arange(1, self.count + 1)) / (self.count + 1)
        return float(np.interp(-rate, -ranks, self.peaks))

    def bounds(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the log path length at noise levels [B], on their device; flat outside the grid."""
        grid = torch.as_tensor(self.log_sigma, dtype=torch.float32, device=sigma.device)
        table = torch.as_tensor(np.stack([self.mean, self.deviation]), dtype=torch.float32, device=sigma.device)
        return interpolate(grid, table, sigma)


def interpolate(grid: Tensor, table: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of `table` [2, K] at noise levels [B], linear in log sigma over `grid` [K], flat outside it."""
    place = sigma.float().clamp(min=1e-8).log().clamp(grid[0], grid[-1])
    high = torch.searchsorted(grid, place.contiguous()).clamp(1, len(grid) - 1)
    share = (place - grid[high - 1]) / (grid[high] - grid[high - 1])
    mean, deviation = torch.lerp(table[:, high - 1], table[:, high], share)
    return mean, deviation


def on_grid(sigma: FloatArray, log_length: FloatArray) -> FloatArray:
    """One trajectory's log path lengths [steps] at noise levels [steps], brought to the grid [K].

    NaN where the trajectory did not come: above its first and below its last noise level (half a grid step of slack).
    """
    order = np.argsort(np.log(sigma), kind="stable")
    place, value = np.log(sigma)[order], log_length[order]
    slack = (GRID[1] - GRID[0]) / 2
    inside = (place[0] - slack <= GRID) & (place[-1] + slack >= GRID)
    return np.where(inside, np.interp(GRID, place, value), np.nan)


def learn(curves: FloatArray) -> Region:
    """The region of ordinary trajectories, `curves` [N, K] as `on_grid` gives them (NaN where one did not come).

    Raises:
        RegionError: for fewer than 8 trajectories, or where they do not overlap.
    """
    finite = np.isfinite(curves)
    if len(curves) < MIN_TRAJECTORIES:
        raise RegionError(
            f"{len(curves)} trajectories are too few for a region: calibrate with at least {MIN_TRAJECTORIES}"
        )
    enough = finite.sum(axis=0) >= MIN_TRAJECTORIES
    if enough.sum() < 2:
        raise RegionError("the calibration trajectories share no noise levels: calibrate with one sampler and size")
    curves, finite = curves[:, enough], finite[:, enough]
    count = finite.sum(axis=0)
    total = np.where(finite, curves, 0.0).sum(axis=0)
    mean = total / count
    squares = np.where(finite, (curves - mean) ** 2, 0.0).sum(axis=0)
    deviation = np.sqrt(squares / (count - 1))
    if (deviation <= 0).any():
        raise RegionError("all calibration trajectories are equal: calibrate with different prompts and seeds")
    # Leave one out, in closed form: the trajectory's own share is taken out of mean and deviation.
    gap = np.where(finite, curves - mean, 0.0)
    other_mean = mean - gap / (count - 1)
    other_squares = np.maximum(squares - gap**2 * count / (count - 1), 1e-12)
    excess = (curves - other_mean) / np.sqrt(other_squares / (count - 2))
    peaks = np.sort(np.nanmax(np.where(finite, excess, np.nan), axis=1))
    return Region(GRID[enough], mean, deviation, peaks)
