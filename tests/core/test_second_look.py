"""The second look: who gets one, what comes of it, and that nobody else's image is any different for it."""

import logging
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from lib_memstab.core.detection import Detector
from lib_memstab.core.evaluation import Evaluation
from lib_memstab.core.likeness import likeness
from lib_memstab.core.measurement import measure
from lib_memstab.core.region import Likeness
from lib_memstab.core.report import SecondLook
from lib_memstab.core.second_look import (
    FROM_NOISE,
    GUIDANCE,
    IN_A_PICTURE,
    LEVELS,
    LOOKS,
    MARKS,
    MUCH_RARER,
    PART,
    RARER,
    RISE,
    SUSPICIOUS,
    UNLIKE,
    SecondLooks,
    look,
    noises,
)
from lib_memstab.core.suppression import Rule, Windows
from tests.core.looking import SIGMAS, Prompts, learned, monitor, noise, sample, strength_at, strengths_of, watched
from tests.core.test_monitor import HostWaits

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

EVALUATIONS, ONE_LOOK, ALL_LOOKS = len(SIGMAS) - 1, len(LEVELS), LOOKS * len(LEVELS)


def reports(prompts, **settings):
    watching, _ = watched(prompts, **settings)
    return watching.reports(len(prompts))


def bounds():
    return learned().threshold(SUSPICIOUS), learned().threshold(100)


def highest(rarer=RARER):
    return learned().threshold(rarer * 100)


def lowest():
    return learned().threshold(MARKS[-1].rarity)


@pytest.mark.parametrize("replay", [True, False])
def test_an_image_that_is_short_of_suspicious_gets_no_look(replay):
    strengths = [strength_at(SUSPICIOUS - less, 0, replay, "reach") for less in (2, 0.1)]
    prompts = Prompts(strengths, [replay] * 2, [0, 0])
    found = reports(prompts)
    assert prompts.calls == []
    assert [(one.verdict, one.second_look, one.extra_evaluations) for one in found] == [("clear", None, 0)] * 2


def test_a_suspicious_image_gets_a_look_of_four_evaluations_at_falling_noise_levels():
    prompts, levels = Prompts([strength_at(SUSPICIOUS + 3, replay=False), 0.2]), []

    def again(images, x, sigma, of):
        levels.append((images.tolist(), sigma.tolist(), tuple(x.shape), float(x.std())))
        return prompts.again(images, x, sigma, of)

    suspicious, calm = reports(prompts, again=again)
    assert [level for _, [level], _, _ in levels] == pytest.approx(LEVELS)
    assert {(tuple(images), shape[0]) for images, _, shape, _ in levels} == {((0,), 1)}
    assert levels[0][-1] / LEVELS[0] == pytest.approx(1, abs=0.05)
    assert (suspicious.extra_evaluations, calm.extra_evaluations) == (ONE_LOOK, 0)
    assert suspicious.second_look is not None
    assert calm.second_look is None


def test_a_replay_that_stays_below_its_bound_is_flagged_and_an_unlike_image_as_far_out_is_not():
    strengths = [strength_at(rate, 0, replay) for rate in (20, 60) for replay in (True, False)]
    found = reports(Prompts(strengths, [True, False] * 2, [0] * 4))
    low, high = bounds()
    assert all(low < one.score < high for one in found)
    assert [one.verdict for one in found] == ["flagged", "clear"] * 2
    for replay, other in (found[:2], found[2:]):
        assert replay.second_look.likeness > 0.85 > 0.4 > other.second_look.likeness
        assert replay.second_look.bound == pytest.approx(lowest())
        assert other.second_look.bound == pytest.approx(highest())
        assert replay.p_value == pytest.approx(other.p_value, rel=0.05)


