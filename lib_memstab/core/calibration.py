"""From ordinary trajectories to a region: paths are recorded, replays left out, the spreads of bands pooled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib_memstab.core.measurement import Measurement, PathLength
from lib_memstab.core.region import (
    GRID,
    MIN_TRAJECTORIES,
    MOST_ALIKE,
    Band,
    Conditions,
    FloatArray,
    Likeness,
    Region,
    RegionError,
    widened,
)

REPLAY = 4.0
"""Robust deviations above the others of its band at which a trajectory is no ordinary one."""

_LEAST_DEVIATION = 0.05
"""Of the inverse hyperbolic tangent of a likeness."""

OUTSPOKEN = 100
"""Trajectories from which on bands may contradict what all of them say together: smaller ones, of the mixed prompts of
a calibration by default, tell too wide a spread."""

_ROUNDS = 8
"""Most times that replays are looked for: with each one gone, the others' spread is better known."""

_GROWTH, _MOST_BENT = 1.2, 1 / 3
"""How many times as wide as at an earlier level curves may be spread, replays aside: a path is a mean over its way, and
those over a longer way differ less. Prompts with a word or two of a memorized title bend away from the others instead,
the later the farther; where they are many, the spread by itself would find nothing odd about them. Where more than this
share bends away, that is what ordinary curves do."""


class Recorder:
    """Keeps the path lengths of one batch of trajectories; touches nothing, waits for no device before the end."""

    def __init__(self) -> None:
        self._path = PathLength()
        self._curve: list[tuple[Tensor, Tensor, Tensor]] = []
        self._first: Tensor | None = None

    def update(self, measurement: Measurement) -> None:
        """Take one evaluation of the batch."""
        norm = measurement.update_norm()
        if self._first is None:
            self._first = measurement.delta.sqrt()
        length = self._path.update(measurement.sigma, norm, measurement.valid)
        self._curve.append((measurement.sigma, length, measurement.valid))

    def response(self) -> FloatArray:
        """Guidance magnitudes at the first evaluation, [B]: how much a prompt moves the model (Wen et al. 2024)."""
        assert self._first is not None
        return self._first.double().cpu().numpy()

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


def on_grid(sigma: FloatArray, log_length: FloatArray) -> FloatArray:
    """One trajectory's log path lengths [steps] at noise levels [steps], brought to the grid [K].

    NaN where the trajectory did not come: above its first and below its last noise level (half a grid step of slack).
    """
    order = np.argsort(np.log(sigma), kind="stable")
    place, value = np.log(sigma)[order], log_length[order]
    slack = (GRID[1] - GRID[0]) / 2
    inside = (place[0] - slack <= GRID) & (place[-1] + slack >= GRID)
    return np.where(inside, np.interp(GRID, place, value), np.nan)


def learn(curves: FloatArray, conditions: Sequence[Conditions] | None = None, replay: float = REPLAY) -> Region:
    """The region of ordinary trajectories, `curves` [N, K] as `on_grid` gives them (NaN where one did not come).

    `conditions` says how each was sampled (default: all alike); each set of conditions gets a band of its own. A
    trajectory more than `replay` robust deviations above the others of its band is taken for a replay that was among
    the prompts, and left out. Bands have a mean each. Their deviations are upwards, of what lies above the mean: what
    pulls little, such as words that mean nothing, says nothing about how far ordinary prompts go. As few trajectories
    tell little about them, four bands and more speak together (`_pooled`), unless large ones contradict that
    (`_contradiction`). Towards the beginning of a path they are widened (`region.widening`).

    Raises:
        RegionError: for fewer than 8 trajectories in a band, or where they do not overlap.
    """
    sampled = [Conditions()] * len(curves) if conditions is None else list(conditions)
    kinds = sorted(set(sampled), key=Conditions.key)
    if len(curves) < MIN_TRAJECTORIES * max(1, len(kinds)):
        raise RegionError(f"{len(curves)} trajectories make no region: calibrate with at least {MIN_TRAJECTORIES}")
    moments = [_moments(kind, curves[np.array([one == kind for one in sampled])], replay) for kind in kinds]
    reached = np.any([own.levels for own in moments], axis=0)
    grid = GRID[reached]
    own = np.stack([np.interp(grid, GRID[one.levels], np.log(one.deviation)) for one in moments])
    counts = [len(one.gaps) for one in moments]
    pooled = _pooled(kinds, counts, own)
    share = 1.0 if pooled is None else _contradiction(kinds, counts, own - pooled)
    bands, peaks = [], []
    for one, alone, together in zip(moments, own, own if pooled is None else pooled, strict=True):
        mean, wider = np.interp(grid, GRID[one.levels], one.mean), widened(one.conditions, grid)
        deviation = wider * np.exp(together + share * (alone - together))
        bands.append(Band(one.conditions, mean, deviation, len(one.gaps)))
        # Each trajectory is held against the others alone: it has no part in their mean and deviation.
        fitted, wider = (np.interp(GRID[one.levels], grid, row) for row in (together, wider))
        scale = wider * np.exp(fitted + share * (np.log(one.deviation_of_others) - fitted))
        peaks.append(np.nanmax(one.gaps_of_others / scale, axis=1))
    return Region(grid, tuple(bands), np.sort(np.concatenate(peaks)))


