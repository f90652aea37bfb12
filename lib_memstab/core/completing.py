"""A region for ways of sampling that were not calibrated together, such as DDIM at a low guidance scale.

A calibration tries what moves ordinary paths one at a time: where a picture begins, at one guidance scale, and guidance
scales, with and without a negative prompt, from noise alone. What a scale or a negative prompt does is much the same
wherever a picture begins: as much is added to the log path length, and its deviation is as many times as large, at the
same share of the way.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lib_memstab.core.profile import Mode, Profile
from lib_memstab.core.region import LEAST_DEVIATION, MOST_ALIKE, Band, Conditions, FloatArray, Likeness, Region


def judging_region(profile: Profile, mode: Mode) -> Region:
    """The region by which pictures of this mode are judged; img2img is completed by what is known from noise alone."""
    region = profile.modes[mode].region
    return completed(region, profile.modes["txt2img"].region if "txt2img" in profile.modes else region)


def completed(region: Region, example: Region) -> Region:
    """The region with a band for every start of its own at every scale of `example`.

    `example` is a region of the same checkpoint that knows several scales, or the same one; of its starts the one with
    most bands is what is gone by. Where the region has bands with a negative prompt, it has them at every scale and
    start, too. Bands that are there stay as they are. A region to judge by, not to keep: its bands do not say how many
    trajectories they are of.
    """
    known = [band for band in _known(example) if region.covers(band.conditions.negative)]
    have = {band.conditions for band in region.bands}
    found = [replace(band, count=None) for band in region.bands]
    for start in sorted({conditions.start for conditions in have}):
        own = [band for band in region.bands if band.conditions.start == start]
        for to in known:
            conditions = replace(to.conditions, start=start)
            if conditions not in have:
                base = _nearest(own, conditions)
                found.append(_moved(base, _nearest(known, base.conditions), to, conditions, (region, example)))
    if len(found) == len(region.bands):
        return region
    return replace(region, bands=tuple(sorted(found, key=lambda band: band.conditions.key())))


def _known(region: Region) -> list[Band]:
    """The bands of the start that has most of them, of the highest such start; where some are with a negative prompt,
    there is one with it at every scale.
    """
    by_start: dict[float, list[Band]] = defaultdict(list)
    for band in region.bands:
        by_start[band.conditions.start].append(band)
    own = max(by_start.values(), key=lambda bands: (len(bands), bands[0].conditions.start))
    plain, negative = ([band for band in own if band.conditions.negative == kind] for kind in (False, True))
    for to in plain if negative else ():
        conditions = replace(to.conditions, negative=True)
        base = _nearest(negative, conditions)
        if base.conditions != conditions:
            own = [*own, _moved(base, _nearest(plain, base.conditions), to, conditions, (region, region))]
    return own


def _moved(base: Band, before: Band, after: Band, to: Conditions, regions: tuple[Region, Region]) -> Band:
    """`base` under the conditions `to`, which do to it what leads from the band `before` to the band `after`.

    `regions`: the ones of `base` and of the other two.
    """
    here, example = regions
    higher = np.log(before.conditions.start / base.conditions.start)

    def there(row: FloatArray) -> FloatArray:
        return np.interp(here.log_sigma + higher, example.log_sigma, row)

    likeness = base.likeness
    if likeness is not None and before.likeness is not None and after.likeness is not None:
        most = math.atanh(MOST_ALIKE)
        mean = likeness.mean + after.likeness.mean - before.likeness.mean
        deviation = likeness.deviation * after.likeness.deviation / before.likeness.deviation
        likeness = Likeness(max(-most, min(mean, most)), max(deviation, LEAST_DEVIATION))
    return Band(
        to,
        base.mean + there(after.mean - before.mean),
        base.deviation * np.exp(there(np.log(after.deviation / before.deviation))),
        likeness=likeness,
    )


def _nearest(bands: Sequence[Band], to: Conditions) -> Band:
    """The one of these bands that is nearest to the conditions, whatever its start."""

    def distance(band: Band) -> tuple[bool, float]:
        return band.conditions.negative != to.negative, abs(math.log(band.conditions.guidance / to.guidance))

    return min(bands, key=distance)