def test_an_unlike_image_is_flagged_beyond_the_bound_for_rarer_false_alarms_only():
    strengths = [strength_at(100 * RARER**share, 0, replay) for share in (0.25, 0.8) for replay in (True, False)]
    prompts = Prompts([*strengths, strength_at(100 * RARER**1.25, 0, False)], [True, False] * 2 + [False], [0] * 5)
    found, without = reports(prompts), reports(prompts, again=None)
    assert all(one.score > bounds()[1] for one in found)
    assert [one.score > highest() for one in found] == [False] * 4 + [True]
    assert [one.verdict for one in without] == ["flagged"] * 5
    assert [one.verdict for one in found] == ["flagged", "clear"] * 2 + ["flagged"]
    for one in (found[1], found[3]):
        assert (one.steps.outside, one.steps.first_outside) == (0, None)
        assert one.second_look.bound > one.score
        assert one.p_value < 0.01


def test_an_image_beyond_the_highest_bound_is_flagged_at_once_and_gets_no_look():
    prompts = Prompts([2.0, strength_at(20)], [True, True], [0, 0])
    outside, suspicious = reports(prompts)
    assert [outside.verdict, suspicious.verdict] == ["flagged", "flagged"]
    assert prompts.calls == [[1]] * ONE_LOOK
    assert (outside.second_look, outside.extra_evaluations) == (None, 0)
    assert (outside.steps.first_outside, outside.steps.outside) == (1, EVALUATIONS)


def test_an_unlike_image_that_becomes_like_its_look_is_flagged_then():
    _, high = bounds()
    prompts, other = Prompts([0.4], [True], [0]), Prompts([0.4], [True], [1])
    looks, flagged = SecondLooks(learned(), 100, GUIDANCE), torch.zeros(1, dtype=torch.bool)
    score = torch.tensor([(high + highest()) / 2])
    held = [looks.bounds(evaluation_of(seen), score, flagged, prompts.again) for seen in (other, prompts)]
    assert [bool(score > bound) for bound in held] == [False, True]


def test_a_profile_of_other_ways_of_sampling_asks_for_much_more_where_an_image_is_unlike_its_look():
    region = learned()
    rates = (100 * RARER**0.5, 100 * (RARER * MUCH_RARER) ** 0.5)
    strengths = [strength_at(rate, 0, replay) for rate in rates for replay in (True, False)]
    prompts = Prompts([*strengths, strength_at(20)], [True, False] * 2 + [True], [0] * 5)
    verdicts = {
        calibrated: [one.verdict for one in reports(prompts, calibrated=calibrated)] for calibrated in (True, False)
    }
    assert verdicts[True] == ["flagged", "clear", "flagged", "flagged", "flagged"]
    assert verdicts[False] == ["flagged", "clear", "flagged", "clear", "flagged"]
    alike, unlike = reports(prompts, calibrated=False)[2:4]
    assert alike.second_look.bound == pytest.approx(lowest())
    assert unlike.second_look.bound == pytest.approx(region.threshold(MUCH_RARER * 100))


@pytest.mark.parametrize(("calibrated", "rarer"), [(True, (RARER, IN_A_PICTURE)), (False, (MUCH_RARER, MUCH_RARER))])
def test_an_unlike_image_that_began_in_a_picture_is_spared_for_longer_than_one_of_noise_alone(calibrated, rarer):
    prompts, other = Prompts([0.4] * 3, [True] * 3, [0, 1, 2]), Prompts([0.4] * 3, [True] * 3, [3, 4, 5])
    seen, level = evaluation_of(other), FROM_NOISE * LEVELS[0]
    begun = replace(seen, sigma=torch.tensor([15.0, level + 0.1, level - 0.1]))
    looks = SecondLooks(learned(), 100, GUIDANCE, calibrated=calibrated)
    score = torch.full((3,), bounds()[0] + 0.01)
    looks.awake(begun.sigma, score)
    found = looks.bounds(seen, score, torch.zeros(3) > 0, prompts.again)
    assert found.tolist() == pytest.approx([highest(rarer[0])] * 2 + [highest(rarer[1])], abs=1e-4)


