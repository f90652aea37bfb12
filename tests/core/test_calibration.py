"""What a region learns from: replays among the trajectories, and the spreads of its bands."""

import numpy as np
import pytest

from lib_memstab.core.calibration import learn
from lib_memstab.core.region import Conditions
from tests.core.test_region import ordinary, scores


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
