"""Two profiles side by side: where each has its bounds, under the conditions that one was calibrated in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from lib_memstab.core.profile import Mode, Profile, ProfileError
from lib_memstab.core.region import Band, Conditions, FloatArray, Region, at_start

SENSITIVITY = 100
"""About one false alarm in so many ordinary images: the bound that is shown and compared."""


@dataclass(frozen=True, eq=False)
class BandBounds:
    """Bounds of two regions under the conditions of one band of the first: log path lengths over noise levels, [K].

    `measured`: whether the second has this band itself; else its bound is what it would judge by there.
    """

    conditions: Conditions
    sigma: FloatArray
    one: FloatArray
    other: FloatArray
    measured: bool

    def difference(self) -> FloatArray:
        """How much longer a path the second lets through, as a share of the first's bound, [K]."""
        return np.expm1(self.other - self.one)


def reached(region: Region, band: Band) -> NDArray[np.bool_]:
    """The noise levels [K] of a region that trajectories of this band come through."""
    # Half a step of slack, as a trajectory has on the grid.
    slack = np.diff(region.log_sigma).max() / 2
    return region.log_sigma <= np.log(band.conditions.start) + slack


def compare(one: Profile, other: Profile) -> dict[Mode, list[BandBounds]]:
    """The bounds of both for every mode that both have and every band of the first.

    Raises:
        ProfileError: if they bound different statistics.
    """
    if one.statistic != other.statistic:
        raise ProfileError(
            f"{one.name} and {other.name} were made by MemStabs that measured otherwise: calibrate the older one again"
        )
    shared = [mode for mode in get_args(Mode) if mode in one.modes and mode in other.modes]
    return {mode: _bands(one.modes[mode].region, other.modes[mode].region) for mode in shared}


def _bands(one: Region, other: Region) -> list[BandBounds]:
    found = []
    for band in one.bands:
        at = band.conditions
        starts, tables = (torch.from_numpy(part).float() for part in other.tables(at.guidance, at.negative))
        mean, deviation = at_start(starts, tables, torch.tensor([at.start]))[0].double().numpy()
        bound = np.interp(one.log_sigma, other.log_sigma, mean + other.threshold(SENSITIVITY) * deviation)
        own = band.mean + one.threshold(SENSITIVITY) * band.deviation
        came = reached(one, band) & (one.log_sigma >= other.log_sigma[0]) & (one.log_sigma <= other.log_sigma[-1])
        if came.any():
            sigma = np.exp(one.log_sigma[came])
            found.append(BandBounds(at, sigma, own[came], bound[came], _has(other, at)))
    return found


def _has(region: Region, at: Conditions) -> bool:
    slack = np.diff(region.log_sigma).max() / 2
    return any(
        (band.conditions.guidance, band.conditions.negative) == (at.guidance, at.negative)
        and abs(np.log(band.conditions.start / at.start)) <= slack
        for band in region.bands
    )
