"""The stability region and the honesty of its false-alarm rate."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from lib_memstab.core import region as regions
from lib_memstab.core.calibration import learn, on_grid
from lib_memstab.core.region import GRID, Band, Conditions, Likeness, Region, RegionError, at_start, interpolate


def ordinary(count, rng):
    """Smooth Gaussian curves [count, K] around 0.01, as correlated over noise level as path lengths are."""
    steps = rng.standard_normal((count, 6)) * 0.02
    basis = np.stack([np.exp(-((np.linspace(0, 5, len(GRID)) - k) ** 2)) for k in range(6)])
    return 0.01 + steps @ basis


def table(region, guidance, negative=False):
    """Mean and deviation [2, K] of a region whose trajectories all started alike."""
    starts, tables = region.tables(guidance, negative)
    assert len(starts) == 1
    return tables[0]


def scores(region, curves):
    mean, deviation = table(region, 7.5)
    return ((curves - mean) / deviation).max(axis=1)


@pytest.mark.parametrize("sensitivity", [10, 100])
@pytest.mark.parametrize("count", [8, 16, 64, 256])
def test_false_alarms_over_a_trajectory_do_not_exceed_the_stated_rate(count, sensitivity):
    rng = np.random.default_rng(count)
    rates = []
    for _ in range(30):
        region = learn(ordinary(count, rng))
        rates.append((scores(region, ordinary(2000, rng)) > region.threshold(sensitivity)).mean())
    assert np.mean(rates) < 1.35 / sensitivity


def test_a_large_calibration_has_about_the_stated_rate():
    rng = np.random.default_rng(1)
    region = learn(ordinary(512, rng))
    rate = (scores(region, ordinary(20000, rng)) > region.threshold(10)).mean()
    assert 0.07 < rate < 0.13


@pytest.mark.parametrize("sensitivity", [1.5, 2, 4, 10, 100, 1000, 1e6])
def test_threshold_and_p_value_are_inverse(sensitivity):
    region = learn(ordinary(64, np.random.default_rng(2)))
    assert float(region.p_value(region.threshold(sensitivity))) == pytest.approx(1 / sensitivity, rel=0.02)


def of_peaks(peaks):
    """A region of one band whose trajectories scored this, rising."""
    return Region(np.array([0.0, 1.0]), (Band(Conditions(), np.zeros(2), np.ones(2), len(peaks)),), peaks)


def normal_peaks(count):
    """Scores that are a standard normal distribution's quantiles, rising: lengths below are in its deviations."""
    return np.array([NormalDist().inv_cdf((place + 0.5) / count) for place in range(count)])


def moved_out(peaks, far, share=0.04):
    """The same, the last of them so much farther out: of prompts that recall a training picture in part."""
    return peaks + np.where(np.arange(len(peaks)) < len(peaks) - round(share * len(peaks)), 0, far)


def by_mean_excess(monkeypatch, peaks, sensitivity):
    """The bound where nothing limits how heavy the tail may be."""
    with monkeypatch.context() as patch:
        patch.setattr(regions, "_HEAVIEST", math.inf)
        return of_peaks(peaks).threshold(sensitivity)


@pytest.mark.parametrize(("middle", "deviation"), [(0.0, 1.0), (1.7, 0.4), (-3.0, 5.0)])
@pytest.mark.parametrize("count", [16, 64, 256, 512])
def test_peaks_that_are_a_normal_distribution_keep_the_tail_that_they_have(monkeypatch, count, middle, deviation):
    peaks = middle + deviation * normal_peaks(count)
    for sensitivity in (20, 100, 1000):
        assert of_peaks(peaks).threshold(sensitivity) == by_mean_excess(monkeypatch, peaks, sensitivity)


