"""A job in the stand-in WebUI: verdicts for each image, untouched pictures, and nothing that stays behind."""

import copy
import logging
import random
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lib_memstab import badge
from lib_memstab.core.report import combine
from lib_memstab.host import images, tap
from tests.core.test_monitor import HostWaits
from tests.host import standin

DETECT, SUPPRESS = {"mode": "detect"}, {"mode": "suppress"}
REPLAY, PLAIN, OTHER = "a replay of something", "ordinary prompt 216", "ordinary prompt 202"


def verdicts(pictures):
    return [one.report.verdict for one in pictures]


@pytest.mark.parametrize("sampler", standin.SAMPLERS)
def test_detect_changes_nothing_and_suppress_only_what_is_flagged(extension, equal, sampler):
    prompts = [PLAIN, REPLAY, OTHER]
    off, detect, suppress = (extension.sample(prompts, mode, sampler=sampler) for mode in (None, DETECT, SUPPRESS))
    assert verdicts(detect) == ["clear", "flagged", "clear"]
    assert verdicts(suppress) == ["clear", "suppressed", "clear"]
    assert all(equal(one, other) for one, other in zip(off, detect, strict=True))
    assert [equal(one, other) for one, other in zip(off, suppress, strict=True)] == [True, False, True]
    near = [float((one[1].latent - extension.model.picture).norm()) for one in (off, suppress)]
    assert near[1] > near[0]
    assert off[0].report is None
    assert off[0].infotext == {}


def test_a_sampler_that_guides_by_a_part_of_its_scale_is_held_against_that_part(extension, made):
    """A band for no guidance in which no path is a long one: only who is held against it is clear."""
    known = made.profile.modes["txt2img"]
    (band,) = known.region.bands
    low = replace(band, conditions=replace(band.conditions, guidance=1.0), mean=band.mean + 1, count=None)
    region = replace(known.region, bands=(low, replace(band, count=None)))

    def found(**covered):
        calibration = replace(known, region=region, covered=replace(known.covered, **covered))
        extension.store.save(replace(made.profile, name="stand-in", modes={"txt2img": calibration}))
        return [extension.sample([REPLAY], DETECT, sampler=one)[0].report.verdict for one in ("DDIM", "DDIM CFG++")]

    assert found() == ["flagged", "clear"]
    assert found(samplers=("DDIM CFG++",)) == ["flagged", "flagged"]


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_a_negative_prompt_that_says_the_same_hides_nothing(extension, equal, sampler):
    jobs = [
        extension.sample([REPLAY, f"{PLAIN} AND {REPLAY}"], mode, negative="a replay of else", sampler=sampler)
        for mode in (None, DETECT)
    ]
    assert all(equal(one, other) for one, other in zip(*jobs, strict=True))
    reports = [one.report for one in jobs[1]]
    assert [(one.verdict, one.steps.first_outside) for one in reports] == [("flagged", 1)] * 2
    assert {one.extra_evaluations for one in reports} == {reports[0].extra_evaluations}
    assert 1 <= reports[0].extra_evaluations <= 7
    assert verdicts(extension.sample([PLAIN], DETECT, negative=OTHER, sampler=sampler)) == ["clear"]
    assert extension.sample([PLAIN], DETECT)[0].report.extra_evaluations == 0


def test_a_model_that_cannot_be_asked_without_a_prompt_leaves_the_picture(extension, equal, monkeypatch):
    monkeypatch.setattr(standin.Denoiser, "inner_model", lambda *_, **__: 1 / 0)
    off, on = (extension.sample([REPLAY], mode, negative="blurry")[0] for mode in (None, SUPPRESS))
    assert equal(off, on)
    assert on.report.verdict == "not measured"
    assert "ZeroDivisionError" in on.report.reason