def test_an_image_that_is_judged_by_one_part_gets_two_looks_at_once_at_that_part_and_at_all_as_one_text():
    prompts, asked = Prompts([0.3, 0.3, 0.3], [False] * 3, [0, 1, 2]), []

    def again(images, x, sigma, of):
        asked.append((images.tolist(), of))
        return prompts.again(images, x, sigma, of)

    looks, calm = SecondLooks(learned(), 100, GUIDANCE), torch.full((3,), bounds()[0] - 1.0)
    flagged, by_part = torch.tensor([False, False, True]), torch.tensor([True, False, True])
    for _ in range(3):
        looks.bounds(evaluation_of(prompts), calm, flagged, again, by_part)
    assert asked == [([0], "hardest part")] * ONE_LOOK + [([0], "one text")] * ONE_LOOK
    assert looks.told(calm)[0].tolist() == [2 * ONE_LOOK, 0, 0]


def test_images_of_one_batch_look_at_parts_and_prompts_each_when_it_is_due():
    prompts, asked = Prompts([0.3, 0.3], [False] * 2, [0, 1]), []

    def again(images, x, sigma, of):
        asked.append((images.tolist(), of))
        return prompts.again(images, x, sigma, of)

    looks, none = SecondLooks(learned(), 100, GUIDANCE), torch.zeros(2, dtype=torch.bool)
    low, high = bounds()
    for score in ((-1.0, -1.0), (-1.0, low + 0.01), (high - 0.01, high - 0.01)):
        looks.bounds(evaluation_of(prompts), torch.tensor(score), none, again, torch.tensor([True, False]))
    expected = [([0], "hardest part"), ([0], "one text"), ([1], "prompt"), ([0, 1], "prompt")]
    assert asked == [one for one in expected for _ in range(ONE_LOOK)]


def test_without_a_way_to_look_the_same_replay_is_not_flagged():
    prompts = Prompts([strength_at(20)], [True], [0])
    assert [one.verdict for one in reports(prompts, again=None)] == ["clear"]
    assert [one.second_look for one in reports(prompts, again=None)] == [None]


def test_further_looks_from_other_noise_come_a_third_and_two_thirds_of_the_way_to_the_bound():
    low, high = bounds()
    near, far = 0.02, 0.98
    taken, started = [], []
    looks = SecondLooks(learned(), 100, GUIDANCE)
    prompts = Prompts([0.3, 0.3])

    def again(images, x, sigma, of):
        taken.append(images.tolist())
        if float(sigma[0]) == pytest.approx(LEVELS[0]):
            started.append(x[0].clone())
        return prompts.again(images, x, sigma, of)

    shares = (
        (-near, 0),
        (near, 1),
        (1 / 3 - near, 1),
        (1 / 3 + near, 2),
        (2 / 3 - near, 2),
        (2 / 3 + near, 3),
        (far, 3),
    )
    for share, expected in (*shares, (1 + far, 3)):
        score = torch.tensor([low + share * (high - low), low - 1.0])
        looks.bounds(evaluation_of(prompts), score, torch.zeros(2, dtype=torch.bool), again)
        assert taken == [[0]] * (expected * len(LEVELS))
    extra, _, _ = looks.told(torch.zeros(2))
    assert extra.tolist() == [LOOKS * len(LEVELS), 0]
    assert len(started) == LOOKS
    for first, second in combinations(started, 2):
        assert abs(float(likeness(first[None], second[None]))) < 0.1


def evaluation_of(prompts, x=None, level=2.0):
    """An evaluation of these prompts whose images are becoming what their noise makes of them."""
    x = noise(*(60_000 + number for number in prompts.numbers)) if x is None else x
    sigma = torch.full((len(prompts),), level)
    cond, uncond = prompts.predict(x, sigma)
    return Evaluation(
        x, sigma, cond, uncond, uncond + 7.5 * (cond - uncond), 7.5, None, None, measure(sigma, cond, uncond)
    )