@pytest.mark.parametrize(("count", "within"), [(64, 0.95), (128, 0.54), (256, 0.4), (512, 0.34)])
def test_a_few_peaks_far_out_move_the_bound_a_little_and_no_more_however_far_out_they_are(monkeypatch, count, within):
    peaks = normal_peaks(count)
    bound, usual = of_peaks(peaks).threshold(100), (1.5, 2, 4, 7)
    found = [of_peaks(moved_out(peaks, far)) for far in (1.5, 3, 10, 1000)]
    for one in found:
        assert bound < one.threshold(100) < bound + within
        assert one.threshold(100) == pytest.approx(found[0].threshold(100), rel=1e-12)
        assert [one.threshold(rate) for rate in usual] == [of_peaks(peaks).threshold(rate) for rate in usual]
    for far in (3, 10):
        assert by_mean_excess(monkeypatch, moved_out(peaks, far), 100) > bound + 0.9 * far


def test_where_the_tail_begins_at_the_median_it_is_what_its_own_peaks_say():
    region = of_peaks(np.concatenate([np.full(60, 0.5), [1.0, 1.5, 2.0, 2.5]]))
    assert region.threshold(10) < region.threshold(100) < region.threshold(1000)
    assert region.threshold(100) > 1


@pytest.mark.parametrize("share", [0.01, 0.02, 0.08])
def test_nor_does_it_matter_how_many_they_are_as_long_as_they_are_in_the_tail(share):
    peaks = normal_peaks(256)
    few, some = (of_peaks(moved_out(peaks, 30, each)).threshold(100) for each in (share, 0.04))
    assert few == pytest.approx(some, rel=1e-12)


@pytest.mark.parametrize("far", [0, 0.3, 1.5, 10, 1000])
@pytest.mark.parametrize("count", [8, 16, 64, 256, 512])
def test_threshold_and_p_value_are_inverse_whether_a_tail_is_bounded_or_not(count, far):
    region = of_peaks(moved_out(normal_peaks(count), far, max(0.04, 1 / count)))
    for sensitivity in (1.5, 2, 4, 7, 10, 30, 100, 1000, 1e6):
        assert float(region.p_value(region.threshold(sensitivity))) == pytest.approx(1 / sensitivity, rel=1e-9)
    for score in np.linspace(region.peaks[0], region.peaks[-1], 40):
        assert region.threshold(1 / float(region.p_value(score))) == pytest.approx(score, rel=1e-9, abs=1e-9)


def test_p_values_fall_with_the_score():
    region = learn(ordinary(64, np.random.default_rng(3)))
    values = region.p_value(np.linspace(-5, 30, 400))
    assert (np.diff(values) <= 1e-12).all()
    assert values[0] == pytest.approx(1)
    assert 0 < values[-1] < 1e-6


def test_fewer_trajectories_have_a_higher_threshold_on_average():
    rng = np.random.default_rng(4)
    few = np.mean([learn(ordinary(16, rng)).threshold(1000) for _ in range(40)])
    many = np.mean([learn(ordinary(256, rng)).threshold(1000) for _ in range(10)])
    assert few > many


def test_too_few_or_equal_trajectories_make_no_region():
    rng = np.random.default_rng(5)
    with pytest.raises(RegionError, match="at least 8"):
        learn(ordinary(7, rng))
    with pytest.raises(RegionError, match="different prompts"):
        learn(np.zeros((16, len(GRID))))


@pytest.mark.parametrize("sensitivity", [1, 0, -3, float("nan")])
def test_sensitivity_must_be_above_one(sensitivity):
    with pytest.raises(RegionError, match="above 1"):
        learn(ordinary(16, np.random.default_rng(6))).threshold(sensitivity)


def test_a_region_of_bad_numbers_is_refused():
    good = learn(ordinary(16, np.random.default_rng(7)))
    band = good.bands[0]
    with pytest.raises(RegionError, match="finite"):
        Region(good.log_sigma, (Band(band.conditions, band.mean * np.nan, band.deviation),), good.peaks)
    with pytest.raises(RegionError, match="rising"):
        Region(good.log_sigma[::-1], good.bands, good.peaks)
    with pytest.raises(RegionError, match="rising"):
        Region(good.log_sigma, (band, band), good.peaks)


def test_a_curve_is_known_only_where_its_trajectory_came():
    sigma = np.array([4.0, 2.0, 1.0, 0.5])
    curve = on_grid(sigma, np.log(sigma))
    known = np.isfinite(curve)
    assert np.exp(GRID[known]).min() > 0.4
    assert np.exp(GRID[known]).max() < 5
    inside = known & (np.exp(GRID) > 0.5) & (np.exp(GRID) < 4)
    np.testing.assert_allclose(curve[inside], GRID[inside], atol=1e-9)


