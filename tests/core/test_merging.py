"""Profiles of one checkpoint made into one: nothing learned is lost, and nothing counts twice."""

from dataclasses import replace

import numpy as np
import pytest

from lib_memstab.core.calibration import learn, with_likeness
from lib_memstab.core.merging import merge
from lib_memstab.core.profile import Calibration, Checkpoint, Latent, ProfileError, Versions, from_bytes
from lib_memstab.core.region import GRID, Conditions, Likeness
from tests.core.test_profile import COVERED, PROFILE
from tests.core.test_region import ordinary

RNG, CAME = np.random.default_rng(5), np.arange(len(GRID)) < 30
HIGH, LOW = Conditions(7.5), Conditions(3.0)


def made(name, curves, conditions=None, mode="txt2img", **covered):
    """A profile of one mode, learned from these curves."""
    calibration = Calibration(learn(curves, conditions), replace(COVERED, trajectories=len(curves), **covered))
    return replace(PROFILE, name=name, modes={mode: calibration})


def two(seed=3, **covered):
    curves = ordinary(96, np.random.default_rng(seed))
    return made("first", curves[:32]), made("second", curves[32:], **covered), curves


def test_two_parts_of_one_calibration_are_nearly_what_is_learned_at_once():
    first, second, curves = two()
    merged, whole = merge([first, second], "both").modes["txt2img"].region, learn(curves)
    np.testing.assert_allclose(merged.bands[0].mean, whole.bands[0].mean, rtol=0, atol=1e-15)
    np.testing.assert_allclose(merged.bands[0].deviation, whole.bands[0].deviation, rtol=0.1)
    assert merged.bands[0].deviation.mean() == pytest.approx(whole.bands[0].deviation.mean(), rel=0.03)
    assert merged.bands[0].count == merged.count == 96
    np.testing.assert_allclose(merged.threshold(10), whole.threshold(10), rtol=0.1)


def test_three_at_once_are_what_two_and_one_are():
    curves = ordinary(96, np.random.default_rng(2))
    parts = [made(name, curves[start : start + 32]) for start, name in ((0, "a"), (32, "b"), (64, "c"))]
    at_once = merge(parts, "all")
    in_turn = merge([merge(parts[:2], "some"), parts[2]], "all")
    one, other = (profile.modes["txt2img"].region for profile in (at_once, in_turn))
    np.testing.assert_allclose(one.bands[0].deviation, other.bands[0].deviation, rtol=1e-13)
    np.testing.assert_array_equal(one.peaks, other.peaks)
    assert at_once.modes["txt2img"].covered == in_turn.modes["txt2img"].covered


def test_other_conditions_stand_side_by_side():
    rng = np.random.default_rng(3)
    first = made("first", ordinary(64, rng), [HIGH] * 32 + [LOW] * 32)
    second = made("second", ordinary(40, rng), [HIGH] * 16 + [replace(LOW, negative=True)] * 24)
    region = merge([first, second], "both").modes["txt2img"].region
    assert [(band.conditions, band.count) for band in region.bands] == [
        (LOW, 32),
        (HIGH, 48),
        (replace(LOW, negative=True), 24),
    ]
    np.testing.assert_array_equal(region.bands[0].mean, first.modes["txt2img"].region.bands[0].mean)


def test_a_mode_that_one_has_is_taken_over_even_without_counts():
    txt2img, other, _ = two()
    bare = replace(
        other,
        modes={"img2img": replace(other.modes["txt2img"], region=uncounted(other.modes["txt2img"].region))},
    )
    merged = merge([bare, txt2img], "both")
    assert list(merged.modes) == ["txt2img", "img2img"]
    assert merged.modes["img2img"] is bare.modes["img2img"]
    assert from_bytes(merged.to_bytes()).checksum == merged.checksum


def test_what_was_covered_is_united_and_said_once():
    first, second, _ = two(
        samplers=("Euler", "DDIM"), steps=(10, 25), guidance=(3.0, 7.0), sizes=((64, 64), (96, 96)), prompts="my own"
    )
    second = replace(second, created="2026-05-01", versions=Versions("0.2.0", "2.1.2", "WebUI v1.10.1"))
    merged = merge([first, second], "both")
    covered = merged.modes["txt2img"].covered
    assert covered.samplers == ("Euler", "DPM++ 2M", "DDIM")
    assert covered.steps == (10, 30)
    assert covered.guidance == (3.0, 7.5)
    assert covered.sizes == ((64, 64), (64, 96), (96, 96))
    assert covered.trajectories == 96
    assert covered.prompts == "320 ordinary prompts of MemStab; my own"
    assert merged.name == "both"
    assert merged.created == "2026-05-01"
    assert merged.versions == Versions("0.1.0; 0.2.0", "2.1.2", "WebUI v1.10.1")