def seen_by_the_first_look(prompts):
    """The picture of the first look at the first of these prompts."""
    first = torch.zeros(1, dtype=torch.int64)
    return look(noises(noise(0))[:1], lambda x, sigma: prompts.again(first, x, sigma))


def as_alike(much, picture, apart):
    """A mixture of both that is like `picture` by so much."""

    def mixed(turn):
        return np.cos(turn) * picture + np.sin(turn) * apart

    low, high = 0.0, np.pi
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if float(likeness(mixed(middle), picture)) > much else (low, middle)
    return mixed(low)


def test_an_image_that_is_flagged_gets_no_look():
    low, _ = bounds()
    looks, flagged = SecondLooks(learned(), 100, GUIDANCE), torch.tensor([True, False])
    own = Prompts([0.3, 0.3])
    looks.bounds(evaluation_of(own), torch.full((2,), low + 0.1), flagged, own.again)
    assert own.calls == [[1]] * ONE_LOOK


@pytest.mark.parametrize(
    ("mean", "deviation", "counts"),
    [(0.0, 0.05, "least"), (0.0, 0.1, "least"), (0.0, 0.2, "either"), (0.0, 0.3, "usual"), (0.2, 0.2, "usual")],
)
def test_the_bound_is_highest_for_ordinary_likeness_and_lowest_for_much(mean, deviation, counts):
    low, high = bounds()
    ordinary = Likeness(mean, deviation)
    region = replace(learned(), bands=tuple(replace(band, likeness=ordinary) for band in learned().bands))
    marks = (*MARKS, PART)
    by_least, by_usual = np.arctanh([mark.least for mark in marks]), [mean + mark.usual * deviation for mark in marks]
    first, middle, last, part = {"least": by_least, "usual": by_usual, "either": np.maximum(by_least, by_usual)}[counts]
    higher_to = min(max(np.arctanh(UNLIKE.least), mean + UNLIKE.usual * deviation), first)
    prompts = Prompts([0.4], [True], [0])
    looks = SecondLooks(region, 100, GUIDANCE)
    score, flagged = torch.tensor([low + 0.01]), torch.zeros(1, dtype=torch.bool)
    assert looks.bounds(evaluation_of(prompts), torch.tensor([low - 0.01]), flagged, prompts.again) is None
    looks.bounds(evaluation_of(prompts), score, flagged, prompts.again)
    picture, apart = seen_by_the_first_look(prompts), noise(70_000)
    higher = highest(IN_A_PICTURE) - high
    lower, least_of_all, of_part = (region.threshold(mark.rarity) - high for mark in marks[1:])
    for place, change, changed_of_part in (
        (-1.0, higher, higher),
        (higher_to - RISE, higher, higher),
        (higher_to - RISE / 2, higher / 2, higher / 2),
        (higher_to, 0, 0),
        (first, 0, 0),
        ((first + middle) / 2, lower / 2, lower / 2),
        (middle, lower, lower),
        ((middle + last) / 2, (lower + least_of_all) / 2, (lower + least_of_all) / 2),
        (last, least_of_all, least_of_all),
        ((last + part) / 2, least_of_all, (least_of_all + of_part) / 2),
        (part, least_of_all, of_part),
        (part + 1, least_of_all, of_part),
    ):
        x = as_alike(np.tanh(place), picture, apart) + 5
        still = torch.zeros_like(x)
        seen = Evaluation(x, torch.ones(1), still, still, still, 7.5, None, None, measure(torch.ones(1), still, still))
        found = [looks.bounds(seen, score, flagged, prompts.again, by_part) for by_part in (None, ~flagged, flagged)]
        assert [float(one) for one in found] == pytest.approx(
            [high + change, high + changed_of_part, high + change], abs=1e-3
        )