def test_every_image_of_every_batch_has_its_own_badge(extension):
    prompts = [REPLAY, PLAIN, OTHER, REPLAY]
    pictures = extension.sample(prompts, DETECT, batch_size=2)
    assert verdicts(pictures) == ["flagged", "clear", "clear", "flagged"]
    assert [one.infotext["MemStab verdict"].split()[0] for one in pictures] == verdicts(pictures)
    assert extension.grid["MemStab verdict"] == "2 clear / 2 flagged"
    assert extension.job.extra_generation_params["MemStab verdict"] == "2 clear / 2 flagged"
    assert [one.verdict for one in extension.hooks.latest] == verdicts(pictures)


def test_hires_measures_both_passes(extension, equal):
    off, on = extension.sample([REPLAY], None, hires=True), extension.sample([REPLAY], SUPPRESS, hires=True)
    report = on[0].report
    assert [one.name for one in report.passes] == ["base", "hires"]
    assert report.passes[0].verdict == "suppressed"
    assert report.steps.measured == 35
    assert not equal(off[0], on[0])
    plain = extension.sample([PLAIN], DETECT, hires=True)[0].report
    assert [one.verdict for one in plain.passes] == ["clear", "clear"]


def test_images_saved_before_the_hires_pass_have_the_first_passs_verdict(extension):
    extension.sample([PLAIN, OTHER, REPLAY, PLAIN], DETECT, hires=True, batch_size=2, init_latent=None)
    early = [one["MemStab verdict"].split()[0] for one in extension.job.saved_before_hires]
    assert early == ["flagged", "clear"]


def test_files_saved_before_the_hires_pass_carry_its_report(extension):
    chunks = []

    def save_at_hires(p):
        if p.is_hr_pass:
            for _ in p.prompts:
                params = SimpleNamespace(image=None, p=p, filename="1-before-highres-fix.png", pnginfo={})
                images.carry(params)
                chunks.append(badge.from_chunk(params.pnginfo["memstab"]).verdict)

    extension.sample([REPLAY, PLAIN], DETECT, [save_at_hires], hires=True)
    assert chunks == ["flagged", "clear"]


def test_the_loop_never_makes_the_host_wait(extension):
    waits, calls = HostWaits(), []

    def watched(callback):
        def call(params):
            calls.append(callback)
            # The first evaluation puts tables on the device.
            with waits if len(calls) > 3 else nullcontext():
                callback(params)

        return [call]

    callbacks = extension.callbacks
    for kind in ("denoiser", "denoised", "after"):
        setattr(callbacks, kind, watched(getattr(callbacks, kind)[0]))
    pictures = extension.sample([REPLAY, f"{PLAIN} AND {OTHER}"], SUPPRESS)
    assert verdicts(pictures) == ["suppressed", "clear"]
    assert len(calls) == 60
    assert waits.count == 0


def test_inpainting_changes_only_inside_the_mask(extension):
    inside = torch.zeros(standin.SHAPE)
    inside[:, 4:12, 4:12] = 1
    masked = {"init_latent": torch.zeros(1, *standin.SHAPE), "nmask": inside, "mask": 1 - inside}
    off, on = extension.sample([REPLAY], None, **masked)[0], extension.sample([REPLAY], SUPPRESS, **masked)[0]
    assert on.report.verdict == "suppressed"
    assert torch.equal((off.latent * (1 - inside)), (on.latent * (1 - inside)))
    assert not torch.equal(off.latent, on.latent)


def test_and_parts_are_one_image(extension, equal):
    prompts = [PLAIN, f"{REPLAY} AND {OTHER} :0.5", OTHER]
    off, on = extension.sample(prompts), extension.sample(prompts, SUPPRESS)
    assert verdicts(on) == ["clear", "suppressed", "clear"]
    assert [equal(one, other) for one, other in zip(off, on, strict=True)] == [True, False, True]


def test_prompt_editing_is_followed(extension, equal):
    prompts = [f"[{PLAIN}:{REPLAY}:0.3]", f"[{PLAIN}:{OTHER}:0.3]"]
    off, on = extension.sample(prompts), extension.sample(prompts, SUPPRESS)
    assert verdicts(on) == ["suppressed", "clear"]
    assert on[0].report.steps.first_outside > 1
    assert [equal(one, other) for one, other in zip(off, on, strict=True)] == [False, True]