def test_bounds_interpolate_over_log_sigma_and_are_flat_outside():
    region = learn(ordinary(16, np.random.default_rng(8)))
    grid, tables = torch.as_tensor(region.log_sigma).float(), torch.as_tensor(table(region, 7.5)).float()
    mean_of, middle = region.bands[0].mean, float(np.exp((GRID[3] + GRID[4]) / 2))
    mean, deviation = interpolate(grid, tables.expand(3, -1, -1), torch.tensor([middle, 1e-6, 1e6]))
    assert float(mean[0]) == pytest.approx((mean_of[3] + mean_of[4]) / 2, rel=1e-4)
    assert float(mean[1]) == pytest.approx(mean_of[0], rel=1e-5)
    assert float(deviation[2]) == pytest.approx(region.bands[0].deviation[-1], rel=1e-5)


def test_every_guidance_has_its_own_band_and_the_ones_between_are_interpolated():
    rng = np.random.default_rng(9)
    guidance = np.tile([1.0, 4.0], 200)
    curves = np.where(guidance == 1.0, 2.0, 1.0)[:, None] * ordinary(400, rng)
    region = learn(curves, [Conditions(scale) for scale in guidance])
    assert [band.conditions.guidance for band in region.bands] == [1.0, 4.0]
    fresh = 2.0 * ordinary(4000, rng)
    mean, deviation = table(region, 1.0)
    rate = (((fresh - mean) / deviation).max(axis=1) > region.threshold(10)).mean()
    assert 0.06 < rate < 0.15
    np.testing.assert_allclose(table(region, 2.0), (table(region, 1.0) + table(region, 4.0)) / 2)
    np.testing.assert_array_equal(table(region, 30.0), table(region, 4.0))


def test_a_negative_prompt_has_bands_of_its_own_where_they_were_calibrated():
    rng = np.random.default_rng(12)
    negative = np.tile([False, True], 50)
    curves = ordinary(100, rng) + np.where(negative, 0.3, 0.0)[:, None]
    region = learn(curves, [Conditions(negative=bool(one)) for one in negative])
    assert region.covers(negative=True)
    np.testing.assert_allclose(table(region, 7.5, negative=True)[0], curves[negative].mean(axis=0))
    np.testing.assert_allclose(table(region, 7.5)[0], curves[~negative].mean(axis=0))
    without = learn(curves[~negative])
    assert not without.covers(negative=True)
    np.testing.assert_array_equal(table(without, 7.5, negative=True), table(without, 7.5))


def test_every_start_has_its_own_band_over_the_noise_levels_it_reached():
    rng = np.random.default_rng(12)
    start = np.tile([2.0, 8.0], 40)
    curves = np.where(GRID[None] <= np.log(start)[:, None], ordinary(80, rng) + start[:, None] / 10, np.nan)
    region = learn(curves, [Conditions(start=float(one)) for one in start])
    assert np.exp(region.log_sigma.max()) == pytest.approx(8.0, rel=0.2)
    starts, tables = (torch.as_tensor(part).float() for part in region.tables(7.5))
    rows = at_start(starts, tables, torch.tensor([1.0, 2.0, 4.0, 8.0, 15.0]))
    inside = torch.as_tensor(region.log_sigma) < np.log(2.0)
    for row, expected in zip(rows, [0.2, 0.2, 0.5, 0.8, 0.8], strict=True):
        assert float(row[0, inside].mean()) == pytest.approx(expected + 0.01, abs=0.02)


def test_replays_among_the_prompts_do_not_drag_the_region():
    rng = np.random.default_rng(10)
    clean = ordinary(200, rng)
    spoiled = clean.copy()
    spoiled[:10] += 0.5
    region = learn(spoiled)
    assert region.count == 190
    np.testing.assert_allclose(table(region, 7.5)[1], table(learn(clean), 7.5)[1], rtol=0.1)


