"""Second looks in the stand-in WebUI: a replay that stays below its bound, with a profile that knows likeness."""

import importlib
import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch

from lib_memstab.calibration.ordinary import SOURCE as CHOSEN
from lib_memstab.core import profile as profiles
from lib_memstab.core.monitor import Monitor
from lib_memstab.core.region import MOST_ALIKE, Likeness
from lib_memstab.core.second_look import LEVELS, MARKS, MUCH_RARER, RARER, SUSPICIOUS
from lib_memstab.host import passes
from tests.host import standin

REPLAY, PLAIN, OTHER = "a replay of something", "ordinary prompt 216", "ordinary prompt 202"
DETECT, SUPPRESS = {"mode": "detect"}, {"mode": "suppress"}
ALIKE = Likeness(math.atanh(MOST_ALIKE) - MARKS[0].usual * 0.5, 0.5)
"""Of ordinary pictures that are so much alike that no look lowers a bound."""


def wide(profile, score, likeness):
    """The profile with this likeness in every band, and peaks so far out that `score` is suspicious, and no more."""
    modes, normal = {}, NormalDist(sigma=0.48 * score)
    for mode, one in profile.modes.items():
        region = one.region
        bands = tuple(replace(band, likeness=likeness) for band in region.bands)
        peaks = np.array([normal.inv_cdf((place + 0.5) / region.count) for place in range(region.count)])
        region = replace(region, bands=bands, peaks=peaks)
        assert region.threshold(SUSPICIOUS) < score < region.threshold(100)
        modes[mode] = replace(one, region=region)
    return replace(profile, modes=modes)


@pytest.fixture
def give(extension, made):
    """Gives the extension such a profile, in which the stand-in's replay is below the bound."""
    score = report_of(extension, REPLAY).score

    def give(likeness):
        profiles.save(wide(made.profile, score, likeness), extension.folder)
        return extension

    return give


@pytest.fixture
def looking(give):
    """The extension with a profile by which the stand-in's ordinary pictures are hardly alike."""
    return give(Likeness(0.0, 0.1))


def report_of(extension, prompt, memstab=DETECT, **changes):
    return extension.sample([prompt], memstab, **changes)[0].report


def test_without_likeness_in_the_profile_nobody_looks(give):
    report = report_of(give(None), REPLAY)
    assert (report.verdict, report.second_look, report.extra_evaluations) == ("clear", None, 0)


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M", "DDIM"])
def test_a_replay_below_its_bound_is_found_by_a_second_look(looking, equal, sampler):
    prompts = [PLAIN, REPLAY, OTHER]
    off, detect, suppress = (looking.sample(prompts, mode, sampler=sampler) for mode in (None, DETECT, SUPPRESS))
    assert [one.report.verdict for one in detect] == ["clear", "flagged", "clear"]
    assert [one.report.verdict for one in suppress] == ["clear", "suppressed", "clear"]
    assert all(equal(one, other) for one, other in zip(off, detect, strict=True))
    assert [equal(one, other) for one, other in zip(off, suppress, strict=True)] == [True, False, True]
    found = detect[1].report
    assert found.second_look.likeness > 0.7
    assert found.second_look.bound < found.score
    assert found.extra_evaluations == len(LEVELS)
    assert [one.report.extra_evaluations for one in (detect[0], detect[2])] == [0, 0]


def test_a_replay_that_is_flagged_by_its_path_gets_no_look(looking):
    report = report_of(looking, REPLAY, {"mode": "detect", "sensitivity": SUSPICIOUS - 1})
    assert (report.verdict, report.second_look, report.extra_evaluations) == ("flagged", None, 0)


def test_what_is_as_alike_as_ordinary_pictures_are_is_left_alone(give):
    report = report_of(give(ALIKE), REPLAY)
    assert report.verdict == "clear"
    assert report.extra_evaluations == 2 * len(LEVELS)  # it comes farther than a third of the way to its bound
    assert report.second_look.bound > report.score


@pytest.mark.parametrize(
    ("sampler", "match", "prompts", "rarer"),
    [
        ("Euler", "exact", "prompts the caller gave", RARER),
        ("LMS", "transfer", "prompts the caller gave", MUCH_RARER),
        ("Euler", "exact", CHOSEN, MUCH_RARER),
    ],
)
def test_by_a_profile_of_other_settings_or_prompts_an_unlike_image_has_to_come_much_farther(
    give, sampler, match, prompts, rarer
):
    extension = give(Likeness(2.9, 0.5))
    [path] = extension.folder.glob("*.json")
    profile = profiles.load(path)
    modes = {mode: replace(one, covered=replace(one.covered, prompts=prompts)) for mode, one in profile.modes.items()}
    profiles.save(replace(profile, modes=modes), extension.folder)
    report = report_of(extension, REPLAY, sampler=sampler)
    assert report.profile.match == match
    assert report.second_look.bound == pytest.approx(modes["txt2img"].region.threshold(rarer * 100), rel=1e-4)