def with_likeness(region: Region, conditions: Sequence[Conditions], alike: FloatArray) -> Region:
    """The region with what its bands' pictures have in common with second looks at their prompts, `alike` [N].

    `conditions` [N] are those of the region's bands. Replays were left out, and a few that were not have no weight:
    a band's mean is the median, and its deviation what the tenth that is most alike is above it, as of a normal
    distribution. Of four bands and more these speak together (`_pooled`).
    """
    own, kinds = np.arctanh(np.clip(alike, -MOST_ALIKE, MOST_ALIKE)), [band.conditions for band in region.bands]
    values = [own[np.array([one == kind for one in conditions])] for kind in kinds]
    middle, high = np.array([np.quantile(some, (0.5, 0.9)) for some in values]).T
    deviation = np.maximum((high - middle) / NormalDist().inv_cdf(0.9), _LEAST_DEVIATION)
    both = np.stack([middle, np.log(deviation)], axis=1)
    pooled = _pooled(kinds, [len(some) for some in values], both)
    found = [Likeness(mean, math.exp(spread)) for mean, spread in (both if pooled is None else pooled).tolist()]
    return replace(
        region, bands=tuple(replace(band, likeness=one) for band, one in zip(region.bands, found, strict=True))
    )


def with_likeness_of(region: Region, other: Region) -> Region:
    """The region with how alike pictures are by another one of its checkpoint, under the conditions of its own bands.

    A band whose conditions the other one knows nothing of has none.
    """
    return replace(region, bands=tuple(replace(band, likeness=_likeness_at(other, band)) for band in region.bands))


def _likeness_at(region: Region, band: Band) -> Likeness | None:
    """How alike pictures of these conditions are, by what the region's bands say."""
    at = band.conditions
    found = region.likeness(at.guidance, at.negative)
    if found is None:
        return None
    starts, tables = found
    mean, deviation = (float(np.interp(np.log(at.start), starts, column)) for column in tables[..., 0].T)
    return Likeness(mean, deviation)


@dataclass(frozen=True)
class _Moments:
    """One band's own: `levels` bool [K] where enough trajectories came, the rest on these levels [K'].

    `gaps` [N, K'] are the trajectories' distances from the mean, NaN where one did not come.
    """

    conditions: Conditions
    levels: np.ndarray
    mean: FloatArray
    deviation: FloatArray
    gaps: FloatArray
    gaps_of_others: FloatArray
    deviation_of_others: FloatArray


def _moments(conditions: Conditions, curves: FloatArray, replay: float) -> _Moments:
    levels = np.isfinite(curves).sum(axis=0) >= MIN_TRAJECTORIES
    if levels.sum() < 2:
        raise RegionError("the calibration trajectories share no noise levels: calibrate with one sampler and size")
    kept = _without_replays(curves[:, levels], replay)
    finite = np.isfinite(kept)
    count = finite.sum(axis=0)
    mean = np.where(finite, kept, 0.0).sum(axis=0) / count
    gaps = kept - mean
    deviation, of_others = _upwards(gaps)
    if (deviation <= 0).any():
        raise RegionError("all calibration trajectories are equal: calibrate with different prompts and seeds")
    return _Moments(conditions, levels, mean, deviation, gaps, gaps * count / (count - 1), of_others)