def test_an_image_that_becomes_a_replay_without_guidance_is_alike_too():
    _, high = bounds()
    prompts = Prompts([0.4], [True], [0])
    looks = SecondLooks(learned(), 100, GUIDANCE)
    seen = evaluation_of(prompts)
    score, flagged = torch.tensor([high - 0.01]), torch.zeros(1, dtype=torch.bool)
    away = Evaluation(**{**vars(seen), "eps": seen.eps_uncond - 3 * (seen.eps_cond - seen.eps_uncond)})
    looks.bounds(away, score, flagged, prompts.again)
    _, alike, _ = looks.told(score)
    becoming = seen.x - 2.0 * seen.eps_cond
    assert float(alike) == pytest.approx(float(likeness(becoming, seen_by_the_first_look(prompts))), abs=1e-5)


def told(report):
    """What must not depend on the batch; scores are rounded as sums in other orders differ in the last digits."""
    look = report.second_look
    return (
        report.verdict,
        report.steps,
        report.extra_evaluations,
        round(report.score, 3),
        look and (round(look.likeness, 3), round(look.bound, 3)),
        tuple(round(value, 3) for value in report.trace.high),
    )


MANY = Prompts(
    [strength_at(rate, 0, True) for rate in (3, 12, 30, 90, 1000)]
    + [strength_at(rate, 0, False) for rate in (3, 12, 30, 90, 1000)]
    + [0.2, 0.2],
    [True] * 5 + [False] * 5 + [True, False],
    [0] * 12,
    [1.0] * 10 + [3.0] * 2,
)
"""The last two are flagged at once, and then come back below the bound."""


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(st.lists(st.integers(0, len(MANY) - 1), min_size=1, max_size=6))
def test_images_are_judged_alone_whatever_the_batch(places):
    found = [told(one) for one in reports(MANY.some(places))]
    alone = [told(reports(MANY.some([place]))[0]) for place in places]
    assert found == alone


def test_others_stay_bit_identical_where_one_is_steered_for_its_look():
    steered = Prompts([strength_at(20), strength_at(20, replay=False), 0.2], [True, False, False], [0, 0, 1])
    watching, latents = watched(steered, mode="suppress")
    _, untouched = watched(steered, again=None, mode="suppress")
    assert [one.verdict for one in watching.reports(3)] == ["suppressed", "clear", "clear"]
    assert torch.equal(latents[1:], untouched[1:])
    assert not torch.equal(latents[0], untouched[0])


def test_a_steered_image_is_held_against_its_lowered_bound_and_others_against_that_of_one_in_100():
    prompts = Prompts([strength_at(20), 1.0], [True, False], [0, 0])
    watching, told_of = monitor(2, mode="suppress", sensitivity=15), []
    guide = watching.rule.guide
    watching.rule.guide = lambda evaluation, flags: told_of.append(flags) or guide(evaluation, flags)
    sample(prompts, lambda *found: watching.evaluated(*found, again=prompts.again))
    assert [one.second_look is None for one in watching.reports(2)] == [False, True]
    like, unlike = torch.stack([flags.comes_back for flags in told_of]).unbind(1)
    assert like[0] == pytest.approx(lowest())
    assert (like <= learned().threshold(100)).all()
    assert unlike.tolist() == pytest.approx([learned().threshold(100)] * EVALUATIONS)


def test_a_region_without_likeness_gives_no_looks():
    prompts = Prompts([strength_at(20)], [True], [0])
    [found] = reports(prompts, region=learned(with_looks=False))
    assert (found.verdict, found.second_look, found.extra_evaluations) == ("clear", None, 0)
    assert prompts.calls == []


@pytest.mark.parametrize(
    ("sensitivity", "looks"),
    [(2, 0), (SUSPICIOUS - 0.1, 0), (SUSPICIOUS, 0), (SUSPICIOUS + 1, ONE_LOOK), (1000, ONE_LOOK)],
)
def test_a_bound_that_suspicion_does_not_come_before_gives_no_looks(sensitivity, looks):
    prompts = Prompts([strength_at(SUSPICIOUS + 0.5)], [True], [0])
    [found] = reports(prompts, sensitivity=sensitivity)
    assert found.extra_evaluations == len(prompts.calls) == looks
    assert (found.second_look is None) == (looks == 0)