def test_long_prompts_of_several_chunks_are_followed(extension, equal):
    prompts = ["word " * 90 + REPLAY]
    off, on = extension.sample(prompts)[0], extension.sample(prompts, SUPPRESS)[0]
    assert on.report.verdict == "suppressed"
    assert not equal(off, on)


def test_skipped_evaluations_are_not_measured_and_not_touched(extension, equal):
    on = extension.sample([PLAIN], SUPPRESS, skip_uncond_from=12)[0]
    assert on.report.verdict == "clear"
    assert on.report.steps.measured == 12
    assert on.report.reason == "12 of 20 evaluations could be measured"
    never = extension.sample([REPLAY], SUPPRESS, skip_uncond_from=0)[0]
    assert never.report.verdict == "not measured"
    assert equal(never, extension.sample([REPLAY], skip_uncond_from=0)[0])


@pytest.mark.parametrize("how", ["interrupted", "skipped"])
def test_a_stopped_job_is_partial(extension, how):
    def stop_at_nine(p):
        original = p.sampler.callback_state

        def step(state):
            setattr(extension.state, how, state["i"] == 8)
            return original(state)

        p.sampler.callback_state = step

    on = extension.sample([REPLAY], DETECT, [stop_at_nine])[0]
    assert on.report.partial == (9, 20)
    assert on.report.steps.measured == 9
    assert "partial 9 of 20" in on.infotext["MemStab verdict"]


def test_without_a_profile_the_badge_says_what_to_do(bare, equal):
    off, on = bare.sample([REPLAY])[0], bare.sample([REPLAY], SUPPRESS)[0]
    assert equal(off, on)
    assert on.report.verdict == "not measured"
    assert "Calibrate" in on.report.reason
    named = bare.sample([REPLAY], {"profile": "mine"})[0]
    assert named.report.reason.startswith("there is no profile mine")


def test_another_checkpoint_has_no_profile_and_a_switch_inside_is_said(extension):
    def switch(p):
        original = p.sampler.callback_state

        def step(state):
            if state["i"] == 5:
                extension.model.sd_checkpoint_info = type(info)(name_for_extra="refiner", sha256="cd" * 32)
            return original(state)

        p.sampler.callback_state = step

    info = extension.model.sd_checkpoint_info
    on = extension.sample([PLAIN], SUPPRESS, [switch])[0]
    assert on.report.verdict == "clear"
    assert on.report.steps.measured == 6
    assert "from evaluation 7 on another checkpoint, refiner" in on.report.reason
    assert "there is no profile for refiner" in extension.sample([PLAIN], SUPPRESS)[0].report.reason


def test_an_inner_error_leaves_the_picture_alone_and_is_logged_once(extension, equal, monkeypatch, caplog):
    monkeypatch.setattr(extension.host, "chunks", lambda text: 1 / 0)
    off = extension.sample([REPLAY])[0]
    with caplog.at_level(logging.WARNING, logger="memstab"):
        on = extension.sample([REPLAY], SUPPRESS)[0]
    assert len(caplog.records) == 1
    assert on.report.verdict == "not measured"
    assert "ZeroDivisionError" in on.report.reason
    assert off.latent.shape == on.latent.shape


def test_bad_arguments_by_a_way_past_the_api_are_not_measured(extension, equal):
    off, on = extension.sample([REPLAY])[0], extension.sample([REPLAY], {"sensitivity": 0})[0]
    assert equal(off, on)
    assert on.report.verdict == "not measured"
    assert "'sensitivity' should be a number from 2 to 100000" in on.report.reason


def test_a_copy_of_the_job_is_foreign(extension):
    seen = []

    def inner_job(p):
        seen.append(tap.watch_of(copy.copy(p)))
        seen.append(tap.watch_of(p))

    extension.sample([PLAIN], DETECT, [inner_job])
    assert seen[0] is None
    assert seen[1] is not None
    assert tap.watch_of(extension.job) is None


