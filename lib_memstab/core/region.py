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

REPLAY = 6.0
"""Robust deviations above the others at which a calibration trajectory is no ordinary one."""

_TAIL_SHARE = 0.25


class RegionError(ValueError):
    """A region that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Band:
    """Centre and spread at one guidance scale: mean and deviation of the log path length over the grid, [K]."""

    guidance: float
    mean: FloatArray
    deviation: FloatArray


@dataclass(frozen=True)
class Region:
    """Centre and spread of ordinary log path lengths over log noise level, with the scores of its own trajectories.

    Attributes:
        log_sigma: grid [K], rising.
        bands: one for each guidance scale that was calibrated, rising.
        peaks: score [N] of each calibration trajectory against the others of its guidance (leave one out), rising.
    """

    log_sigma: FloatArray
    bands: tuple[Band, ...]
    peaks: FloatArray

    def __post_init__(self) -> None:
        sizes = {len(self.log_sigma), *(len(row) for band in self.bands for row in (band.mean, band.deviation))}
        if len(sizes) != 1 or not self.bands or self.count < MIN_TRAJECTORIES:
            raise RegionError(f"a region has a mean and deviation per noise level and {MIN_TRAJECTORIES} trajectories")
        rows = [row for band in self.bands for row in (band.mean, band.deviation, np.array([band.guidance]))]
        deviations = np.concatenate([band.deviation for band in self.bands])
        if not np.isfinite(np.concatenate([self.log_sigma, *rows, self.peaks])).all() or (deviations <= 0).any():
            raise RegionError("a region needs finite numbers and deviations above zero; calibrate again")
        if self.bands[0].guidance < 1:
            raise RegionError("a region's guidance scales are 1 or more; calibrate again")
        rising = (self.log_sigma, np.array([band.guidance for band in self.bands]))
        if any((np.diff(row) <= 0).any() for row in rising) or (np.diff(self.peaks) < 0).any():
            raise RegionError("a region needs rising noise levels, guidance scales and peaks; calibrate again")

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

    def table(self, guidance: float) -> FloatArray:
        """Mean and deviation over the grid, [2, K], between the bands next to this guidance, linear in its log."""
        places = np.log([max(band.guidance, 1.0) for band in self.bands])
        stacked = np.stack([np.stack([band.mean, band.deviation]) for band in self.bands])
        place = np.clip(math.log(max(guidance, 1.0)), places[0], places[-1])
        high = int(np.clip(np.searchsorted(places, place), min(1, len(places) - 1), len(places) - 1))
        low = max(high - 1, 0)
        share = 0.0 if high == low else (place - places[low]) / (places[high] - places[low])
        between: FloatArray = stacked[low] + share * (stacked[high] - stacked[low])
        return between


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


def learn(curves: FloatArray, guidance: FloatArray | None = None) -> Region:
    """The region of ordinary trajectories, `curves` [N, K] as `on_grid` gives them (NaN where one did not come).

    `guidance` [N] are the scales they were sampled with, 7.5 if not given; each scale gets a band of its own. A
    trajectory more than `REPLAY` robust deviations above the others of its band is taken for a replay that was among
    the prompts, and left out.

    Raises:
        RegionError: for fewer than 8 trajectories at a scale, or where they do not overlap.
    """
    scales = np.full(len(curves), 7.5) if guidance is None else np.asarray(guidance, dtype=np.float64)
    values = np.unique(scales)
    if len(curves) < MIN_TRAJECTORIES * max(1, len(values)):
        raise RegionError(f"{len(curves)} trajectories make no region: calibrate with at least {MIN_TRAJECTORIES}")
    enough = np.all([np.isfinite(curves[scales == value]).sum(axis=0) >= MIN_TRAJECTORIES for value in values], axis=0)
    if enough.sum() < 2:
        raise RegionError("the calibration trajectories share no noise levels: calibrate with one sampler and size")
    bands, peaks = [], []
    for value in values:
        mean, deviation, own = _fit(_without_replays(curves[scales == value][:, enough]))
        bands.append(Band(float(value), mean, deviation))
        peaks.append(own)
    return Region(GRID[enough], tuple(bands), np.sort(np.concatenate(peaks)))


def _without_replays(curves: FloatArray) -> FloatArray:
    """The curves that stay below `REPLAY` robust deviations (median, and absolute deviation from it) everywhere."""
    gap = curves - np.nanmedian(curves, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(gap), axis=0)
    low = np.nanmax(gap / np.maximum(spread, 1e-12), axis=1) <= REPLAY
    return curves[low] if low.sum() >= MIN_TRAJECTORIES else curves


def _fit(curves: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean and deviation [K] of curves [N, K], and each curve's peak [N] against the others (leave one out)."""
    finite = np.isfinite(curves)
    count = finite.sum(axis=0)
    mean = np.where(finite, curves, 0.0).sum(axis=0) / count
    gap = np.where(finite, curves - mean, 0.0)
    squares = (gap**2).sum(axis=0)
    deviation = np.sqrt(squares / (count - 1))
    if (deviation <= 0).any():
        raise RegionError("all calibration trajectories are equal: calibrate with different prompts and seeds")
    # Leave one out in closed form: the curve's own share is taken out of mean and deviation.
    others = np.maximum(squares - gap**2 * count / (count - 1), 1e-12) / (count - 2)
    excess = gap * count / (count - 1) / np.sqrt(others)
    return mean, deviation, np.where(finite, excess, -np.inf).max(axis=1)
