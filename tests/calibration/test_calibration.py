"""A calibration: what it samples, how it is asked for, and what stopping and failing leave behind."""

import os
import re
import threading
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib_memstab.calibration.batches import GLANCES, OTHER_SEED, Sampled, batches_of
from lib_memstab.calibration.calibrator import Calibrator
from lib_memstab.calibration.ordinary import listed, of_frequent, of_read, ordinary_prompts, read_ones, whole_words
from lib_memstab.calibration.plan import ENOUGH, LOOK_STEPS, SCALES, STRENGTHS, Plan, Way, read_plan
from lib_memstab.calibration.work import profile_name
from lib_memstab.core.profile import Checkpoint
from lib_memstab.core.region import GRID
from lib_memstab.core.second_look import GUIDANCE
from lib_memstab.settings import SettingsError

PLAN = Plan("Euler", "Automatic", 20, 128, 128, (7.5, 1.0), ordinary_prompts(), trajectories=64, batch_size=5)
WORDS = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
CHOICES = (["Euler", "DDIM"], ["Automatic", "Karras"])


class Machine:
    """Invents curves and latents; `gate` holds the first batch back.

    Prompts of `replayed` have one picture; pictures of another prompt have in common what `shared` says, 0..1.
    """

    name = "test"

    def __init__(self):
        self.batches, self.starts, self.gate, self.fail, self.interrupted = [], [], threading.Event(), None, False
        self.gate.set()
        self.begun, self.told = threading.Event(), 0
        self.replayed, self.shared = (), 0.0
        self.fits, self.stop_after, self.seconds = 99, None, 0.0

    def networks(self, prompts):
        return ("style",) if any("<lora:style" in prompt for prompt in prompts) else ()

    def interrupt(self):
        self.told += 1

    def checkpoint(self):
        return Checkpoint("my model", "ab" * 32)

    def prediction(self):
        return "epsilon"

    def vocabulary(self):
        return WORDS

    def run(self, work, batches):
        self.total = batches
        work()

    def sample(self, plan, batch):
        self.begun.set()
        self.gate.wait(10)
        if self.fail:
            raise self.fail
        if len(batch.prompts) > self.fits:
            raise torch.cuda.OutOfMemoryError
        if self.interrupted or len(self.batches) == self.stop_after:
            return None
        time.sleep(self.seconds)
        self.batches.append(batch)
        noise = np.stack([np.random.default_rng(seed).standard_normal(1 + len(GRID)) for seed in batch.seeds])
        curves = 0.01 * noise[:, :1] + 0.001 * noise[:, 1:]
        start = {"Euler": 15.0, "DDIM": 12.0 if batch.steps == plan.steps else 9.0}[batch.way.sampler]
        start *= batch.way.strength
        response = np.array([float("wordc" in prompt) for prompt in batch.prompts])
        is_replay = [prompt in self.replayed for prompt in batch.prompts]
        curves[np.array(is_replay)] += 0.03
        latents = torch.stack([*map(self.picture, batch.prompts, batch.seeds)])
        return Sampled(curves, np.full(len(curves), start), response, latents.half())

    def picture(self, prompt, seed):
        def noise(number):
            return torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(number))

        if prompt in self.replayed:
            return noise(1)
        return self.shared * noise(zlib.crc32(prompt.encode())) + (1 - self.shared**2) ** 0.5 * noise(seed)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def saved():
    return []


@pytest.fixture
def calibrator(machine, saved, tmp_path):
    return Calibrator(machine, saved.append, lambda: tmp_path / "unfinished")


def finished(calibrator):
    for _ in range(500):
        if not calibrator.busy:
            return calibrator.progress
        time.sleep(0.01)
    raise AssertionError("the calibration did not end")


