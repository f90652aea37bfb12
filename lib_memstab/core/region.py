"""The stability region: where ordinary trajectories of a checkpoint stay, over noise level, and how sure that is.

The region is learned from the log path length (`measurement.PathLength`) of ordinary trajectories on a fixed grid of
noise levels. A trajectory's score is its largest standardised excess over the region's centre; the chance that an
ordinary trajectory scores as high anywhere on its way is estimated from the calibration trajectories themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib_memstab.core.measurement import PathLength
from lib_memstab.core.plain import added

FloatArray = NDArray[np.float64]
Values = TypeVar("Values", FloatArray, Tensor)

GRID = np.linspace(math.log(0.03), math.log(15.0), 40)
"""Log noise levels of every region: the range of SD's schedule."""

MIN_TRAJECTORIES = 8
"""Fewer trajectories than this make no region: their bounds would not be honest."""

MOST_ALIKE = 0.995
"""Likeness beyond which more of it says nothing."""

LEAST_DEVIATION = 0.001
"""Of a likeness: less than float32 tells apart in it would not judge but fail."""

WIDENING = 1 / 4
"""How bounds widen towards a path's beginning: with the share of the way that is known to the power of minus this much
(Wang and Tsiatis 1987, with a Delta of 1/4, between one bound for all looks and O'Brien and Fleming's). Prompts differ
most at the first evaluations, and a bound for the whole path would have to be theirs; replays pull on."""

_TAIL_SHARE, _TAIL_FEWEST = 0.1, 8
"""Share of the calibration peaks that the tail is read from, and fewest of them (a quarter at most)."""

_HEAVIEST, _FEW = 1.25, 16
"""Largest mean excess of a tail, in those of a normal distribution of the same median that has as much of it there;
1 + `_FEW` / n times as much with n trajectories, of which few know badly how far the rest is spread.

A calibration's prompts may be such as recall a training picture in part, words of a memorized title among them: no
replay, so that nobody leaves them out, and yet far beyond all others. A handful of these makes a tail that hides
replays.
"""


