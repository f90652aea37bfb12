"""Early action: sampling that ends at the alarm, other seeds for flagged images, and what their badges say of it."""

import logging

import pytest
import torch

from lib_memstab import badge
from lib_memstab.core.report import Attempt
from lib_memstab.host.early import SEEDS, other_seeds
from tests.host import standin

REPLAY, PLAIN = "a replay of something", "ordinary prompt 216"
STOP, RETRY, DETECT = {"mode": "stop"}, {"mode": "retry"}, {"mode": "detect"}
FIRST = standin.SEED


def evaluations(extension):
    return extension.job.sampler.model_wrap_cfg.step


def verdicts(pictures):
    return [picture.report.verdict for picture in pictures]


@pytest.mark.parametrize("sampler", list(standin.SAMPLERS))
def test_stop_ends_the_sampling_of_a_flagged_image_at_its_alarm(extension, sampler):
    [whole] = extension.sample([REPLAY], DETECT, sampler=sampler)
    needed = evaluations(extension)
    [picture] = extension.sample([REPLAY], STOP, sampler=sampler)
    done, planned = picture.report.partial
    assert picture.report.verdict == "flagged"
    assert picture.report.steps.first_outside == whole.report.steps.first_outside
    assert done < planned
    assert evaluations(extension) < needed
    assert "ended there" in badge.words(picture.report)
    assert f"partial {done} of {planned}" in picture.infotext["MemStab verdict"]


def test_the_job_goes_on_with_its_next_batch(extension, equal):
    prompts = [REPLAY, PLAIN, REPLAY]
    off = extension.sample(prompts, batch_size=1)
    pictures = extension.sample(prompts, STOP, batch_size=1)
    assert verdicts(pictures) == ["flagged", "clear", "flagged"]
    assert [picture.report.partial is None for picture in pictures] == [False, True, False]
    assert equal(pictures[1], off[1])


def test_a_batch_is_not_ended_while_one_of_its_images_is_clear(extension, equal):
    off = extension.sample([REPLAY, PLAIN])
    pictures = extension.sample([REPLAY, PLAIN], STOP)
    assert verdicts(pictures) == ["flagged", "clear"]
    assert all(picture.report.partial is None for picture in pictures)
    assert all(equal(one, other) for one, other in zip(pictures, off, strict=True))


def test_a_hires_pass_is_left_out_after_the_end(extension):
    [picture] = extension.sample([REPLAY], STOP, hires=True)
    assert picture.report.partial is not None
    assert picture.report.passes == ()
    assert not extension.job.is_hr_pass
    assert not {"sample", "sample_hr_pass"} & set(vars(extension.job))
    [clear] = extension.sample([PLAIN], STOP, hires=True)
    assert [one.name for one in clear.report.passes] == ["base", "hires"]


def test_retry_gives_a_flagged_image_the_next_free_seed(extension, equal, caplog):
    caplog.set_level(logging.INFO, "memstab")
    prompts, fresh = [REPLAY, PLAIN], (FIRST + 3,)
    off = extension.sample(prompts)
    pictures = extension.sample(prompts, RETRY, fresh_seeds=fresh)
    assert verdicts(pictures) == ["clear", "clear"]
    assert equal(pictures[1], off[1])
    assert [picture.seed for picture in pictures] == [FIRST + 3, FIRST + 1]
    assert extension.job.all_seeds == [FIRST + 3, FIRST + 1]
    tried = pictures[0].report.attempts
    assert [one.seed for one in tried] == [FIRST, FIRST + 2]
    assert all(isinstance(one, Attempt) and one.score > 2 and one.first_outside >= 1 for one in tried)
    assert pictures[1].report.attempts == ()
    assert f"2 other seeds looked like a replay: {FIRST}, {FIRST + 2}." in badge.words(pictures[0].report)
    assert f"sampled again with seed {FIRST + 3}" in caplog.text
    [alone] = extension.sample([REPLAY], DETECT, all_seeds=[FIRST + 3], fresh_seeds=fresh)
    assert equal(pictures[0], alone)


def test_the_last_of_the_seeds_is_steered_away(extension):
    [picture] = extension.sample([REPLAY], {**RETRY, "retries": 2})
    assert picture.report.verdict == "suppressed"
    assert picture.report.partial is None
    assert [one.seed for one in picture.report.attempts] == [FIRST, FIRST + 1]
    assert picture.seed == FIRST + 2
    assert picture.infotext["MemStab"] == "retry 100 strength 1 retries 2"


def test_other_seeds_are_sampled_no_longer_than_to_their_alarms(extension):
    extension.sample([REPLAY], DETECT)
    whole = evaluations(extension)
    counted = []
    extension.sample([REPLAY], {**RETRY, "retries": 2}, [lambda p: counted.append(p.sampler)])
    counts = [sampler.model_wrap_cfg.step for sampler in counted]
    assert len(counts) == 3
    assert counts[0] < whole
    assert counts[1] < whole
    assert counts[2] == whole