def test_a_profile_comes_of_ordinary_prompts_in_both_modes(machine, saved, calibrator):
    assert calibrator.start(PLAN)
    progress = finished(calibrator)
    assert (progress.state, progress.done, progress.total) == ("done", 192, 192)
    assert machine.total == len(machine.batches)
    [profile] = saved
    assert progress.profile == profile.name == "my model"
    bands = [band.conditions for band in profile.modes["txt2img"].region.bands]
    assert {(band.guidance, band.negative, band.start) for band in bands} == {
        (7.5, False, 15.0),
        (7.5, True, 15.0),
        (7.5, False, 12.0),
        (1.0, False, 15.0),
    }
    again = [batch for batch in machine.batches if batch.seeds[0] >= OTHER_SEED]
    assert sorted(prompt for batch in again for prompt in batch.prompts) == sorted(PLAN.prompts[:64])
    ways = {(batch.steps, batch.way, negative) for batch in again for negative in batch.negatives}
    assert ways == {(LOOK_STEPS, Way(GUIDANCE, "Euler"), "")}
    assert len(profile.modes["img2img"].region.bands) == len(STRENGTHS)
    assert profile.modes["txt2img"].covered.guidance == (1.0, 7.5)
    begun = torch.cat([batch.init for batch in machine.batches if batch.mode == "img2img"])
    assert len(torch.unique(begun, dim=0)) == len(begun) == 64


def test_a_profile_says_how_alike_the_pictures_of_ordinary_prompts_are(machine, saved, calibrator):
    machine.shared = 0.5
    machine.replayed = PLAN.prompts[3:40:9]
    assert calibrator.start(PLAN)
    assert finished(calibrator).state == "done"
    for mode in ("txt2img", "img2img"):
        region = saved[0].modes[mode].region
        known = [band.likeness for band in region.bands]
        # Half of the one and of the other latent is the prompt's, the rest each one's own.
        assert np.tanh([one.mean for one in known]) == pytest.approx(0.25, abs=0.03)
        assert all(0.02 < one.deviation < 0.1 for one in known)
        assert region.likeness(7.5) is not None


def test_img2img_is_sampled_from_prompts_that_were_looked_at_twice_only(machine, saved, calibrator):
    machine.replayed = (*PLAN.prompts[3:40:9], *PLAN.prompts[64:])
    assert calibrator.start(PLAN)
    assert finished(calibrator).state == "done"
    used = {prompt for batch in machine.batches if batch.mode == "img2img" for prompt in batch.prompts}
    looked_at = {prompt for batch in machine.batches if batch.seeds[0] >= OTHER_SEED for prompt in batch.prompts}
    assert used == looked_at - set(machine.replayed)


def test_prompts_that_replay_a_picture_are_left_out(machine, saved, calibrator):
    machine.replayed = PLAN.prompts[3:40:9]
    assert calibrator.start(PLAN)
    assert "5 prompts that replay a picture were left out" in finished(calibrator).message
    # One of the others may be taken for a replay by its path alone.
    assert PLAN.trajectories - 5 - saved[0].modes["txt2img"].covered.trajectories in (0, 1)
    used = {prompt for batch in machine.batches if batch.mode == "img2img" for prompt in batch.prompts}
    assert used
    assert not used & set(machine.replayed)


def test_where_pictures_are_many_few_steps_over_timesteps_get_a_band_too(machine, saved, calibrator):
    plan = replace(PLAN, trajectories=6 * ENOUGH, modes=("txt2img",))
    assert len(plan.ways("txt2img")) == 1 + len(replace(plan, trajectories=6 * ENOUGH - 1).ways("txt2img")) == 6
    assert calibrator.start(plan)
    assert finished(calibrator).state == "done"
    few = [batch for batch in machine.batches if batch.way.steps is not None]
    assert {(batch.steps, batch.way) for batch in few} == {(10, Way(7.5, "DDIM", steps=10))}
    assert sum(len(batch.prompts) for batch in few) == ENOUGH
    starts = {band.conditions.start: band.count for band in saved[0].modes["txt2img"].region.bands}
    assert sorted(starts) == [9.0, 12.0, 15.0]
    assert saved[0].modes["txt2img"].covered.steps == (20, 20)
    fewer = replace(plan, steps=7)
    assert all(way.steps is None for way in fewer.ways("txt2img"))
    assert plan.evaluations() == 20 * 5 * ENOUGH + 10 * ENOUGH + LOOK_STEPS * plan.looks()


