"""What a region learns from: replays among the trajectories, and the spreads of its bands."""

import numpy as np
import pytest
import torch

from lib_memstab.core.calibration import OUTSPOKEN, learn, with_likeness, with_likeness_of
from lib_memstab.core.region import GRID, Conditions, Likeness, widened, widening
from tests.core.test_region import ordinary, region_of, scores


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("count", [64, 256])
def test_replays_among_the_trajectories_neither_drag_the_bound_nor_hide(share, count):
    rng = np.random.default_rng(7)
    alarms, missed = [], []
    for _ in range(20):
        curves = ordinary(count, rng)
        replays = round(count * share)
        curves[:replays] += 0.02 * rng.uniform(4.5, 8, (replays, 1))
        region = learn(curves, replay=3.5)
        bound = region.threshold(100)
        alarms.append((scores(region, ordinary(2000, rng)) > bound).mean())
        later = ordinary(500, rng) + 0.02 * rng.uniform(4.5, 8, (500, 1))
        missed.append((scores(region, later) <= bound).mean())
    assert np.mean(alarms) < 0.0135
    assert np.mean(missed) < 0.03


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_trajectories_that_bend_away_neither_widen_the_region_nor_count_as_ordinary(share):
    rng = np.random.default_rng(12)
    alarms, missed = [], []
    for _ in range(20):
        curves = ordinary(128, rng)
        bent = round(128 * share)
        curves[:bent] += 0.02 * rng.uniform(2, 12, (bent, 1)) * np.linspace(1, 0, len(GRID)) ** 1.5
        region = learn(curves)
        bound = region.threshold(100)
        alarms.append((scores(region, ordinary(2000, rng)) > bound).mean())
        replays = ordinary(500, rng) + 0.02 * rng.uniform(5, 7, (500, 1)) * np.linspace(1, 0.4, len(GRID))
        missed.append((scores(region, replays) <= bound).mean())
    assert np.mean(alarms) < 0.0135
    assert np.mean(missed) < 0.25


def test_what_half_of_the_trajectories_do_is_ordinary():
    rng = np.random.default_rng(13)
    for _ in range(20):
        curves = ordinary(64, rng)
        curves[:32] += 0.02 * 5 * np.linspace(1, 0, len(GRID))
        assert learn(curves).count >= 62


def test_few_ordinary_trajectories_are_taken_for_replays():
    rng = np.random.default_rng(8)
    kept = [learn(ordinary(count, rng)).count / count for count in (16, 32, 64, 256) for _ in range(40)]
    assert np.mean(kept) > 0.99


def bands_of(spreads, count, rng):
    """Trajectories of these conditions, as far apart as `spreads` says of each."""
    curves = [0.01 + (ordinary(count, rng) - 0.01) * spread for spread in spreads.values()]
    return np.concatenate(curves), [kind for kind in spreads for _ in range(count)]


def test_bands_of_few_trajectories_speak_together_of_their_spread():
    rng = np.random.default_rng(9)
    truth = {Conditions(scale, start): 3.0 / np.log(20 * start) for scale in (3.0, 7.0) for start in (1.0, 2, 5, 10)}
    errors = []
    for _ in range(10):
        together = learn(*bands_of(truth, 24, rng)).bands
        alone = [learn(*bands_of({kind: spread}, 24, rng)).bands[0] for kind, spread in truth.items()]
        whole = [learn(*bands_of({kind: spread}, 2000, rng)).bands[0] for kind, spread in truth.items()]
        known = {band.conditions: np.log(band.deviation).mean() for band in whole}
        errors.append(
            [
                np.mean([(np.log(band.deviation).mean() - known[band.conditions]) ** 2 for band in bands])
                for bands in (together, alone)
            ]
        )
    ours, others = np.mean(errors, axis=0)
    assert ours < 0.7 * others


def test_too_few_bands_keep_their_own_spread():
    rng = np.random.default_rng(10)
    curves, kinds = bands_of({Conditions(3.0): 1.0, Conditions(7.0): 3.0}, 64, rng)
    low, high = learn(curves, kinds).bands
    assert np.array_equal(low.deviation, learn(curves[:64], kinds[:64]).bands[0].deviation)
    assert np.array_equal(high.deviation, learn(curves[64:], kinds[64:]).bands[0].deviation)


def test_stated_rates_hold_where_bands_speak_together():
    rng = np.random.default_rng(11)
    kinds = {Conditions(scale, 10.0): 1.0 for scale in (1.0, 3.0, 7.5, 12.0)}
    rates = []
    for _ in range(15):
        region = learn(*bands_of(kinds, 32, rng))
        rates.append([(scores(region, ordinary(2000, rng)) > region.threshold(one)).mean() for one in (10, 100)])
    assert np.mean(rates, axis=0)[0] < 0.135
    assert np.mean(rates, axis=0)[1] < 0.016  # one in 400 ordinary trajectories is taken for a replay


