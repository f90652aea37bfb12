"""Nothing is lost on the way: the WebUI measures what the core measures, and 200 jobs leave nothing behind."""

import os
import random
from functools import partial

import numpy as np
import pytest

from lib_memstab.core import profile as profiles
from lib_memstab.core.calibration import Recorder
from lib_memstab.core.measurement import measure
from lib_memstab.core.monitor import Settings
from lib_memstab.lab.attempt import FAULTS
from lib_memstab.lab.attempts import Play, play
from lib_memstab.lab.composing import Composed
from lib_memstab.lab.experiment import PROFILE, load_lab_model
from lib_memstab.lab.sampling import Job, sample

pytestmark = pytest.mark.e2e

JOBS = int(os.environ.get("MEMSTAB_SOAK", "40"))
"""Jobs in a row; the full run has 200."""


class Watcher:
    """Measures the lab's own sampling."""

    def __init__(self):
        self.lengths = Recorder()

    def condition(self, text):
        return text

    def evaluated(self, x, sigma, eps_cond, eps_uncond, eps, evaluate):
        self.lengths.update(measure(sigma, eps_cond, eps_uncond))
        return eps


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "Heun"])
def test_the_webui_measures_the_paths_that_the_lab_measures(calibrated, memorized, ordinary, sampler):
    model, gaps = load_lab_model(), []
    for prompt in (*memorized[:4], *ordinary[:4]):
        report = calibrated.one(prompt, {"mode": "detect"}, sampler_name=sampler).report
        watcher = Watcher()
        sample(model, Job([prompt], [1], sampler=sampler), watcher)
        ours = np.array([float(length) for _, length, _ in watcher.lengths._curve])
        theirs = np.array(report.trace.norm)
        assert len(ours) == len(theirs)
        assert np.allclose([float(sigma) for sigma, _, _ in watcher.lengths._curve], report.trace.sigma, rtol=1e-5)
        gaps.append(abs(np.log(ours / theirs)).max())
    # Both compute in float32 from the same half-precision weights: up to 8e-7 was seen, rounding and nothing else.
    assert max(gaps) < 1e-5


def test_the_webui_measures_the_paths_that_the_lab_measures_under_a_negative_prompt(calibrated, memorized, ordinary):
    model, gaps = load_lab_model(), []
    region = profiles.load(PROFILE).modes["txt2img"].region
    for prompt in (*memorized[:3], *ordinary[:3]):
        report = calibrated.one(prompt, {"mode": "detect"}, negative_prompt=FAULTS).report
        _, [ours] = play(model, Play(Job([prompt], [1], negative=FAULTS)), region, Settings("detect"))
        assert ours.extra_evaluations == report.extra_evaluations >= 4
        assert (ours.second_look is None) == (report.second_look is None)
        if ours.second_look is not None:
            assert report.second_look.likeness == pytest.approx(ours.second_look.likeness, abs=1e-3)
            assert report.second_look.bound == pytest.approx(ours.second_look.bound, abs=1e-2)
        gaps.append(abs(np.log(np.array(ours.trace.norm) / np.array(report.trace.norm))).max())
    assert max(gaps) < 1e-5


def test_the_webui_looks_at_the_parts_of_a_prompt_as_the_lab_does(calibrated, memorized, ordinary):
    region, joined = profiles.load(PROFILE).modes["txt2img"].region, 0
    for prompt in (*memorized[:4], ordinary[0]):
        words = prompt.split()
        halves = [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
        report = calibrated.one(" AND ".join(halves), {"mode": "detect"}).report
        plan = Play(Job([prompt], [1]), wrap=partial(Composed, parts=[[half] for half in halves]))
        _, [ours] = play(load_lab_model(), plan, region, Settings("detect"))
        assert (ours.verdict, ours.extra_evaluations) == (report.verdict, report.extra_evaluations)
        assert report.score == pytest.approx(ours.score, abs=1e-3)
        assert (ours.second_look is None) == (report.second_look is None)
        if ours.second_look is not None:
            assert report.second_look.likeness == pytest.approx(ours.second_look.likeness, abs=1e-3)
        joined += ours.extra_evaluations >= 8
    assert joined > 0


def test_jobs_in_a_row_leave_nothing_behind(calibrated, memorized, ordinary):
    chance = random.Random(7)
    kinds = [
        {
            "prompt": chance.choice([*memorized[:4], *ordinary[:8]]),
            "seed": chance.randrange(1000),
            "steps": chance.choice([8, 12, 20]),
            "sampler_name": chance.choice(["Euler", "DDIM", "DPM++ 2M", "Euler a", "UniPC"]),
            "cfg_scale": chance.choice([1.0, 4.0, 7.5]),
            "negative_prompt": chance.choice(["", "", ordinary[9]]),
            "width": chance.choice([128, 128, 192]),
            "memstab": chance.choice([None, {"mode": "detect"}, {"sensitivity": 20}, {"strength": 0.5}]),
        }
        for _ in range(24)
    ]
    alone = [calibrated.one(**kind) for kind in kinds]
    used = []
    for number in range(JOBS):
        place = chance.randrange(len(kinds))
        again = calibrated.one(**kinds[place])
        assert again.equals(alone[place])
        assert again.report == alone[place].report
        assert ("MemStab" in again.infotext) == (kinds[place]["memstab"] is not None)
        if number in (JOBS // 4, JOBS - 1):
            used.append(calibrated.call("/sdapi/v1/memory")[1]["ram"]["used"])
    assert used[1] < used[0] + 50e6