def test_a_way_of_sampling_that_replays_leave_too_few_of_is_left_out(machine, saved, calibrator):
    plan = replace(PLAN, trajectories=40)
    ways = len(plan.ways("txt2img"))
    machine.replayed = plan.prompts[1:40:ways][:2]
    assert calibrator.start(plan)
    assert finished(calibrator).state == "done"
    bands = {(band.conditions.guidance, band.conditions.negative) for band in saved[0].modes["txt2img"].region.bands}
    assert bands == {(7.5, False), (1.0, False)}


def test_where_most_prompts_replay_a_picture_nothing_is_saved(machine, saved, calibrator):
    plan = replace(PLAN, prompts=PLAN.prompts[:8])
    machine.replayed = plan.prompts[:5]
    assert calibrator.start(plan)
    assert finished(calibrator).state == "failed"
    assert "5 of 8 prompts give the same picture with every seed" in calibrator.progress.message
    assert saved == []


def test_every_trajectory_has_a_seed_of_its_own():
    for mode in ("txt2img", "img2img"):
        batches = batches_of(PLAN, mode, [torch.zeros(4, 16, 16)])
        seeds = [seed for batch in batches for seed in batch.seeds]
        assert len(seeds) == len(set(seeds)) == PLAN.trajectories
        assert max(len(batch.prompts) for batch in batches) == PLAN.batch_size


@pytest.mark.parametrize("how", ["asked", "interrupted"])
def test_stopping_saves_no_profile(machine, saved, calibrator, how):
    machine.gate.clear()
    assert calibrator.start(PLAN)
    assert not calibrator.start(PLAN)
    assert machine.begun.wait(10)
    if how == "asked":
        assert calibrator.stop()
        assert machine.told == 1
    machine.interrupted = how == "interrupted"
    machine.gate.set()
    assert finished(calibrator).state == "stopped"
    assert saved == []
    assert not calibrator.stop()
    machine.interrupted = False
    assert calibrator.start(PLAN)
    assert finished(calibrator).state == "done"


@pytest.mark.parametrize("stop_after", [3, 8, 20, 33])
def test_a_stopped_calibration_goes_on_where_it_was(machine, saved, calibrator, tmp_path, stop_after):
    machine.stop_after = stop_after
    machine.replayed = PLAN.prompts[5:20:7]
    assert calibrator.start(PLAN)
    progress = finished(calibrator)
    images = sum(len(batch.prompts) for batch in machine.batches)
    assert progress.state == "stopped"
    assert f"{images} images, is kept" in progress.message

    other = Calibrator(machine, saved.append, lambda: tmp_path / "unfinished")
    machine.stop_after = None
    assert other.start(replace(PLAN, name="resumed", batch_size=3))
    progress = finished(other)
    assert (progress.state, progress.done, progress.total) == ("done", 192, 192)
    assert sum(len(batch.prompts) for batch in machine.batches) == 192
    assert list((tmp_path / "unfinished").iterdir()) == []

    assert calibrator.start(replace(PLAN, name="at once"))
    assert finished(calibrator).state == "done"
    resumed, at_once = (one.modes for one in saved)
    for mode in resumed:
        assert np.array_equal(resumed[mode].region.peaks, at_once[mode].region.peaks)


def test_another_plan_or_a_fresh_start_measures_all_anew(machine, calibrator):
    for plan in (PLAN, replace(PLAN, steps=21), replace(PLAN, resume=False)):
        machine.batches, machine.stop_after = [], 12
        assert calibrator.start(plan)
        assert finished(calibrator).state == "stopped"
        assert len(machine.batches) == 12


def test_of_unfinished_calibrations_the_newest_are_kept(machine, calibrator, tmp_path):
    for steps in (10, 11, 12, 13, 14):
        machine.batches, machine.stop_after = [], 2
        assert calibrator.start(replace(PLAN, steps=steps))
        assert finished(calibrator).state == "stopped"
        for folder in (tmp_path / "unfinished").iterdir():
            os.utime(folder, (folder.stat().st_mtime - 1000,) * 2)
    assert len(list((tmp_path / "unfinished").iterdir())) == 3