def _upwards(gaps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Deviations upwards [K], the root mean square of `gaps` [N, K] above zero; and those without each one, [N, K].

    Gaps are from the mean, and NaN where a trajectory did not come; without one of them the mean is another, too.
    """
    deviation, of_others = np.zeros(gaps.shape[1]), np.full_like(gaps, np.nan)
    for level, every in enumerate(gaps.T):
        there = np.isfinite(every)
        own = every[there]
        high = np.sort(own)[::-1]
        sums, squares = (np.concatenate([[0.0], np.cumsum(high**power)]) for power in (1, 2))
        above = int((own > 0).sum())
        deviation[level] = np.sqrt(squares[above] / max(above, 1))
        mean = -own / (len(own) - 1)
        reach, itself = len(own) - np.searchsorted(high[::-1], mean, side="right"), own > 0
        square = squares[reach] - 2 * mean * sums[reach] + mean**2 * reach - np.where(itself, (own - mean) ** 2, 0.0)
        of_others[there, level] = np.sqrt(np.maximum(square, 1e-12) / np.maximum(reach - itself, 1))
    return deviation, of_others


def _without_replays(curves: FloatArray, replay: float) -> FloatArray:
    """The curves that stay below `replay` robust deviations of each other; of n curves 1 + 2 / n times as many.

    Deviations may grow by `_GROWTH` from high noise levels to low ones, but if more than `_MOST_BENT` of the curves
    then were replays, as they do.
    """
    kept = _low(curves, replay, _GROWTH)
    return curves[kept if kept.mean() >= 1 - _MOST_BENT else _low(curves, replay, math.inf)]


def _low(curves: FloatArray, replay: float, growth: float) -> NDArray[np.bool_]:
    """Which curves are not far above the others, see `_without_replays`.

    Robust: from the median, by the absolute deviation from it. Few curves know that badly level by level, so half of it
    (geometrically) is the plain deviation's share of the level, scaled to the absolute ones of all levels.
    """
    kept = np.ones(len(curves), dtype=bool)
    for _ in range(_ROUNDS):
        gaps = curves - np.nanmedian(curves[kept], axis=0)
        plain = np.maximum(np.sqrt(np.nanmean(gaps[kept] ** 2, axis=0)), 1e-12)
        ratio = 1.4826 * np.nanmedian(np.abs(gaps[kept]), axis=0) / plain
        spread = np.maximum(plain * np.sqrt(ratio * np.nanmedian(ratio)), 1e-12)
        spread = np.minimum(spread, growth * np.minimum.accumulate(spread[::-1])[::-1])
        low = np.nanmax(gaps / spread, axis=1) <= replay * (1 + 2 / len(curves))
        if low.sum() < MIN_TRAJECTORIES or (low == kept).all():
            break
        kept = low
    return kept


def _features(kinds: Sequence[Conditions]) -> FloatArray | None:
    """What bands differ in, [bands, F]: log guidance, log start and negative prompt; None with too few bands for it."""
    columns = [np.log([kind.guidance for kind in kinds]), np.log([kind.start for kind in kinds])]
    features = [np.ones(len(kinds)), *(column for column in columns if np.ptp(column) >= np.log(2))]
    if len({kind.negative for kind in kinds}) == 2:
        features.append(np.array([float(kind.negative) for kind in kinds]))
    return None if len(kinds) < len(features) + 2 else np.stack(features, axis=1)


def _pooled(kinds: Sequence[Conditions], counts: Sequence[int], own: FloatArray) -> FloatArray | None:
    """What all bands say together, such as log deviations, [bands, K]; `own` [bands, K]: what each says by itself.

    A linear fit over what they differ in, weighted by `counts`. What one band says hangs on a few trajectories; the
    fit, on all. None with too few bands.
    """
    features = _features(kinds)
    if features is None:
        return None
    root = np.sqrt(np.array(counts, dtype=np.float64))[:, None]
    return features @ np.linalg.lstsq(features * root, own * root, rcond=None)[0]


def _contradiction(kinds: Sequence[Conditions], counts: Sequence[int], gaps: FloatArray) -> float:
    """How far bands' log deviations are to be trusted against the fit that they are `gaps` [bands, K] away from, 0..1.

    The share of the gaps' variance that chance does not explain (empirical Bayes, Efron and Morris 1973): a log
    deviation of n, upwards, has a variance of about 1 / n. None of it where a band has fewer than `OUTSPOKEN`
    trajectories.
    """
    features = _features(kinds)
    assert features is not None
    if min(counts) < OUTSPOKEN:
        return 0.0
    bands, fitted = features.shape
    chance = float(np.mean([1 / count for count in counts]))
    variance = float(np.mean(gaps**2)) * bands / (bands - fitted)
    return max(0.0, 1 - chance / max(variance, chance))