def test_a_bound_below_suspicion_gives_no_look_whoever_is_not_flagged_yet():
    low, _ = bounds()
    prompts = Prompts([0.3])
    for sensitivity, calls in ((SUSPICIOUS, 0), (SUSPICIOUS - 1, 0), (SUSPICIOUS + 1, ONE_LOOK)):
        looks = SecondLooks(learned(), sensitivity, GUIDANCE)
        looks.bounds(evaluation_of(prompts), torch.tensor([low + 0.1]), torch.zeros(1, dtype=torch.bool), prompts.again)
        assert len(prompts.calls) == calls


def test_the_largest_likeness_and_the_lowest_bound_are_told():
    low, _ = bounds()
    prompts, other = Prompts([0.4], [True], [0]), Prompts([0.4], [True], [1])
    looks, score, flagged = SecondLooks(learned(), 100, GUIDANCE), torch.tensor([low + 0.1]), torch.zeros(1) > 0
    alike, unlike = evaluation_of(prompts), evaluation_of(other)
    found = []
    for seen in (unlike, alike, unlike):
        looks.bounds(seen, score, flagged, prompts.again)
        found.append([float(one) for one in looks.told(score)[1:]])
    assert found[0] == [pytest.approx(0, abs=0.2), pytest.approx(highest(IN_A_PICTURE))]
    assert found[1] == found[2] == [pytest.approx(1, abs=0.1), pytest.approx(lowest())]


def test_values_that_are_not_finite_stay_alone_and_are_not_alike():
    prompts = Prompts([strength_at(20), strength_at(20)], [True, True], [0, 0])

    def spoil(x, cond):
        cond[1, 0, 0, 0] = torch.nan

    sound, broken = reports(prompts, spoil=spoil)
    assert (sound.verdict, broken.verdict) == ("flagged", "not measured")
    assert broken.second_look is None
    [alone] = reports(prompts.some([0]))
    assert told(sound) == told(alone)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_look_that_gives_no_picture_moves_no_bound(bad):
    prompts = Prompts([strength_at(rate) for rate in (20, 20, 300)], [True] * 3, [0] * 3)

    def again(images, x, sigma, of):
        cond, uncond = prompts.again(images, x, sigma, of)
        cond[images > 0] = bad
        return cond, uncond

    sound, blind, outside = reports(prompts, again=again)
    assert [one.verdict for one in (sound, blind, outside)] == ["flagged", "clear", "flagged"]
    for one in (blind, outside):
        assert one.second_look is None
        assert one.extra_evaluations >= ONE_LOOK
    assert blind.trace.high == pytest.approx(reports(prompts, again=None)[1].trace.high)


def test_the_curve_of_a_report_has_the_bound_that_was_held_against_it():
    _, high = bounds()
    strengths = [strength_at(60), strength_at(100 * RARER**0.6, replay=False), 0.2]
    prompts = Prompts(strengths, [True, False, False], [0, 0, 1], [0.7, 1.0, 1.0])
    watching, _ = watched(prompts)
    found, steps = watching.reports(3), watching.detector.steps
    replay, other, calm = (
        np.array(
            [
                (np.log(curve) - float(step.mean[image])) / float(step.deviation[image])
                for curve, step in zip(one.trace.high, steps, strict=True)
            ]
        )
        for image, one in enumerate(found)
    )
    before = found[0].steps.first_outside - 1
    assert before > 0
    assert found[0].steps.outside == len(steps) - before
    for one in found:
        assert one.steps.outside == (np.array(one.trace.norm) > np.array(one.trace.high)).sum()
    assert replay[:before] == pytest.approx(high, rel=1e-4)
    assert replay[-1] == pytest.approx(lowest(), rel=1e-4)
    assert found[1].verdict == "clear"
    assert other[-1] == pytest.approx(highest(), rel=1e-4)
    assert calm == pytest.approx(high, rel=1e-4)
    for one in found:
        for low, step in zip(one.trace.low, steps, strict=True):
            assert np.log(low) == pytest.approx(float(step.mean[0] - high * step.deviation[0]), abs=1e-4)


