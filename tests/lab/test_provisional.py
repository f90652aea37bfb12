"""One region for several models: the committed one, and a made-up one whose ordinary paths are longer."""

import json
import os
from dataclasses import replace

import pytest

pytest.importorskip("torchsde")

from lib_memstab import cli
from lib_memstab.lab import transfer_tables
from lib_memstab.lab.experiment import MODEL_FOLDER, OTHER_MODEL_NAME
from lib_memstab.lab.provisional import leave_one_out, record_model
from lib_memstab.lab.transfer import Plan


@pytest.fixture(scope="module")
def model():
    return record_model(MODEL_FOLDER, Plan(calibration=16, ordinary=2, seeds=1), 1)


def test_a_model_is_recorded_in_a_process_that_knows_it(model):
    assert model.name == "lab/model"
    assert model.curves.shape[0] == len(model.conditions) == 16
    assert model.memorized.copied.sum() > 30
    assert OTHER_MODEL_NAME not in os.environ


def test_a_model_is_held_against_the_others(model):
    longer = replace(model, name="longer", curves=model.curves + 3)
    ours, theirs = leave_one_out([model, longer], 10)
    assert ours["own"]["copies"][1] == theirs["own"]["copies"][1] == model.memorized.copied.sum()
    # By paths that are so much longer no copy is far out.
    assert ours["others"]["copies"][0] == 0
    assert ours["own"]["copies"][0] > 30
    told = transfer_tables.provisional({"rows": [ours, theirs], "sensitivity": 10})
    assert told.count("lab/model") == told.count("longer") == 2
    json.dumps([ours, theirs])


def test_two_models_are_needed(tmp_path, caplog):
    assert cli.main(["bench", "--provisional", str(MODEL_FOLDER)]) == 2
    assert cli.main(["bench", "--provisional", str(MODEL_FOLDER), str(tmp_path)]) == 2
    assert f"there is no model in {tmp_path}" in caplog.text