BENT = {Conditions(7.0, 10.0): 1.0, Conditions(7.0, 5.0): 1.6, Conditions(7.0, 2.0): 1.0, Conditions(7.0, 1.0): 1.0}
"""Four bands whose spreads lie on no line."""


def false_alarms(region, spreads, rng):
    """Share of ordinary trajectories of each band beyond the bound for 1 in 100."""
    found = []
    for band in region.bands:
        own, _ = bands_of({band.conditions: spreads[band.conditions]}, 2000, rng)
        found.append((((own - band.mean) / band.deviation).max(axis=1) > region.threshold(100)).mean())
    return found


def test_large_bands_contradict_a_line_that_they_do_not_lie_on():
    rng = np.random.default_rng(13)
    small, large = (
        np.mean([false_alarms(learn(*bands_of(BENT, count, rng)), BENT, rng) for _ in range(10)], axis=0)
        for count in (OUTSPOKEN // 2, 3 * OUTSPOKEN)
    )
    assert small.max() > 0.03
    assert large.max() < 0.016


def test_large_bands_on_a_line_follow_it():
    rng = np.random.default_rng(14)
    straight = dict.fromkeys(BENT, 1.0)
    curves, kinds = bands_of(straight, 2 * OUTSPOKEN, rng)
    together = [spread_of(band) for band in learn(curves, kinds).bands]
    alone = [spread_of(learn(*bands_of({kind: 1.0}, 2 * OUTSPOKEN, rng)).bands[0]) for kind in straight]
    assert np.std(together) < np.std(alone)


def spread_of(band):
    """Mean log deviation of a band, as if it were no wider anywhere."""
    return np.log(band.deviation / widened(band.conditions, GRID)).mean()


def test_prompts_that_pull_little_do_not_widen_the_bound():
    rng = np.random.default_rng(15)
    curves, weak = ordinary(400, rng), ordinary(200, rng)
    weak -= 0.02 * rng.uniform(0, 6, (200, 1))
    late, every = np.exp(GRID) < 1, np.concatenate([curves, weak])
    alone, together = (
        (band.mean + 3 * band.deviation)[late] for band in (learn(curves).bands[0], learn(every).bands[0])
    )
    by_both_sides = (every.mean(axis=0) + 3 * every.std(axis=0))[late]
    assert (together - alone).mean() < 0.3 * (by_both_sides - alone).mean()


@pytest.mark.parametrize("count", [8, 9, 40])
def test_each_trajectory_is_held_against_the_others_alone(count):
    curves = ordinary(count, np.random.default_rng(count))
    if count == 40:
        curves[:20, 30:] = np.nan  # these begin lower
    region = learn(curves)
    rate = []
    for place, own in enumerate(curves):
        others = np.delete(curves, place, axis=0)
        mean = np.nanmean(others, axis=0)
        above = np.where(others > mean, others - mean, np.nan)
        deviation = np.sqrt(np.nanmean(above**2, axis=0)) * widened(Conditions(), GRID)
        rate.append(np.nanmax(((own - mean) / deviation)[: len(region.log_sigma)]))
    np.testing.assert_allclose(region.peaks, np.sort(rate), rtol=1e-9)


def test_bounds_are_wider_where_a_path_begins():
    first, middle, last = widened(Conditions(start=14.6), np.log([14.6, 14.6 / 4, 1e-9]))
    assert (first, middle, last) == pytest.approx((0.25**-0.25, 0.625**-0.25, 1), rel=1e-4)
    assert widened(Conditions(start=2.0), np.log([9.0])) == pytest.approx(first)  # a grid level that it never came to
    torch.testing.assert_close(widening(torch.tensor([1.0, 0.25, 0.0])), torch.tensor([first, middle, 1.0]).float())


LOW, HIGH = Conditions(3.0), Conditions(7.0)


def alike(count, mean, deviation, rng):
    """Correlations whose inverse hyperbolic tangents are Gaussian."""
    return np.tanh(rng.normal(mean, deviation, count))


def test_every_band_says_how_alike_its_own_pictures_are_to_their_second_looks():
    rng = np.random.default_rng(12)
    curves, kinds = bands_of({LOW: 1.0, HIGH: 1.0}, 400, rng)
    region = learn(curves, kinds)
    order = rng.permutation(800)
    shuffled = [kinds[place] for place in order]
    found = np.concatenate([alike(400, 0.1, 0.08, rng), alike(400, 0.5, 0.2, rng)])[order]
    low, high = (band.likeness for band in with_likeness(region, shuffled, found).bands)
    assert (low.mean, low.deviation) == (pytest.approx(0.1, abs=0.015), pytest.approx(0.08, rel=0.15))
    assert (high.mean, high.deviation) == (pytest.approx(0.5, abs=0.04), pytest.approx(0.2, rel=0.15))


def test_likeness_changes_nothing_else_of_a_region():
    rng = np.random.default_rng(13)
    region = learn(ordinary(64, rng))
    found = with_likeness(region, [Conditions()] * 64, alike(64, 0.1, 0.1, rng))
    assert found.peaks is region.peaks
    assert [band.likeness is None for band in (*region.bands, *found.bands)] == [True, False]
    assert found.bands[0].mean is region.bands[0].mean


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_a_few_replays_among_the_prompts_have_no_weight_in_a_likeness(share):
    rng = np.random.default_rng(14)
    found = alike(400, 0.2, 0.1, rng)
    region = learn(ordinary(400, rng))
    clean = with_likeness(region, [Conditions()] * 400, found).bands[0].likeness
    spoiled = found.copy()
    spoiled[: round(400 * share)] = rng.uniform(0.8, 1.0, round(400 * share))
    robust = with_likeness(region, [Conditions()] * 400, spoiled).bands[0].likeness
    assert robust.mean == pytest.approx(clean.mean, abs=0.35 * clean.deviation)
    assert robust.deviation == pytest.approx(clean.deviation, rel=0.4)
    plain = np.arctanh(np.minimum(spoiled, 0.995))
    assert plain.std() > 1.5 * robust.deviation


def test_pictures_of_conditions_that_made_no_band_have_no_part_in_a_likeness():
    rng = np.random.default_rng(15)
    region = learn(ordinary(32, rng))
    found = np.concatenate([alike(32, 0.1, 0.1, rng), np.full(20, 0.99)])
    kinds = [Conditions()] * 32 + [HIGH] * 20
    ours = with_likeness(region, kinds, found).bands[0].likeness
    assert ours == with_likeness(region, kinds[:32], found[:32]).bands[0].likeness


def test_of_few_bands_each_speaks_for_itself_and_of_many_they_speak_together():
    rng = np.random.default_rng(16)
    kinds = {Conditions(scale): 1.0 for scale in (1.0, 3.0, 7.0, 12.0)}
    together, alone = [], []
    for _ in range(20):
        curves, sampled = bands_of(kinds, 24, rng)
        found = alike(96, 0.2, 0.15, rng)
        bands = with_likeness(learn(curves, sampled), sampled, found).bands
        together += [(band.likeness.mean, np.log(band.likeness.deviation)) for band in bands]
        for place in range(len(kinds)):
            part = slice(24 * place, 24 * place + 24)
            [own] = with_likeness(learn(curves[part], sampled[part]), sampled[part], found[part]).bands
            alone.append((own.likeness.mean, np.log(own.likeness.deviation)))
    assert (np.std(together, axis=0) < 0.8 * np.std(alone, axis=0)).all()
    middle, deviation = np.median(together, axis=0)
    assert middle == pytest.approx(0.2, abs=0.02)
    assert np.exp(deviation) == pytest.approx(0.15, rel=0.15)


@pytest.mark.parametrize("value", [0.3, 1.0, -1.0])
def test_pictures_that_are_all_as_alike_leave_a_spread_all_the_same(value):
    region = learn(ordinary(32, np.random.default_rng(17)))
    found = with_likeness(region, [Conditions()] * 32, np.full(32, value)).bands[0].likeness
    assert found.mean == pytest.approx(np.arctanh(np.clip(value, -0.995, 0.995)))
    assert found.deviation == pytest.approx(0.05)


def test_a_region_takes_over_how_alike_pictures_are_under_its_own_bands_conditions():
    known = region_of(
        {
            Conditions(1.0, 15.0): Likeness(0.1, 0.05),
            Conditions(4.0, 15.0): Likeness(0.3, 0.15),
            Conditions(4.0, 1.0): Likeness(0.7, 0.35),
            Conditions(7.0, 15.0, True): Likeness(0.2, 0.1),
        }
    )
    wanted = {
        Conditions(4.0, 0.5): (0.7, 0.35),
        Conditions(4.0, 15**0.5): (0.5, 0.25),
        Conditions(2.0, 15.0): (0.2, 0.1),
        Conditions(20.0, 15.0): (0.3, 0.15),
        Conditions(3.0, 5.0, True): (0.2, 0.1),
    }
    own = region_of(dict.fromkeys(wanted))
    found = with_likeness_of(own, known)
    assert {band.conditions: (band.likeness.mean, band.likeness.deviation) for band in found.bands} == {
        kind: pytest.approx(values) for kind, values in wanted.items()
    }
    assert found.peaks is own.peaks


def test_where_the_other_region_knows_nothing_a_band_has_no_likeness():
    known = region_of({Conditions(): Likeness(0.1, 0.05), Conditions(negative=True): None})
    own = region_of({Conditions(): None, Conditions(negative=True): Likeness(0.5, 0.5)})
    assert [band.likeness for band in with_likeness_of(own, known).bands] == [Likeness(0.1, 0.05), None]