@pytest.mark.parametrize(
    ("how", "calibrated"),
    [
        ({}, True),
        ({"sampler": "LMS"}, False),
        ({"sampler": "LMS", "init_latent": torch.zeros(1, *standin.SHAPE)}, True),
    ],
)
def test_in_img2img_which_begins_near_its_end_it_has_not(extension, monkeypatch, how, calibrated):
    told = []

    class Listening(Monitor):
        def __init__(self, *given, **named):
            told.append(named["calibrated"])
            super().__init__(*given, **named)

    monkeypatch.setattr(passes, "Monitor", Listening)
    report_of(extension, PLAIN, **how)
    assert told == [calibrated]


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_parts_and_negative_prompts_are_looked_at_as_they_are_sampled(looking, sampler):
    assert report_of(looking, f"{PLAIN} AND {REPLAY}", sampler=sampler).verdict == "flagged"
    report = report_of(looking, REPLAY, negative=OTHER, sampler=sampler)
    assert report.verdict == "flagged"
    assert report.second_look is not None


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_parts_are_looked_at_as_one_text_too(give, monkeypatch, sampler):
    webui = importlib.import_module("lib_memstab.host.a1111").WebUI
    asked, encode = [], webui.encode

    def listening(host, params, text):
        asked.append(text)
        return encode(host, params, text)

    monkeypatch.setattr(webui, "encode", listening)
    prompts = [f"{REPLAY} AND {PLAIN} AND {OTHER} :-0.1", PLAIN]
    looking = give(ALIKE)  # so that nothing is flagged for the first look
    reports = [one.report for one in looking.sample(prompts, DETECT, sampler=sampler)]
    assert [one.extra_evaluations for one in reports] == [2 * len(LEVELS), 0]
    assert asked == ["", f"{REPLAY} {PLAIN}"]


def test_a_hires_pass_gets_no_look_of_its_own(looking):
    report = report_of(looking, REPLAY, hires=True)
    assert report.verdict == "flagged"
    assert report.extra_evaluations == len(LEVELS)


@pytest.mark.parametrize("shown", [(9, 16, 16), None])
def test_where_the_model_is_shown_a_picture_nobody_looks(looking, monkeypatch, shown):
    asked = standin.Denoiser.__call__

    def call(denoiser, x, level, **extra):
        def show(params):
            if shown is None:  # ControlNet's mark in front of every text
                front = torch.zeros(1, 1, standin.WIDTH)
                params.text_cond, params.text_uncond = (
                    torch.cat([front.expand(len(text), -1, -1), text], 1)
                    for text in (params.text_cond, params.text_uncond)
                )
            else:
                params.image_cond = torch.zeros(len(params.x), *shown)

        callbacks = denoiser.callbacks
        denoiser.callbacks = standin.Callbacks([show, *callbacks.denoiser], callbacks.denoised, callbacks.after)
        found = asked(denoiser, x, level, **extra)
        denoiser.callbacks = callbacks
        return found

    monkeypatch.setattr(standin.Denoiser, "__call__", call)
    report = report_of(looking, REPLAY)
    assert (report.verdict, report.second_look, report.extra_evaluations) == ("clear", None, 0)


def test_a_look_that_fails_leaves_the_picture_as_without_memstab(looking, equal, monkeypatch):
    monkeypatch.setattr(standin.Denoiser, "inner_model", lambda *_, **__: 1 / 0)
    off, on = (looking.sample([REPLAY], mode)[0] for mode in (None, SUPPRESS))
    assert equal(off, on)
    assert on.report.verdict == "not measured"
    assert "ZeroDivisionError" in on.report.reason


def test_an_image_is_judged_the_same_in_every_batch(looking):
    alone = report_of(looking, REPLAY, all_seeds=[7])
    among = looking.sample([PLAIN, REPLAY], DETECT, all_seeds=[3, 7])[1].report
    assert among.second_look.likeness == pytest.approx(alone.second_look.likeness, abs=1e-5)
    assert among.score == pytest.approx(alone.score)
    assert among.steps.first_outside == alone.steps.first_outside