def test_what_a_broken_file_held_is_measured_again(machine, calibrator, tmp_path, caplog):
    machine.stop_after = 6
    assert calibrator.start(PLAN)
    finished(calibrator)
    files = sorted((tmp_path / "unfinished").rglob("*.npz"))
    assert len(files) == 6
    files[0].write_bytes(files[0].read_bytes()[:100])
    files[1].write_bytes(b"")
    machine.stop_after = None
    assert calibrator.start(PLAN)
    assert finished(calibrator).state == "done"
    assert sum(len(batch.prompts) for batch in machine.batches) == 192 + 2 * PLAN.batch_size
    assert caplog.text.count("cannot be read") == 2


def test_a_full_disk_does_not_end_a_calibration(machine, saved, calibrator, tmp_path, caplog):
    (tmp_path / "unfinished").write_text("no folder")
    assert calibrator.start(PLAN)
    assert finished(calibrator).state == "done"
    assert caplog.text.count("cannot keep what this calibration measures") == 1
    assert saved


def test_images_that_do_not_fit_the_memory_at_once_are_sampled_in_smaller_batches(machine, saved, calibrator):
    machine.fits = 2
    assert calibrator.start(PLAN)
    assert finished(calibrator).done == 192
    assert {len(batch.prompts) for batch in machine.batches} == {1, 2}
    assert saved
    machine.fits = 0
    assert calibrator.start(PLAN)
    assert finished(calibrator).state == "failed"
    assert "OutOfMemoryError" in calibrator.progress.message


def test_the_time_left_and_the_region_so_far_are_told(machine, calibrator):
    machine.seconds = 0.02
    assert calibrator.start(PLAN)
    seen, counts = [], []
    while calibrator.busy:
        seen.append(calibrator.progress.seconds_left)
        counts.append(sum(region.count for region in calibrator.regions().values()))
        time.sleep(0.01)
    known = [one for one in seen if one is not None]
    assert known
    assert 0.2 < max(known) < 20
    assert known[-1] < max(known)
    assert 0 < counts[len(counts) // 2] < counts[-1]
    assert calibrator.progress.seconds_left is None


def test_a_suffix_is_added_to_every_prompt(machine, saved, calibrator):
    assert calibrator.start(replace(PLAN, suffix="<lora:style:1>"))
    assert finished(calibrator).state == "done"
    assert all(prompt.endswith(" <lora:style:1>") for batch in machine.batches for prompt in batch.prompts)
    assert {one.covered.loras for one in saved[0].modes.values()} == {("style",)}


def test_a_failure_is_told(machine, saved, calibrator):
    machine.fail = RuntimeError("out of memory")
    calibrator.start(PLAN)
    assert finished(calibrator).message == "RuntimeError: out of memory"
    assert calibrator.progress.state == "failed"
    assert saved == []


def test_the_ordinary_prompts_are_many_and_always_the_same():
    prompts = ordinary_prompts()
    assert len(prompts) == len(set(prompts)) == 512
    assert prompts == ordinary_prompts.__wrapped__()
    assert all("{" not in prompt and "(" not in prompt and ":" not in prompt.replace(": ", "") for prompt in prompts)
    words = {word for prompt in prompts for word in prompt.split()}
    assert len(words) > 300
    assert min(map(len, prompts)) < 20 < 120 < max(map(len, prompts))


def test_without_prompts_those_are_taken_that_the_model_reads(machine, saved, calibrator):
    plan = replace(PLAN, prompts=())
    assert calibrator.start(plan)
    progress = finished(calibrator)
    assert (progress.state, progress.done) == ("done", progress.total)
    assert progress.total == sum(len(batch.prompts) for batch in machine.batches)
    once = [batch for batch in machine.batches if batch.steps == 1]
    tried = {prompt for batch in once for prompt in batch.prompts if batch.seeds[0] < GLANCES[0]}
    assert len(tried) == len(WORDS) + 3 * plan.choosing().candidates
    used = {prompt for batch in machine.batches if batch.steps > 1 for prompt in batch.prompts}
    assert len(used) == plan.choosing().prompts == 32
    assert used < tried
    assert all("wordc" in prompt for prompt in used)
    assert saved[0].modes["txt2img"].covered.prompts.startswith("MemStab's own list")


def test_a_candidate_that_gives_the_same_picture_from_another_noise_is_not_chosen(machine, saved, calibrator):
    plan = replace(PLAN, prompts=())
    assert calibrator.start(plan)
    assert finished(calibrator).state == "done"
    used = {prompt for batch in machine.batches if batch.steps > 1 for prompt in batch.prompts}
    machine.replayed = sorted(used)[::3]
    machine.batches = []
    assert calibrator.start(replace(plan, name="other"))
    assert finished(calibrator).state == "done"
    again = {prompt for batch in machine.batches if batch.steps > 1 for prompt in batch.prompts}
    assert len(again) == len(used)
    assert not again & set(machine.replayed)
    seen = {prompt: set() for prompt in machine.replayed}
    for batch in machine.batches:
        for prompt, seed in zip(batch.prompts, batch.seeds, strict=True):
            if prompt in seen and seed >= GLANCES[0]:
                seen[prompt].add(seed - seed % 50_000)
    assert all(seeds == set(GLANCES) for seeds in seen.values())


def test_a_model_that_replays_whatever_it_reads_is_not_calibrated(machine, saved, calibrator):
    machine.picture = lambda prompt, seed: torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(1))
    assert calibrator.start(replace(PLAN, prompts=()))
    progress = finished(calibrator)
    assert progress.state == "failed"
    assert "calibrate with prompts of your own" in progress.message
    assert saved == []