def test_every_batch_has_its_own_retries_and_seeds_no_other_image_has(extension):
    pictures = extension.sample([REPLAY, PLAIN, REPLAY], {**RETRY, "retries": 1}, batch_size=1)
    assert [picture.seed for picture in pictures] == [FIRST + 3, FIRST + 1, FIRST + 4]
    assert [[one.seed for one in picture.report.attempts] for picture in pictures] == [[FIRST], [], [FIRST + 2]]
    assert verdicts(pictures) == ["suppressed", "clear", "suppressed"]


def test_retries_work_with_a_hires_pass_and_in_img2img(extension):
    [picture] = extension.sample([REPLAY], RETRY, hires=True, fresh_seeds=(FIRST + 1,))
    assert picture.report.verdict == "clear"
    assert [one.name for one in picture.report.passes] == ["base", "hires"]
    start = torch.zeros(1, *standin.SHAPE)
    [picture] = extension.sample([REPLAY], RETRY, init_latent=start, fresh_seeds=(FIRST + 1,))
    assert picture.report.verdict == "clear"
    assert [one.seed for one in picture.report.attempts] == [FIRST]


def test_an_interrupt_ends_the_retries(extension):
    def interrupt(p):
        original = p.sampler.callback_state

        def step(state):
            extension.state.interrupted = True
            return original(state)

        p.sampler.callback_state = step

    [picture] = extension.sample([REPLAY], RETRY, [interrupt])
    extension.state.interrupted = False
    assert picture.seed == FIRST
    assert picture.report.attempts == ()


def test_without_an_alarm_nothing_differs_from_detect(extension, equal):
    detect = extension.sample([PLAIN, "ordinary prompt 217"], DETECT)
    for mode in (STOP, RETRY):
        pictures = extension.sample([PLAIN, "ordinary prompt 217"], mode)
        assert all(equal(one, other) for one, other in zip(pictures, detect, strict=True))
        assert [one.report.trace for one in pictures] == [one.report.trace for one in detect]


def test_an_image_that_cannot_be_judged_is_not_retried(bare):
    [picture] = bare.sample([REPLAY], RETRY)
    assert picture.report.verdict == "not measured"
    assert picture.seed == FIRST


def test_images_of_a_second_sampling_teach_once(extension):
    extension.learning = True
    extension.sample([REPLAY, PLAIN], RETRY)
    assert len(extension.learner.lessons(extension.host.checkpoint())) == 1


def failing(text):
    def fail(p, seeds):
        raise RuntimeError(text)

    return fail


def test_where_there_is_no_noise_of_other_seeds_no_picture_is_left_half_done(extension, monkeypatch, caplog, equal):
    [steered] = extension.sample([REPLAY], {"mode": "suppress"})
    monkeypatch.setattr(extension.host, "noise", failing("no such noise"))
    [picture] = extension.sample([REPLAY], RETRY)
    assert equal(picture, steered)
    assert (picture.report.verdict, picture.report.partial, picture.seed) == ("suppressed", None, FIRST)
    [told] = extension.job.comments
    assert "no such noise" in told
    assert "steered away with their own" in told
    assert caplog.text.count("no such noise), so") == 1


def test_a_host_that_fails_to_make_ready_for_other_seeds_leaves_what_is_known_and_says_why(
    extension, monkeypatch, caplog
):
    monkeypatch.setattr(extension.host, "reseed", failing("no such LoRA"))
    pictures = extension.sample([REPLAY, PLAIN, REPLAY], RETRY, batch_size=1)
    assert verdicts(pictures) == ["flagged", "clear", "flagged"]
    for picture in (pictures[0], pictures[2]):
        done, planned = picture.report.partial
        assert done < planned
        assert picture.report.attempts == ()
        assert "could not be sampled with another seed (RuntimeError: no such LoRA)" in picture.report.reason
    assert [picture.seed for picture in pictures] == [FIRST, FIRST + 1, FIRST + 2]
    assert caplog.text.count("a flagged image was not finished") == 2
    assert ["no such LoRA" in told for told in extension.job.comments] == [True]


def test_an_error_in_what_follows_a_sampling_leaves_the_picture(extension, monkeypatch):
    def fail(seeds):
        raise RuntimeError("no reports")

    [off] = extension.sample([PLAIN])
    monkeypatch.setattr("lib_memstab.host.job.Job.to_retry", lambda self, seeds: fail(seeds))
    [picture] = extension.sample([PLAIN], RETRY)
    assert torch.equal(picture.latent, off.latent)
    assert picture.report.verdict == "not measured"
    assert "no reports" in picture.report.reason


def test_another_extensions_own_sample_is_kept(extension):
    called = []
    job = standin.Job([REPLAY], fresh_seeds=(FIRST + 1,))
    original = job.sample

    def theirs(**kwargs):
        called.append(kwargs["seeds"])
        return original(**kwargs)

    job.sample = theirs
    standin.run(job, extension.hooks, [{"enabled": True, **RETRY}], extension.callbacks)
    assert called == [[FIRST], [FIRST + 1]]
    assert job.sample is theirs


def test_seeds_begin_anew_after_the_largest_one():
    assert other_seeds([SEEDS - 1, 7], [SEEDS - 1, 7, 0], [0, 1]) == [1, 2]
    assert other_seeds([3, 4, 5], [3, 4, 5], [1]) == [3, 6, 5]