def test_a_report_says_what_a_look_found_and_what_it_took():
    rates = (SUSPICIOUS - 1, SUSPICIOUS + 3, 90)
    prompts = Prompts([strength_at(rate, replay=False, by="reach") for rate in rates], [False] * 3, [0] * 3)
    calm, suspicious, near = reports(prompts)
    assert [one.extra_evaluations for one in (calm, suspicious, near)] == [0, ONE_LOOK, ALL_LOOKS]
    assert calm.second_look is None
    for one in (suspicious, near):
        assert isinstance(one.second_look, SecondLook)
        assert -1 <= one.second_look.likeness <= 1
        assert lowest() <= one.second_look.bound <= highest() * 1.001
    assert prompts.calls == [[1, 2]] * ONE_LOOK + [[2]] * 2 * ONE_LOOK


def test_an_error_in_a_look_ends_the_measurement_and_leaves_the_picture_as_it_is(caplog):
    prompts = Prompts([strength_at(20), 0.2], [True, False], [0, 1])

    def again(images, x, sigma, of):
        raise RuntimeError("no such model")

    plain = sample(prompts, lambda x, sigma, cond, uncond, eps: eps)
    with caplog.at_level(logging.WARNING, logger="memstab"):
        watching, latents = watched(prompts, again=again, mode="suppress")
    assert torch.equal(latents, plain)
    assert len(caplog.records) == 1
    assert {one.verdict for one in watching.reports(2)} == {"not measured"}
    assert "no such model" in watching.reports(2)[0].reason


def test_looks_flag_few_ordinary_images_and_spare_more():
    prompts = Prompts(strengths_of(400, 5), numbers=range(5000, 5400))
    found = reports(prompts)
    without = reports(prompts, again=None)
    looked = [one for one in found if one.second_look is not None]
    assert 0.35 < len(looked) / len(found) * SUSPICIOUS < 1.4
    changed = [(one.verdict, other.verdict) for one, other in zip(found, without, strict=True)]
    for_looks, spared = changed.count(("flagged", "clear")), changed.count(("clear", "flagged"))
    assert for_looks <= 2
    assert spared >= for_looks + 2


def test_half_types_are_looked_at_as_well():
    prompts = Prompts([strength_at(20)], [True], [0])
    found = []

    def again(images, x, sigma, of):
        found.append(x.dtype)
        return tuple(one.half() for one in prompts.again(images, x, sigma, of))

    watching = monitor(1)

    def watch(x, sigma, cond, uncond, eps):
        return watching.evaluated(x.half(), sigma, cond.half(), uncond.half(), eps.half(), again=again).float()

    sample(prompts, watch)
    assert [one.verdict for one in watching.reports(1)] == ["flagged"]
    assert set(found) == {torch.float16}


@pytest.mark.parametrize("mode", ["suppress", "detect"])
def test_the_loop_reads_back_once_an_evaluation_and_without_likeness_never(mode):
    silent = learned(with_looks=False)
    # At the evaluation that wakes it, it looks who is suspicious as well.
    for region, sensitivity, waits in ((learned(), 100, EVALUATIONS + 1), (learned(), SUSPICIOUS, 0), (silent, 100, 0)):
        prompts = Prompts([strength_at(20), strength_at(90, replay=False), 2.0, 0.2], [True, False, True, False])
        with HostWaits() as counted:
            watched(prompts, region=region, mode=mode, sensitivity=sensitivity)
        assert counted.count == waits