def test_a_model_that_does_not_say_its_words_is_asked_about_the_list_only(machine, saved, calibrator):
    machine.vocabulary = list
    plan = replace(PLAN, prompts=())
    assert calibrator.start(plan)
    assert finished(calibrator).state == "done"
    tried = {prompt for batch in machine.batches for prompt in batch.prompts}
    assert tried == set(ordinary_prompts(3 * plan.choosing().candidates))


def test_the_lists_prompts_are_the_same_for_a_model_of_few_words():
    assert listed(["few", "words"], 600) == ordinary_prompts(600)


def test_prompts_of_frequent_words_hold_more_of_the_first():
    found = of_frequent(WORDS, 400)
    assert len(set(found)) == 400
    assert found == of_frequent(WORDS, 400)
    words = [word for prompt in found for word in prompt.split()]
    assert set(words) == set(WORDS)
    assert words.count("worda") > 2 * words.count("wordz")


def test_prompts_of_words_that_are_read_hold_all_alike():
    found = of_read(WORDS, 400)
    assert len(set(found)) == 400
    assert found == of_read(WORDS, 400)
    words = [word for prompt in found for word in prompt.split()]
    assert set(words) == set(WORDS)
    assert max(map(words.count, WORDS)) < 1.5 * min(map(words.count, WORDS))


def test_a_model_without_the_lists_words_gets_its_prompts_in_its_own():
    found = listed([*WORDS, "with", "the"], 400)
    letters = [word for prompt in found for word in re.findall("[A-Za-z]{3,}", prompt)]
    assert set(letters) == {*WORDS, "with", "the"}
    assert {"a", "of", "in"} < {word for prompt in found for word in prompt.split()}


def test_a_model_that_has_the_lists_words_gets_its_prompts_as_they_are():
    prompts = ordinary_prompts(400)
    words = sorted({word for prompt in prompts for word in re.findall("[a-z]{3,}", prompt.lower())})
    assert listed(words[::2] + words[1::4], 400) == prompts


def test_pieces_of_words_are_no_words():
    assert whole_words(["een", "green", "The", "on", "ground", "ound", "sun", "a-b"]) == ["green", "ground", "sun"]


def test_a_candidate_is_read_that_moves_the_model_half_as_much_as_the_median_one():
    found = read_ones([(str(place), float(place)) for place in range(101)])
    assert set(found) == {str(place) for place in range(25, 101)}
    assert found != tuple(sorted(found, key=int))
    assert read_ones([]) == ()


