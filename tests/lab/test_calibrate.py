"""The lab's machine under the calibration of the WebUI."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torchsde")

from lib_memstab import cli
from lib_memstab.calibration.batches import batches_of
from lib_memstab.core import profile as profiles
from lib_memstab.lab.calibrate import OWN, Lab, calibrate, lab_checkpoint
from lib_memstab.lab.experiment import PROFILE

PROMPTS = tuple(f"a {color} {shape}" for color in ("red", "blue", "green", "white") for shape in ("star", "ring"))
PLAN = replace(OWN, guidance=(7.5,), prompts=PROMPTS, trajectories=32, steps=4, batch_size=8, width=64, height=64)


def test_a_batch_is_the_same_in_one_process_and_in_two():
    batch = batches_of(PLAN, "txt2img")[0]
    one, two = (Lab(jobs).sample(PLAN, batch) for jobs in (1, 2))
    assert np.allclose(one.curves, two.curves, atol=1e-5, equal_nan=True)
    assert np.allclose(one.response, two.response, atol=1e-5)
    assert float((one.latents.float() - two.latents.float()).abs().max()) < 0.01
    assert len(one.latents) == len(batch.prompts)


def test_the_profile_is_the_lab_models(tmp_path):
    profile = calibrate(replace(PLAN, modes=("txt2img",)), 1, tmp_path / "unfinished")
    assert profile.name == PROFILE.stem
    assert profile.checkpoint == lab_checkpoint()
    assert profile.checkpoint.sha256 == profiles.load(PROFILE).checkpoint.sha256
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_too_few_trajectories_are_bad_use(tmp_path, caplog):
    assert cli.main(["calibrate", "--trajectories", "9", "--out", str(tmp_path)]) == 2
    assert "at least" in caplog.text
    assert list(tmp_path.iterdir()) == []
