"""Two profiles side by side: what the second would let through where the first was calibrated."""

from dataclasses import replace

import numpy as np
import pytest

from lib_memstab.core.calibration import learn
from lib_memstab.core.comparing import compare
from lib_memstab.core.profile import (
    STATISTIC,
    Calibration,
    Checkpoint,
    Covered,
    Latent,
    Profile,
    ProfileError,
    Statistic,
    Versions,
)
from lib_memstab.core.region import GRID, Conditions


def profile(name, shift=0.0, guidance=(7.0,), negative=False, modes=("txt2img", "img2img")):
    noise = np.random.default_rng(0).standard_normal((40 * len(guidance), 1))
    curves = 2.0 + shift - 0.3 * GRID + 0.05 * noise
    conditions = [Conditions(scale, 14.6, negative) for scale in guidance for _ in range(40)]
    covered = Covered(("Euler",), ("Automatic",), (20, 20), (1, 12), ((16, 16),), len(curves), "invented")
    calibration = Calibration(learn(curves, conditions), covered)
    return Profile(
        name,
        Checkpoint("c", "ab" * 32),
        Latent(4),
        "epsilon",
        "2026-01-01",
        Versions("0", "2", "test"),
        STATISTIC,
        dict.fromkeys(modes, calibration),
    )


def test_a_profile_is_like_itself():
    [[band]] = [compare(profile("a"), profile("b"))["txt2img"]]
    assert band.measured
    np.testing.assert_allclose(band.difference(), 0, atol=1e-5)


def test_the_difference_is_a_share_of_the_first_bound():
    [band] = compare(profile("a"), profile("b", shift=np.log(1.1)))["img2img"]
    np.testing.assert_allclose(band.difference(), 0.1, atol=1e-4)
    assert band.sigma[-1] == pytest.approx(14.6, rel=0.1)


def test_a_band_that_the_second_lacks_is_held_against_what_it_would_judge_by():
    bands = compare(profile("a", guidance=(1.0, 5.0)), profile("b", guidance=(1.0, 12.0)))["txt2img"]
    assert [band.measured for band in bands] == [True, False]
    [band] = compare(profile("a", negative=True), profile("b"))["txt2img"]
    assert not band.measured


def test_only_modes_that_both_have_are_compared():
    assert set(compare(profile("a"), profile("b", modes=("img2img",)))) == {"img2img"}
    other = profile("b")
    assert compare(profile("a", modes=("txt2img",)), replace(other, modes={"img2img": other.modes["img2img"]})) == {}


def test_bounds_of_different_statistics_are_not_compared():
    with pytest.raises(ProfileError, match="a and b were made by MemStabs that measured otherwise"):
        compare(profile("a"), replace(profile("b"), statistic=Statistic()))