def test_a_copy_that_begins_a_job_of_its_own_does_not_take_the_badge(extension):
    def another_extension(p):
        extension.hooks.process(copy.copy(p), [{"enabled": True, "sensitivity": 7}])

    on = extension.sample([REPLAY, PLAIN], DETECT, [another_extension], batch_size=1)
    assert [one.infotext["MemStab"] for one in on] == ["detect 100 strength 1"] * 2
    assert verdicts(on) == ["flagged", "clear"]


def test_keys_of_an_earlier_job_do_not_leak(extension):
    entries = {}
    extension.sample([REPLAY], DETECT, extra_generation_params=entries)
    assert entries
    extension.sample([REPLAY], None, extra_generation_params=entries)
    assert entries == {}


def test_a_sampler_that_serves_several_batches_is_wrapped_once(extension):
    from lib_memstab.host.steps import StepCounter, count_steps

    class Target:
        steps_done = 0

        def ends(self):
            return False

    class Simple:
        def callback_state(self, state):
            return state["i"]

    sampler, first, second = Simple(), Target(), Target()
    count_steps(sampler, first, extension.host.end_pass)
    count_steps(sampler, second, extension.host.end_pass)
    assert sampler.callback_state({"i": 4}) == 4
    assert (first.steps_done, second.steps_done) == (0, 5)
    assert not isinstance(sampler.callback_state._original, StepCounter)


def test_the_gravest_pass_decides(extension):
    base = extension.sample([REPLAY], DETECT)[0].report
    clear = extension.sample([PLAIN], DETECT)[0].report
    assert combine([("base", clear), ("hires", base)]).verdict == "flagged"
    assert combine([("base", base)]) is base
    both = combine([("base", clear), ("hires", base)])
    assert both.steps.measured == clear.steps.measured + base.steps.measured
    assert both.trace == base.trace


def test_a_prompt_is_read_in_windows_only_where_a_picture_may_be_touched(extension, monkeypatch):
    asked = []
    encoder = extension.host.encoder
    monkeypatch.setattr(extension.host, "encoder", lambda text: asked.append(text) or encoder(text))
    for arguments in ({"mode": "detect"}, {"strength": 0}):
        extension.sample([PLAIN], arguments)
    extension.model.sd_checkpoint_info.sha256 = "cd" * 32
    assert extension.sample([PLAIN], SUPPRESS)[0].report.verdict == "not measured"
    assert asked == []
    extension.model.sd_checkpoint_info.sha256 = "ab" * 32
    extension.sample([PLAIN], SUPPRESS)
    assert asked == [PLAIN]


def test_a_job_with_a_lora_is_told_from_what_was_calibrated(extension):
    network = type("Params", (), {"items": ["style", "0.8"]})()
    use = extension.sample([PLAIN], DETECT, extra_network_data={"lora": [network]})[0].report.profile
    assert use.match == "transfer"
    assert "LoRA style, which was not active at calibration" in use.reason
    off = extension.sample([PLAIN], DETECT, extra_network_data={"lora": [network]}, disable_extra_networks=True)
    assert off[0].report.profile.match == "exact"


def test_an_extra_evaluation_leaves_the_chance_of_hypertile_as_it_was(extension, monkeypatch):
    chance = random.Random(5)
    monkeypatch.setitem(sys.modules, "hypertile", SimpleNamespace(RNG_INSTANCE=chance))
    evaluate = standin.Denoiser.evaluate
    monkeypatch.setattr(standin.Denoiser, "evaluate", lambda *args: (chance.random(), evaluate(*args))[1])
    ends = []
    for mode in (None, DETECT):
        chance.seed(5)
        report = extension.sample([PLAIN], mode, negative="blurry")[0].report
        ends.append(chance.random())
    assert report.extra_evaluations > 0
    assert ends[0] == ends[1]
