"""Which stored profile applies to a pass, and what is said where none does."""

from dataclasses import replace

import pytest

from lib_memstab.core import profile as profiles
from lib_memstab.core.profile import Checkpoint, Statistic
from lib_memstab.core.report import AUTOMATIC
from lib_memstab.host.facts import PassFacts

FACTS = PassFacts("base", "txt2img", [], False, "Euler", "Automatic", 20, (20, None), 7.5, 4, (16, 16))
OWN, OTHER = Checkpoint("stand-in", "ab" * 32), Checkpoint("other", "cd" * 32)


@pytest.fixture
def choose(extension):
    return extension.choose


def test_the_profile_of_the_loaded_checkpoint_applies(choose):
    assert choose(FACTS, OWN, AUTOMATIC).state == "exact"
    assert choose(replace(FACTS, sampler="DDIM"), OWN, AUTOMATIC).state == "transfer"
    other = choose(FACTS, OTHER, AUTOMATIC)
    assert other.profile is None
    assert other.reason.startswith("there is no profile for other; click Calibrate")
    assert "not 16 channels" not in other.reason


def test_a_named_profile_is_taken_or_said_why_not(choose):
    assert choose(FACTS, OWN, "stand-in").state == "exact"
    assert "not the loaded checkpoint" in choose(FACTS, OTHER, "stand-in").reason
    assert choose(FACTS, OWN, "gone").reason.startswith("there is no profile gone")


def test_the_best_fit_and_the_users_own_come_first(choose, extension, made):
    shipped = extension.folder / "shipped"
    shipped.mkdir()
    profiles.save(made.profile, shipped)
    assert [one.own for one in extension.store.all()] == [True]
    calibrated = made.profile.modes["txt2img"]
    elsewhere = replace(calibrated, covered=replace(calibrated.covered, samplers=("DDIM",)))
    profiles.save(replace(made.profile, name="a first", modes={"txt2img": elsewhere}), shipped)
    assert choose(FACTS, OWN, AUTOMATIC).profile.name == "stand-in"
    assert choose(replace(FACTS, sampler="DDIM"), OWN, AUTOMATIC).profile.name == "a first"


def test_a_missing_mode_says_what_to_do(choose, extension, made):
    extension.store.save(replace(made.profile, modes={"txt2img": made.profile.modes["txt2img"]}))
    found = choose(replace(FACTS, mode="img2img"), OWN, AUTOMATIC)
    assert found.profile is None
    assert found.reason.startswith("stand-in was not calibrated for img2img; click Calibrate")


def test_a_profile_that_was_measured_otherwise_judges_nothing_and_says_what_to_do(choose, extension, made):
    extension.store.save(replace(made.profile, statistic=Statistic()))
    for wanted in (AUTOMATIC, "stand-in"):
        found = choose(FACTS, OWN, wanted)
        assert (found.profile, found.state) == (None, "none")
        assert found.reason.startswith("stand-in was made by a MemStab that measured otherwise")
    assert choose(FACTS, OWN, AUTOMATIC).reason.endswith("or POST /memstab/v1/calibrate")


def test_broken_files_are_named_and_harm_nothing(choose, extension):
    (extension.folder / "broken.json").write_text("{")
    assert choose(FACTS, OWN, AUTOMATIC).state == "exact"
    assert "broken.json is not a usable profile" in choose(FACTS, OWN, "broken").reason
    assert "broken cannot be read" in choose(FACTS, OTHER, AUTOMATIC).reason
    assert extension.store.names() == ["stand-in"]


def test_other_loras_than_at_calibration_are_a_transfer_and_named(choose):
    found = choose(replace(FACTS, loras=("ink wash",)), OWN, AUTOMATIC)
    assert found.state == "transfer"
    assert "LoRA ink wash, which was not active at calibration" in found.reason