class RegionError(ValueError):
    """A region that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Conditions:
    """What a band depends on: what moves ordinary path lengths although nothing is replayed.

    Attributes:
        guidance: guidance scale, 1 or more.
        start: noise level of the first evaluation; img2img and hires passes start below the schedule's highest.
        negative: whether there is a negative prompt.
    """

    guidance: float = 7.5
    start: float = 15.0
    negative: bool = False

    def key(self) -> tuple[bool, float, float]:
        """The order in which a region keeps its bands."""
        return self.negative, self.start, self.guidance


def widening(left: Values) -> Values:
    """How many times as wide as its deviation a region is taken where noise is `left` of a path's first level, 0..1.

    1 at the end of the path, and 1.4 at its beginning. What is known of the way is what a `PathLength` has of it.
    """
    return (1 - (1 - PathLength.AHEAD) * left**0.5) ** -WIDENING


def widened(conditions: Conditions, log_sigma: FloatArray) -> FloatArray:
    """The same at these log noise levels [K], of paths that begin where these conditions say."""
    return widening(np.minimum(np.exp(log_sigma) / conditions.start, 1.0))


@dataclass(frozen=True)
class Likeness:
    """How much two pictures of one ordinary prompt are alike in their details (`second_look.likeness`).

    Centre, and deviation upwards, of the likeness's inverse hyperbolic tangent (Fisher 1915),
    no further from zero than that of `MOST_ALIKE`.
    """

    mean: float
    deviation: float

    def __post_init__(self) -> None:
        if not (abs(self.mean) <= math.atanh(MOST_ALIKE) and LEAST_DEVIATION <= self.deviation < math.inf):
            raise RegionError(
                f"a likeness has a mean from -3 to 3 and a deviation of {LEAST_DEVIATION} or more; calibrate again"
            )


@dataclass(frozen=True)
class Band:
    """Centre and spread under one set of conditions: mean and deviation of the log path length over the grid, [K].

    The deviation is upwards, of what lies above the mean, and `widened`.
    `count`: trajectories it was learned from; None where an earlier file does not say. `likeness`: of these pictures to
    a second look's; None in a file of earlier days, and where nobody looked.
    """

    conditions: Conditions
    mean: FloatArray
    deviation: FloatArray
    count: int | None = added(None)
    likeness: Likeness | None = added(None)


@dataclass(frozen=True)
class Region:
    """Centre and spread of ordinary log path lengths over log noise level, with the scores of its own trajectories.

    Attributes:
        log_sigma: grid [K], rising.
        bands: one for each set of conditions that was calibrated, rising by `Conditions.key`.
        peaks: score [N] of each calibration trajectory against the others of its band (leave one out), rising.
    """

    log_sigma: FloatArray
    bands: tuple[Band, ...]
    peaks: FloatArray

    def __post_init__(self) -> None:
        sizes = {len(self.log_sigma), *(len(row) for band in self.bands for row in (band.mean, band.deviation))}
        if len(sizes) != 1 or not self.bands or self.count < MIN_TRAJECTORIES:
            raise RegionError(f"a region has a mean and deviation per noise level and {MIN_TRAJECTORIES} trajectories")
        levels = [number for band in self.bands for number in (band.conditions.guidance, band.conditions.start)]
        curves = [row for band in self.bands for row in (band.mean, band.deviation)]
        deviations = np.concatenate([band.deviation for band in self.bands])
        if not np.isfinite(np.concatenate([self.log_sigma, *curves, np.array(levels), self.peaks])).all():
            raise RegionError("a region needs finite numbers; calibrate again")
        if (deviations <= 0).any():
            raise RegionError("a region needs deviations above zero; calibrate again")
        if any(band.conditions.guidance < 1 or band.conditions.start <= 0 for band in self.bands):
            raise RegionError("a band's guidance is 1 or more and its start above zero; calibrate again")
        keys = [band.conditions.key() for band in self.bands]
        if sorted(set(keys)) != keys or (np.diff(self.log_sigma) <= 0).any() or (np.diff(self.peaks) < 0).any():
            raise RegionError("a region needs rising noise levels, bands and peaks; calibrate again")
        counts = [band.count for band in self.bands]
        known = [count for count in counts if count is not None]
        if known and (known != counts or min(known) < MIN_TRAJECTORIES or sum(known) != self.count):
            raise RegionError(
                f"bands have counts of {MIN_TRAJECTORIES} or more that add up to the peaks, or none has a count; "
                "calibrate again"
            )

    @property
    def count(self) -> int:
        """Calibration trajectories."""
        return len(self.peaks)

    @property
    def supported(self) -> int:
        """The largest sensitivity N of the series 1, 2, 5, 10, 20, 50, ... that the region's own trajectories bear out.

        Among so many, one or more are expected to reach the bound for 1 in N. For a larger N the bound lies where no
        trajectory need have been, and rests on the model of the tail alone.
        """
        power = 10 ** (len(str(self.count + 1)) - 1)
        return next(step for step in (5 * power, 2 * power, power) if step <= self.count + 1)

    @cached_property
    def _tail(self) -> tuple[float, float, int]:
        """Where the tail begins, its mean excess, and how many peaks it holds."""
        size = max(round(self.count * _TAIL_SHARE), min(_TAIL_FEWEST, round(self.count / 4)), 2)
        start = float(self.peaks[-size - 1])
        share, normal = (size + 1) / (self.count + 1), NormalDist()
        place = normal.inv_cdf(1 - share)
        excess = float((self.peaks[-size:] - start).mean())
        usual = (start - float(np.median(self.peaks))) * (normal.pdf(place) / share / place - 1)
        if usual > 0:
            excess = min(excess, _HEAVIEST * (1 + _FEW / self.count) * usual)
        return start, max(excess, 1e-6), size

    def p_value(self, score: FloatArray | float) -> FloatArray:
        """Chance that an ordinary trajectory scores at least this high anywhere on its way; array in, array out.

        Ranks among the calibration peaks in the body; above their last tenth the predictive distribution of an
        exponential tail under Jeffreys' prior, (1 + x / (k m))^-k for k peaks of mean excess m: heavier the fewer they
        are, so that the rate is not understated by a small calibration. m is not much larger than the body of the
        peaks lets expect (`_HEAVIEST`).
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

    def covers(self, negative: bool) -> bool:
        """Whether there is a band with, or without, a negative prompt."""
        return any(band.conditions.negative == negative for band in self.bands)

    def looks_twice(self, negative: bool) -> bool:
        """Whether suspicious images with, or without, a negative prompt get a second look."""
        return any(band.likeness is not None for band in self._bands(negative))

    def tables(self, guidance: float, negative: bool = False) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation at one guidance scale for every start: log starts [S], rising, and tables [S, 2, K].

        Between the two bands next to it in log guidance; beyond the first or last, that band's. Where no band was
        calibrated with (or without) a negative prompt, the others stand in.
        """
        rows = [(band.conditions, np.stack([band.mean, band.deviation])) for band in self._bands(negative)]
        return _tables(rows, guidance)

    def likeness(self, guidance: float, negative: bool = False) -> tuple[FloatArray, FloatArray] | None:
        """The same of how much ordinary pictures are like their second looks: log starts [S], tables [S, 2, 1].

        None where bands do not say.
        """
        rows = [
            (band.conditions, np.array([[band.likeness.mean], [band.likeness.deviation]]))
            for band in self._bands(negative)
            if band.likeness is not None
        ]
        return _tables(rows, guidance) if rows else None

    def _bands(self, negative: bool) -> list[Band]:
        """Those with, or without, a negative prompt; all, where there are none of these."""
        return [band for band in self.bands if band.conditions.negative == negative] or list(self.bands)


def _tables(rows: Sequence[tuple[Conditions, FloatArray]], guidance: float) -> tuple[FloatArray, FloatArray]:
    """Log starts [S], rising, and for each the table [...] of bands at one guidance scale, [S, ...]."""
    starts = sorted({conditions.start for conditions, _ in rows})
    place, tables = math.log(max(guidance, 1.0)), []
    for start in starts:
        own = [(conditions.guidance, table) for conditions, table in rows if conditions.start == start]
        low, share = _between(np.log([scale for scale, _ in own]), place)
        first, second = own[low][1], own[min(low + 1, len(own) - 1)][1]
        tables.append(first + share * (second - first))
    return np.log(starts), np.stack(tables)


def _between(places: FloatArray, place: float) -> tuple[int, float]:
    """The last of the rising `places` at or below `place`, and how far it is to the next, 0..1; flat outside."""
    if len(places) == 1:
        return 0, 0.0
    low = int(np.clip(np.searchsorted(places, place, side="right") - 1, 0, len(places) - 2))
    return low, float(np.clip((place - places[low]) / (places[low + 1] - places[low]), 0.0, 1.0))


def at_start(log_starts: Tensor, tables: Tensor, start: Tensor) -> Tensor:
    """Each image's table [B, 2, K] for its own first noise level [B], linear in log sigma over `log_starts` [S].

    `tables` is [S, 2, K]; beyond the first or last start, that start's. Nothing waits for the device.
    """
    if len(log_starts) == 1:
        return tables.expand(len(start), -1, -1)
    place = start.float().clamp(min=1e-8).log().clamp(log_starts[0], log_starts[-1])
    high = torch.searchsorted(log_starts, place.contiguous()).clamp(1, len(log_starts) - 1)
    share = (place - log_starts[high - 1]) / (log_starts[high] - log_starts[high - 1])
    return torch.lerp(tables[high - 1], tables[high], share.view(-1, 1, 1))


def interpolate(grid: Tensor, tables: Tensor, sigma: Tensor) -> tuple[Tensor, ...]:
    """The rows [B] of each image's table [B, R, K] at its noise level [B]: linear in log sigma over `grid`.

    Flat outside the grid [K].
    """
    place = sigma.float().clamp(min=1e-8).log().clamp(grid[0], grid[-1])
    high = torch.searchsorted(grid, place.contiguous()).clamp(1, len(grid) - 1)
    share = (place - grid[high - 1]) / (grid[high] - grid[high - 1])
    index = high.view(-1, 1, 1).expand(-1, tables.shape[1], 1)
    low, top = tables.gather(2, index - 1)[..., 0], tables.gather(2, index)[..., 0]
    return torch.lerp(low, top, share[:, None]).unbind(1)