def test_every_band_knows_how_many_trajectories_it_was_learned_from():
    rng = np.random.default_rng(12)
    curves = ordinary(48, rng)
    curves[5] += 5  # a replay, which is left out
    region = learn(curves, [Conditions(7.5)] * 32 + [Conditions(3.0)] * 16)
    assert [(band.conditions.guidance, band.count) for band in region.bands] == [(3.0, 16), (7.5, 31)]
    assert region.count == 47


@pytest.mark.parametrize(
    ("count", "largest"), [(8, 5), (9, 10), (18, 10), (19, 20), (98, 50), (99, 100), (497, 200), (999, 1000)]
)
def test_the_largest_sensitivity_that_the_trajectories_bear_out(count, largest):
    band = Band(Conditions(), np.zeros(2), np.ones(2), count)
    assert Region(np.array([0.0, 1.0]), (band,), np.linspace(0, 3, count)).supported == largest


def region_of(likenesses):
    """A region whose bands, by their conditions, have these likenesses."""
    bands = [Band(kind, np.zeros(2), np.ones(2), 8, one) for kind, one in likenesses.items()]
    bands.sort(key=lambda band: band.conditions.key())
    return Region(np.array([0.0, 1.0]), tuple(bands), np.linspace(0, 3, 8 * len(bands)))


def test_likeness_is_between_the_bands_next_to_it_in_log_guidance_and_in_log_start():
    region = region_of(
        {
            Conditions(1.0, 15.0): Likeness(0.1, 0.05),
            Conditions(4.0, 15.0): Likeness(0.3, 0.15),
            Conditions(4.0, 1.0): Likeness(0.7, 0.35),
        }
    )
    for guidance, mean, deviation in ((1.0, 0.1, 0.05), (2.0, 0.2, 0.1), (4.0, 0.3, 0.15), (30.0, 0.3, 0.15)):
        starts, tables = region.likeness(guidance)
        np.testing.assert_allclose(starts, np.log([1.0, 15.0]))
        np.testing.assert_allclose(tables, [[[0.7], [0.35]], [[mean], [deviation]]])
    starts, tables = (torch.as_tensor(part).float() for part in region.likeness(4.0))
    rows = at_start(starts, tables, torch.tensor([0.5, 1.0, 15**0.5, 15.0, 20.0]))
    np.testing.assert_allclose(rows[..., 0], [[0.7, 0.35]] * 2 + [[0.5, 0.25]] + [[0.3, 0.15]] * 2, rtol=1e-5)


def test_likeness_with_a_negative_prompt_is_that_of_its_own_bands_or_else_of_the_others():
    plain, negative = Likeness(0.1, 0.05), Likeness(0.4, 0.2)
    both = region_of({Conditions(): plain, Conditions(negative=True): negative})
    assert both.likeness(7.5, True)[1].ravel().tolist() == [0.4, 0.2]
    assert both.likeness(7.5)[1].ravel().tolist() == [0.1, 0.05]
    assert region_of({Conditions(): plain}).likeness(7.5, True)[1].ravel().tolist() == [0.1, 0.05]


def test_where_bands_do_not_say_how_alike_pictures_are_the_others_speak_and_where_none_does_nobody():
    some = region_of({Conditions(3.0): None, Conditions(7.5): Likeness(0.1, 0.05)})
    assert some.likeness(3.0)[1].ravel().tolist() == [0.1, 0.05]
    assert region_of({Conditions(3.0): None, Conditions(7.5): None}).likeness(3.0) is None
    silent = region_of({Conditions(): Likeness(0.1, 0.05), Conditions(negative=True): None})
    assert silent.likeness(7.5, True) is None
    assert silent.likeness(7.5) is not None
    for region in (some, silent):
        for negative in (False, True):
            assert region.looks_twice(negative) == (region.likeness(7.5, negative) is not None)


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [(np.nan, 0.1), (np.inf, 0.1), (3.0, 0.1), (-3.0, 0.1), (0, 0), (0, 1e-9), (0, np.inf)],
)
def test_a_likeness_that_cannot_be_judged_by_is_refused(mean, deviation):
    with pytest.raises(RegionError, match="calibrate again"):
        Likeness(mean, deviation)
