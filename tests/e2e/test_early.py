"""Early action in the real WebUI: sampling that ends at the alarm, and other seeds for flagged images."""

import re

import pytest

STOP, DETECT, SUPPRESS = {"mode": "stop"}, {"mode": "detect"}, {"mode": "suppress"}
HIRES = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.5, "hr_upscaler": "Latent"}


def retry(count):
    return {"mode": "retry", "retries": count}


def seed_of(picture):
    return int(re.search(r"Seed: ([0-9]+)", picture.infotext).group(1))


def test_stop_ends_every_samplers_loop_at_the_alarm(calibrated, memorized):
    samplers = [one["name"] for one in calibrated.call("/sdapi/v1/samplers")[1]]
    assert len(samplers) >= 19
    stopped = []
    for name in samplers:
        detect, stop = (calibrated.one(memorized[2], mode, sampler_name=name).report for mode in (DETECT, STOP))
        assert stop.verdict == detect.verdict
        if detect.verdict != "flagged":
            continue
        assert stop.steps.first_outside == detect.steps.first_outside
        assert stop.steps.measured < detect.steps.measured
        done, planned = stop.partial
        assert done < planned
        stopped.append(name)
    assert len(stopped) >= 15


def test_the_next_batch_is_sampled_after_a_stop(calibrated, memorized, ordinary):
    pictures = calibrated.sample(memorized[2], STOP, n_iter=3)[-3:]
    assert [one.report.verdict for one in pictures] == ["flagged"] * 3
    assert all(one.report.partial for one in pictures)
    off, on = calibrated.one(ordinary[1]), calibrated.one(ordinary[1], STOP)
    assert on.report.verdict == "clear"
    assert on.equals(off)


def test_a_stopped_picture_has_no_hires_pass(calibrated, memorized):
    stop = calibrated.one(memorized[2], STOP, **HIRES)
    assert stop.image.size == (128, 128)
    assert stop.report.partial
    assert stop.report.passes == ()


@pytest.mark.parametrize("changes", [{}, HIRES, {"sampler_name": "DPM++ SDE"}], ids=["plain", "hires", "noisy"])
def test_after_retries_the_picture_is_that_of_its_own_seed(calibrated, memorized, changes):
    tried = calibrated.one(memorized[2], retry(2), **changes)
    assert [one.seed for one in tried.report.attempts] == [1, 2]
    assert seed_of(tried) == 3
    alone = calibrated.one(memorized[2], SUPPRESS, seed=3, **changes)
    assert alone.report.verdict == "suppressed"
    assert tried.report.verdict == "suppressed"
    assert tried.report.score == alone.report.score
    assert tried.equals(alone)


@pytest.mark.parametrize("changes", [{}, HIRES], ids=["plain", "hires"])
def test_only_the_flagged_image_of_a_batch_gets_another_seed(calibrated, memorized, ordinary, changes):
    batch = {"batch_size": 2, "probe": {"prompts": [memorized[2], ordinary[1]]}, **changes}
    off, on = calibrated.sample("", **batch)[-2:], calibrated.sample("", retry(2), **batch)[-2:]
    assert [one.report.verdict for one in on] == ["suppressed", "clear"]
    assert [[one.seed for one in picture.report.attempts] for picture in on] == [[1, 3], []]
    assert [seed_of(one) for one in on] == [4, 2]
    assert on[1].equals(off[1])


def test_img2img_retries_too(calibrated, memorized, ordinary):
    start = calibrated.one(ordinary[2]).data
    how = {"page": "img2img", "init_images": [start], "denoising_strength": 0.9}
    detect, tried = (calibrated.one(memorized[2], mode, **how) for mode in (DETECT, retry(1)))
    assert detect.report.verdict == "flagged"
    assert [one.seed for one in tried.report.attempts] == [1]
    # The WebUI encodes the start with noise that depends on the job before, so this is no equality of bits.
    alone = calibrated.one(memorized[2], SUPPRESS, seed=2, **how)
    assert tried.report.score == pytest.approx(alone.report.score, rel=0.05)
    assert abs(tried.pixels - alone.pixels).mean() < 3
