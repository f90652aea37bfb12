"""Regions for ways of sampling that were not calibrated together."""

from dataclasses import replace

import numpy as np
import pytest

from lib_memstab.core.completing import completed
from lib_memstab.core.region import GRID, Band, Conditions, Likeness, Region

SCALES, STARTS, TOP = (1.0, 3.0, 7.0), (5.0, 9.0), 14.6


def band(guidance, start, negative=False, likeness=True):
    """As much is added by a scale and a negative prompt, at the same share of the way, wherever a picture begins."""
    way = np.log(start) - GRID
    mean = 0.3 + 0.02 * start + (0.1 * np.log(7 / guidance) + 0.2 * negative) * way
    deviation = 0.1 * (1 + 0.01 * start) * (7 / guidance) ** 0.3 * (1 + negative)
    known = Likeness(0.05 + 0.01 * guidance, 0.1 * guidance) if likeness else None
    return Band(Conditions(guidance, start, negative), mean, np.full(len(GRID), deviation), likeness=known)


def region_of(bands):
    return Region(GRID, tuple(sorted(bands, key=lambda one: one.conditions.key())), np.linspace(-1, 3, 40))


def known(likeness=True):
    """Scales and a negative prompt from the highest start, one scale from others."""
    bands = [band(scale, TOP, likeness=likeness) for scale in SCALES] + [band(7.0, TOP, True, likeness)]
    return region_of([*bands, *(band(7.0, start, likeness=likeness) for start in STARTS)])


def below(start):
    """Places of the grid where a picture from this start has come."""
    return np.log(start) - 0.1 >= GRID


@pytest.mark.parametrize("likeness", [True, False])
def test_every_start_gets_the_scales_and_the_negative_prompt_of_the_fullest(likeness):
    found = completed(known(likeness), known(likeness))
    assert {one.conditions for one in found.bands} == {
        Conditions(scale, start, negative) for start in (*STARTS, TOP) for scale in SCALES for negative in (False, True)
    }
    for one in found.bands:
        true = band(one.conditions.guidance, one.conditions.start, one.conditions.negative, likeness)
        there = below(one.conditions.start)
        assert np.allclose(one.mean[there], true.mean[there], atol=0.01)
        assert np.allclose(one.deviation, true.deviation)
        assert (one.likeness is None) == (true.likeness is None)
        if likeness:
            assert one.likeness.mean == pytest.approx(true.likeness.mean)
            assert one.likeness.deviation == pytest.approx(true.likeness.deviation)


def test_bands_that_are_there_stay_and_the_bound_with_them():
    region = known()
    found = completed(region, region)
    kept = {one.conditions: one for one in found.bands}
    for one in region.bands:
        assert np.array_equal(kept[one.conditions].mean, one.mean)
        assert np.array_equal(kept[one.conditions].deviation, one.deviation)
    assert found.threshold(100) == region.threshold(100)


def test_a_region_of_one_scale_learns_it_from_another():
    picture = region_of([band(7.0, start) for start in STARTS])
    found = completed(picture, known())
    scales = {(one.conditions.guidance, one.conditions.negative) for one in found.bands}
    assert scales == {(scale, False) for scale in SCALES}  # no band of its own has a negative prompt
    low = next(one for one in found.bands if one.conditions == Conditions(1.0, 9.0))
    there = below(9.0)
    assert np.allclose(low.mean[there], band(1.0, 9.0).mean[there], atol=0.01)


def test_a_region_that_lacks_nothing_is_left_as_it_is():
    region = region_of([band(scale, TOP) for scale in SCALES])
    assert completed(region, region) is region


def test_likenesses_that_a_file_may_hold_make_no_region_that_cannot_be_used():
    odd = [replace(band(scale, TOP), likeness=Likeness(2.9, own)) for scale, own in ((1.0, 0.001), (7.0, 100.0))]
    region = region_of([*odd, replace(band(7.0, 5.0), likeness=Likeness(2.9, 0.001))])
    low = next(one for one in completed(region, region).bands if one.conditions == Conditions(1.0, 5.0))
    assert low.likeness == Likeness(2.9, 0.001)