@pytest.mark.parametrize("mode", ["suppress", "detect"])
@pytest.mark.parametrize("rule", [Rule, Windows])
def test_what_is_spared_while_nobody_is_suspicious_changes_nothing(monkeypatch, mode, rule):
    # The first two pull little at first: one is found by its look, the other by its path alone.
    prompts = Prompts([0.4, 0.6, 0.2], [True, True, False], [0, 1, 2], [0.3, 0.3, 1.0])
    asked = []

    def run():
        watching, latents = watched(prompts, mode=mode, rule=rule)
        return latents, watching.reports(len(prompts)), watching.detector.trace()

    guide = rule.guide
    monkeypatch.setattr(rule, "guide", lambda *args: asked.append(1) or guide(*args))
    spared = run()
    few = len(asked)
    monkeypatch.setattr(SecondLooks, "awake", lambda *args: True)
    whole = run()
    assert torch.equal(spared[0], whole[0])
    assert spared[1] == whole[1]
    assert torch.equal(spared[2], whole[2])
    assert [one.verdict == "clear" for one in spared[1]] == [False, False, True]
    assert min(one.steps.first_outside for one in spared[1][:2]) > 3
    if mode == "suppress":
        assert 0 < few < EVALUATIONS - 3
        assert len(asked) == few + EVALUATIONS


def test_a_batch_of_which_nobody_is_suspicious_is_measured_and_no_more(monkeypatch):
    def fail(*args):
        raise AssertionError("nobody is suspicious")

    monkeypatch.setattr(Windows, "guide", fail)
    monkeypatch.setattr(SecondLooks, "bounds", fail)
    prompts = Prompts([strength_at(SUSPICIOUS - 0.1, 0, False, "reach"), 0.2], [False] * 2, [0, 1])
    watching, _ = watched(prompts, mode="suppress")
    found = watching.reports(2)
    assert [(one.verdict, one.steps.measured, one.second_look) for one in found] == [("clear", EVALUATIONS, None)] * 2
    high = learned().threshold(100)
    assert all(len(one.trace.high) == EVALUATIONS and one.score < high for one in found)
    assert watching.flagged is None


def test_what_comes_back_below_its_bound_is_outside_only_where_a_part_of_the_prompt_was_judged():
    low, high = bounds()
    for hardest, expected in ((None, False), (1.0, False), (3.0, True)):
        detector = Detector(learned(), high, GUIDANCE)
        for level, strength in ((14.6, 0.3), (8.0, 0.05), (4.0, 0.05), (2.0, 0.05), (1.0, 0.05)):
            seen = evaluation_of(Prompts([strength]), level=level).measured
            detector.update(seen, None if hardest is None else hardest * seen.update_norm())
        last, score = float(detector.steps[-1].excess), float(detector.score)
        assert last < low
        assert (score > low) == (hardest == 3.0)
        assert not detector.judge()
        assert bool(detector.judge(torch.tensor([low]))) == expected
        assert not detector.judge(torch.tensor([high + 0.1]))


@pytest.mark.parametrize(("negative", "rarity", "expected"), [(True, 9, True), (True, 11, False), (False, 9, False)])
def test_what_comes_back_is_outside_against_a_negative_prompt_where_it_is_clearly_like_its_look(
    negative, rarity, expected
):
    bound, high = learned().threshold(rarity), bounds()[1]
    detector = Detector(learned(), high, GUIDANCE, negative)
    for level, strength in ((14.6, 0.5), (10.0, 0.5), (8.0, 0.5), (6.0, 0.05), (2.0, 0.05), (1.0, 0.05)):
        detector.update(evaluation_of(Prompts([strength]), level=level).measured)
    assert float(detector.steps[-1].excess) < bound < float(detector.score) < high
    assert not detector.judge()
    assert bool(detector.judge(torch.tensor([bound]))) == expected