def looked_at(profile, *likenesses):
    """The profile with these likenesses of its bands."""
    region = profile.modes["txt2img"].region
    bands = tuple(replace(band, likeness=one) for band, one in zip(region.bands, likenesses, strict=True))
    return recalibrated(profile, region=replace(region, bands=bands))


def test_how_alike_pictures_are_is_pooled_as_their_numbers_say():
    rng = np.random.default_rng(6)
    sizes, values = (32, 64), (rng.normal(0.1, 0.1, 32), rng.normal(0.3, 0.2, 64))
    first, second, _ = two()
    first, second = (
        looked_at(one, Likeness(float(some.mean()), float(some.std())))
        for one, some in zip((first, second), values, strict=True)
    )
    assert sizes == tuple(one.modes["txt2img"].region.bands[0].count for one in (first, second))
    [band] = merge([first, second], "both").modes["txt2img"].region.bands
    every = np.concatenate(values)
    assert band.likeness.mean == pytest.approx(every.mean(), rel=1e-9)
    assert band.likeness.deviation == pytest.approx(every.std(), rel=1e-9)


def test_a_merged_band_says_how_alike_its_pictures_are_only_if_both_did():
    first, second, _ = two()
    known = looked_at(first, Likeness(0.1, 0.1))
    [band] = merge([known, second], "both").modes["txt2img"].region.bands
    assert band.likeness is None


def test_a_band_of_one_profile_alone_keeps_its_likeness():
    rng = np.random.default_rng(3)
    first = looked_at(made("first", ordinary(32, rng), [LOW] * 32), Likeness(0.1, 0.1))
    second = made("second", ordinary(32, rng), [HIGH] * 32)
    bands = merge([first, second], "both").modes["txt2img"].region.bands
    assert [band.likeness for band in bands] == [Likeness(0.1, 0.1), None]


def test_likeness_that_was_learned_in_two_parts_is_about_that_of_both_at_once():
    rng = np.random.default_rng(7)
    first, second, curves = two()
    alike = np.tanh(rng.normal(0.2, 0.1, 96))
    parts = []
    for one, some in ((first, alike[:32]), (second, alike[32:])):
        region = with_likeness(one.modes["txt2img"].region, [Conditions()] * len(some), some)
        parts.append(recalibrated(one, region=region))
    merged = merge(parts, "both").modes["txt2img"].region.bands[0].likeness
    whole = with_likeness(learn(curves), [Conditions()] * 96, alike).bands[0].likeness
    assert merged.mean == pytest.approx(whole.mean, abs=0.02)
    assert merged.deviation == pytest.approx(whole.deviation, rel=0.3)


def uncounted(region):
    return replace(region, bands=tuple(replace(band, count=None) for band in region.bands))


def unhashed(profile, name):
    return replace(profile, checkpoint=Checkpoint(name, None))


def recalibrated(profile, **changes):
    return replace(profile, modes={"txt2img": replace(profile.modes["txt2img"], **changes)})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda second: replace(second, checkpoint=Checkpoint("other", "f" * 64)), "of different checkpoints"),
        (lambda second: unhashed(second, second.checkpoint.name), "of different checkpoints"),
        (lambda second: replace(second, latent=Latent(16)), "of different latents"),
        (lambda second: replace(second, prediction="v_prediction"), "of different predictions"),
        (lambda second: replace(second, statistic=replace(second.statistic, reference_guidance=9.0)), "statistics"),
        (lambda second: recalibrated(second, region=uncounted(second.modes["txt2img"].region)), "second does not say"),
        (lambda second: recalibrated(second, covered=replace(COVERED, loras=("ink",))), "different LoRAs"),
        (lambda second: made("second", np.where(CAME, ordinary(32, RNG), np.nan)), "different noise levels"),
        (lambda second: replace(two()[0], name="a copy"), "share trajectories"),
        (lambda second: merge(two()[:2], "both before"), "share trajectories"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, reason):
    first, second, _ = two()
    with pytest.raises(ProfileError, match=reason):
        merge([first, change(second)], "both")


def test_checkpoints_without_a_hash_go_by_name():
    first, second, _ = two()
    assert merge([unhashed(first, "dreamy"), unhashed(second, "dreamy")], "both").checkpoint == Checkpoint(
        "dreamy", None
    )
    with pytest.raises(ProfileError, match="different checkpoints"):
        merge([unhashed(first, "dreamy"), unhashed(second, "other")], "both")


def test_one_profile_is_nothing_to_merge_and_a_bad_name_is_refused():
    first, second, _ = two()
    with pytest.raises(ProfileError, match="two profiles or more"):
        merge([first], "both")
    with pytest.raises(ProfileError, match="no name for a profile"):
        merge([first, second], "../both")
