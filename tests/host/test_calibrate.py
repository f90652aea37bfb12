"""A calibration: what it samples, how it is asked for, and what stopping and failing leave behind."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from lib_memstab.core.profile import Checkpoint
from lib_memstab.core.region import GRID
from lib_memstab.host.calibrate import STRENGTHS, Calibrator, Plan, Sampled, batches_of, profile_name
from lib_memstab.host.ordinary import ordinary_prompts
from lib_memstab.host.plan import read_plan
from lib_memstab.settings import SettingsError

PLAN = Plan("Euler", "Automatic", 20, 128, 128, (7.5, 1.0), ordinary_prompts(), "test", trajectories=64, batch_size=5)
CHOICES = (["Euler", "DDIM"], ["Automatic", "Karras"])


class Machine:
    """Invents curves; `gate` holds the first batch back."""

    name = "test"

    def __init__(self):
        self.batches, self.starts, self.gate, self.fail, self.interrupted = [], [], threading.Event(), None, False
        self.gate.set()
        self.begun, self.told = threading.Event(), 0

    def interrupt(self):
        self.told += 1

    def checkpoint(self):
        return Checkpoint("my model", "ab" * 32)

    def prediction(self):
        return "epsilon"

    def run(self, work, batches):
        self.total = batches
        work()

    def sample(self, plan, batch, pictures):
        self.begun.set()
        self.gate.wait(10)
        if self.fail:
            raise self.fail
        if self.interrupted:
            return None
        self.batches.append(batch)
        self.starts.append(list(pictures))
        chance = np.random.default_rng(batch.seeds[0])
        curves = 0.01 * chance.standard_normal((len(batch.prompts), len(GRID)))
        start = 15.0 if batch.mode == "txt2img" else 10 * batch.strength
        return Sampled(curves, np.full(len(curves), start), 4, (16, 16), [f"picture {seed}" for seed in batch.seeds])


def finished(calibrator):
    for _ in range(500):
        if not calibrator.busy:
            return calibrator.progress
        time.sleep(0.01)
    raise AssertionError("the calibration did not end")


def test_a_profile_comes_of_ordinary_prompts_in_both_modes():
    machine, saved = Machine(), []
    calibrator = Calibrator(machine, saved.append)
    assert calibrator.start(PLAN)
    progress = finished(calibrator)
    assert (progress.state, progress.done, progress.total) == ("done", 128, 128)
    assert machine.total == len(machine.batches)
    [profile] = saved
    assert progress.profile == profile.name == "my model"
    bands = [band.conditions for band in profile.modes["txt2img"].region.bands]
    assert {(band.guidance, band.negative) for band in bands} == {(7.5, False), (7.5, True), (1.0, False)}
    assert len(profile.modes["img2img"].region.bands) == len(STRENGTHS)
    assert profile.modes["txt2img"].covered.guidance == (1.0, 7.5)
    begun = [picture for batch, own in zip(machine.batches, machine.starts, strict=True) for picture in own if batch]
    assert len(begun) == 64
    assert all(str(picture).startswith("picture") for picture in begun)


def test_every_trajectory_has_a_seed_of_its_own():
    for mode in ("txt2img", "img2img"):
        seeds = [seed for batch in batches_of(PLAN, mode) for seed in batch.seeds]
        assert len(seeds) == len(set(seeds)) == PLAN.trajectories
        assert max(len(batch.prompts) for batch in batches_of(PLAN, mode)) == PLAN.batch_size


@pytest.mark.parametrize("how", ["asked", "interrupted"])
def test_stopping_saves_nothing(how):
    machine, saved = Machine(), []
    machine.gate.clear()
    calibrator = Calibrator(machine, saved.append)
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


def test_a_failure_is_told():
    machine, saved = Machine(), []
    machine.fail = RuntimeError("out of memory")
    calibrator = Calibrator(machine, saved.append)
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


def test_a_plan_has_defaults_for_all():
    plan = read_plan({}, *CHOICES)
    assert (plan.sampler, plan.steps, plan.guidance, plan.modes) == ("Euler", 20, (7.0,), ("txt2img", "img2img"))
    assert plan.prompts == ordinary_prompts()
    own = read_plan({"prompts": ["one"] * 8, "guidance": [7, 1], "modes": "txt2img", "name": "mine"}, *CHOICES)
    assert (own.guidance, own.modes, own.name) == ((7.0, 1.0), ("txt2img",), "mine")
    assert own.source != plan.source


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
            key = (batch.guidance, any(batch.negatives))
            ways[key] = ways.get(key, 0) + len(batch.prompts)
        assert min(ways.values()) >= 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my model", "my model"), ("sub/dir\\über", "sub-dir-ber"), ("…", "checkpoint abababab"), ("a" * 200, "a" * 80)],
)
def test_any_checkpoint_has_a_profiles_name(name, expected):
    assert profile_name(Checkpoint(name, "ab" * 32)).startswith(expected[:19])
