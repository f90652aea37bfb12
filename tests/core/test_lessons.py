"""What ordinary generations teach, and what among them teaches nothing."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib_memstab.core import lessons
from lib_memstab.core.calibration import learn
from lib_memstab.core.lessons import (
    EACH,
    FEWEST,
    Lesson,
    calibrations,
    digest,
    lesson_path,
    ordinary,
    replayed_prompts,
    sketch_of,
    sound_sketch,
)
from lib_memstab.core.plain import from_plain, parse_object, to_plain
from lib_memstab.core.region import GRID, Conditions
from tests.core import test_region


def made(place, curve, prompt=None, sketch="", **changes):
    offset, path = lesson_path(curve)
    lesson = Lesson(
        mode="txt2img",
        sampler="Euler",
        scheduler="Automatic",
        steps=20,
        channels=4,
        size=(64, 64),
        conditions=Conditions(7.5, 14.6146),
        offset=offset,
        path=path,
        prompt=digest(prompt or f"prompt {place}"),
        sketch=sketch,
        day="2026-01-01",
    )
    return replace(lesson, **changes)


def many(count, seed=1, **changes):
    return [
        made(place, one, **changes)
        for place, one in enumerate(test_region.ordinary(count, np.random.default_rng(seed)))
    ]


def picture(seed):
    return sketch_of(torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(seed)))


def test_a_lesson_comes_back_from_a_line_of_text():
    curve = test_region.ordinary(1, np.random.default_rng(3))[0]
    curve[:4] = curve[-2:] = np.nan
    lesson = made(0, curve, sketch=picture(1))
    again = from_plain(Lesson, to_plain(lesson))
    np.testing.assert_array_equal(again.curve(), lesson.curve())
    np.testing.assert_allclose(again.curve(), curve, atol=1e-5)
    assert replace(again, path=lesson.path) == lesson
    assert parse_object(json.dumps(to_plain(lesson)))["offset"] == 4


def test_of_a_path_with_gaps_or_without_a_point_nothing_is_kept():
    curve = np.full(len(GRID), np.nan)
    assert lesson_path(curve) is None
    curve[[3, 5]] = 0.1
    assert lesson_path(curve) is None


def test_many_lessons_make_the_region_of_their_paths():
    calibration = calibrations(many(120))["txt2img"]
    whole = learn(test_region.ordinary(120, np.random.default_rng(1)))
    np.testing.assert_allclose(calibration.region.bands[0].mean, whole.bands[0].mean, atol=1e-5)
    assert calibration.covered.trajectories == calibration.region.count == whole.count
    assert calibration.covered.prompts == lessons.SOURCE
    assert calibrations(many(FEWEST - 1)) == {}


def test_conditions_that_are_nearly_alike_share_a_band_and_rare_ones_are_left_out():
    near = [replace(one, conditions=Conditions(7.4, 14.5)) for one in many(20, 2)]
    rare = [replace(one, conditions=Conditions(3.0, 14.6146)) for one in many(7, 3)]
    other = [replace(one, mode="img2img", conditions=Conditions(7.5, 1.8)) for one in many(40, 4)]
    found = calibrations([*many(40), *near, *rare, *other])
    assert [band.count for band in found["txt2img"].region.bands] == [found["txt2img"].region.count]
    assert found["txt2img"].region.count > 55
    assert found["txt2img"].covered.guidance == (7.5, 7.5)
    assert set(found) == {"txt2img", "img2img"}


def test_a_prompt_teaches_a_few_times_only():
    same = [replace(one, prompt=digest("again and again")) for one in many(100)]
    assert len(ordinary(same)) == EACH
    assert calibrations(same) == {}
    assert digest("two  words ") == digest("two words") != digest("two wordS")


def test_a_prompt_whose_pictures_are_alike_teaches_nothing():
    latent = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(9))
    near = sketch_of(latent + 0.5 * torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(10)) + 3)
    replay = [replace(one, prompt=digest("a replay")) for one in many(3)]
    replay = [
        replace(one, sketch=sketch) for one, sketch in zip(replay, (picture(5), sketch_of(latent), near), strict=True)
    ]
    fresh = [replace(one, prompt=digest("fresh"), sketch=picture(seed)) for seed, one in enumerate(many(4, 2))]
    assert replayed_prompts([*replay, *fresh]) == {digest("a replay")}
    assert ordinary([*replay, *fresh]) == fresh
    elsewhere = replace(replay[1], size=(32, 32))
    assert replayed_prompts([elsewhere, replay[2]]) == set()


@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 8, 24), (16, 128, 96)])
def test_a_sketch_is_small_and_knows_nothing_of_brightness_and_contrast(shape):
    latent = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    sketch = sketch_of(latent)
    assert sound_sketch(sketch)
    assert len(base64.b64decode(sketch)) == shape[0] * min(shape[1], 16) * min(shape[2], 16)
    same = lessons.alike([sketch, sketch_of(2 * latent.half() + 5)])
    assert same[0, 1] > 0.99


def test_what_is_no_sketch_is_known():
    assert sketch_of(torch.zeros(4, 16, 16)) == sketch_of(torch.full((4, 16, 16), torch.nan)) == ""
    assert sound_sketch("")
    assert not sound_sketch("%%%")
    assert not sound_sketch("A" * 8000)