def test_more_candidates_are_looked_at_until_enough_do_not_replay(machine, saved, calibrator):
    plan = replace(PLAN, prompts=())
    listed_ones = listed(WORDS, plan.choosing().candidates)
    machine.replayed = sorted(one for one in listed_ones if "wordc" in one)[3:]
    assert len(machine.replayed) > 24
    assert calibrator.start(plan)
    assert finished(calibrator).state == "done"
    used = {prompt for batch in machine.batches if batch.steps > 1 for prompt in batch.prompts}
    assert not used & set(machine.replayed)
    looked = {prompt for batch in machine.batches if batch.seeds[0] >= GLANCES[0] for prompt in batch.prompts}
    assert set(machine.replayed) < looked
    assert len(looked & set(listed_ones)) > len(machine.replayed) + 8


def test_a_plan_has_defaults_for_all():
    plan = read_plan({}, *CHOICES, (768, 640))
    assert (plan.height, plan.width) == (768, 640)
    assert (plan.sampler, plan.steps, plan.guidance, plan.modes) == ("Euler", 20, SCALES, ("txt2img", "img2img"))
    assert plan.prompts == ()
    assert plan.choosing().words == 2048
    assert plan.choosing().kinds == [48, 48, 32]
    assert sum(plan.choosing().jobs()) == 4352
    own = read_plan({"prompts": ["one"] * 8, "guidance": [7, 1], "modes": "txt2img", "name": "mine"}, *CHOICES)
    assert (own.guidance, own.modes, own.name) == ((7.0, 1.0), ("txt2img",), "mine")
    assert own.prompts == ("one",) * 8
    assert sum(own.choosing().jobs()) == 0


@pytest.mark.parametrize(("trajectories", "scales"), [(32, 1), (40, 1), (48, 2), (56, 3), (64, 4), (256, 4)])
def test_few_trajectories_leave_scales_out_that_nobody_named(trajectories, scales):
    plan = read_plan({"trajectories": trajectories}, *CHOICES)
    assert plan.guidance == SCALES[:scales]
    assert plan.trajectories >= plan.fewest()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({"step": 20}, "step"),
        ({"steps": 0}, "steps"),
        ({"steps": 20.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"width": 100}, "width"),
        ({"sampler": "Elder"}, "sampler"),
        ({"scheduler": None}, "scheduler"),
        ({"guidance": 0}, "guidance"),
        ({"guidance": []}, "guidance"),
        ({"guidance": [7, 7]}, "guidance"),
        ({"modes": "img2img"}, "modes"),
        ({"prompts": ["few"]}, "prompts"),
        ({"prompts": [1] * 9}, "prompts"),
        ({"name": "../up"}, "name"),
        ({"name": 3}, "name"),
        ({"trajectories": 16}, "trajectories"),
        ({"suffix": 1}, "suffix"),
        ({"resume": "yes"}, "resume"),
        ({"pictures": 1}, "pictures"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_field(body, field):
    with pytest.raises(SettingsError) as refused:
        read_plan(body, *CHOICES)
    assert refused.value.field == field
    assert refused.value.allowed


def test_a_plan_has_enough_trajectories_for_every_band():
    for scales in ((7.0,), (7.0, 1.0, 3.0)):
        plan = replace(PLAN, guidance=scales)
        fewest = replace(plan, trajectories=plan.fewest())
        ways = {}
        for batch in batches_of(fewest, "txt2img"):
            key = (batch.way.guidance, batch.way.sampler, batch.way.negative)
            ways[key] = ways.get(key, 0) + len(batch.prompts)
        assert min(ways.values()) >= 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my model", "my model"), ("sub/dir\\über", "sub-dir-ber"), ("…", "checkpoint abababab"), ("a" * 200, "a" * 80)],
)
def test_any_checkpoint_has_a_profiles_name(name, expected):
    assert profile_name(Checkpoint(name, "ab" * 32)).startswith(expected[:19])
