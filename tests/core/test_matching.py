"""Whether a profile applies to a job, and the reason it gives."""

from dataclasses import replace

import pytest

from lib_memstab.core.matching import match
from lib_memstab.core.profile import STATISTIC, Calibration, Checkpoint
from tests.core.test_profile import COVERED, PROFILE, REGION

JOB = {
    "checkpoint": PROFILE.checkpoint,
    "channels": 4,
    "mode": "txt2img",
    "sampler": "Euler",
    "scheduler": "Automatic",
    "steps": 20,
    "guidance": 7.5,
    "size": (64, 64),
}


def test_a_job_like_the_calibration_is_exact():
    found = match(PROFILE, **JOB)
    assert found.state == "exact"
    assert found.reason.endswith("on 16 images, which bear out false alarms of 1 in 10.")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sampler": "Heun"}, "sampler Heun"),
        ({"scheduler": "Karras"}, "schedule Karras"),
        ({"steps": 31}, "31 steps"),
        ({"guidance": 12.0}, "guidance 12"),
        ({"size": (96, 64)}, "latents of 96 by 64"),
        ({"checkpoint": Checkpoint(PROFILE.checkpoint.name, None)}, "known by its name only"),
        ({"sampler": "Heun", "steps": 10}, "sampler Heun, 10 steps"),
        ({"loras": ("ink wash",)}, "LoRA ink wash, which was not active at calibration"),
    ],
)
def test_the_same_checkpoint_sampled_otherwise_is_a_transfer(change, reason):
    found = match(PROFILE, **{**JOB, **change})
    assert found.state == "transfer"
    assert reason in found.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"channels": 16}, "latents of 4 channels, not 16"),
        ({"mode": "img2img"}, "not calibrated for img2img"),
        ({"checkpoint": Checkpoint(PROFILE.checkpoint.name, "f" * 64)}, "not the loaded checkpoint"),
        ({"checkpoint": Checkpoint("other", None)}, "not the loaded checkpoint"),
    ],
)
def test_what_a_profile_is_not_for(change, reason):
    found = match(PROFILE, **{**JOB, **change})
    assert found.state == "none"
    assert reason in found.reason


@pytest.mark.parametrize(
    "change",
    [{"over": "sigma"}, {"smaller_end": False}, {"evened": False}, {"upwards": False}, {"reference_guidance": 15}],
)
def test_a_profile_of_another_statistic_judges_nothing(change):
    found = match(replace(PROFILE, statistic=replace(STATISTIC, **change)), **JOB)
    assert (found.state, found.reason) == ("none", f"{PROFILE.name} was made by a MemStab that measured otherwise.")


def test_the_loras_of_the_calibration_belong_to_it():
    covered = replace(COVERED, loras=("ink wash",))
    profile = replace(PROFILE, modes={"txt2img": Calibration(REGION, covered)})
    assert match(profile, **JOB, loras=("ink wash",)).state == "exact"
    without = match(profile, **JOB)
    assert without.state == "transfer"
    assert "no LoRA ink wash, which was active at calibration" in without.reason
