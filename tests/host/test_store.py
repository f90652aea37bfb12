"""Profiles on disk: which one applies, and what is said where none does."""

from dataclasses import replace

import pytest

from lib_memstab.core import profile as profiles
from lib_memstab.core.profile import Checkpoint
from lib_memstab.core.report import AUTOMATIC
from lib_memstab.host.job import PassFacts
from lib_memstab.host.store import Store

FACTS = PassFacts("base", "txt2img", [], False, "Euler", "Automatic", 20, (20, None), 7.5, 4, (16, 16))
OWN, OTHER = Checkpoint("stand-in", "ab" * 32), Checkpoint("other", "cd" * 32)


@pytest.fixture
def store(extension):
    return extension.store


def test_the_profile_of_the_loaded_checkpoint_applies(store):
    assert store.choose(FACTS, OWN, AUTOMATIC).state == "exact"
    assert store.choose(replace(FACTS, sampler="DDIM"), OWN, AUTOMATIC).state == "transfer"
    other = store.choose(FACTS, OTHER, AUTOMATIC)
    assert other.profile is None
    assert other.reason.startswith("there is no profile for other; click Calibrate")
    assert "not 16 channels" not in other.reason


def test_a_named_profile_is_taken_or_said_why_not(store):
    assert store.choose(FACTS, OWN, "stand-in").state == "exact"
    assert "not the loaded checkpoint" in store.choose(FACTS, OTHER, "stand-in").reason
    assert store.choose(FACTS, OWN, "gone").reason.startswith("there is no profile gone")


def test_the_best_fit_and_the_users_own_come_first(store, made):
    shipped = store._shipped
    shipped.mkdir()
    profiles.save(made.profile, shipped)
    assert [one.own for one in store.all()] == [True]
    calibrated = made.profile.modes["txt2img"]
    elsewhere = replace(calibrated, covered=replace(calibrated.covered, samplers=("DDIM",)))
    profiles.save(replace(made.profile, name="a first", modes={"txt2img": elsewhere}), shipped)
    assert store.choose(FACTS, OWN, AUTOMATIC).profile.name == "stand-in"
    assert store.choose(replace(FACTS, sampler="DDIM"), OWN, AUTOMATIC).profile.name == "a first"


def test_a_missing_mode_says_what_to_do(store, made):
    store.save(replace(made.profile, modes={"txt2img": made.profile.modes["txt2img"]}))
    found = store.choose(replace(FACTS, mode="img2img"), OWN, AUTOMATIC)
    assert found.profile is None
    assert found.reason.startswith("stand-in was not calibrated for img2img; click Calibrate")


def test_broken_files_are_named_and_harm_nothing(store, extension):
    (extension.folder / "broken.json").write_text("{")
    assert store.choose(FACTS, OWN, AUTOMATIC).state == "exact"
    assert "broken.json is not a usable profile" in store.choose(FACTS, OWN, "broken").reason
    assert "broken cannot be read" in store.choose(FACTS, OTHER, AUTOMATIC).reason
    assert store.names() == ["stand-in"]


def test_a_saved_profile_is_there_at_once(store, made, tmp_path):
    fresh = Store(lambda: tmp_path / "deep" / "folder", tmp_path / "none")
    assert fresh.all() == []
    fresh.save(made.profile)
    assert fresh.names() == ["stand-in"]
    first = fresh.all()[0].profile
    assert fresh.all()[0].profile is first
    fresh.save(replace(made.profile, created="2026-02-02"))
    assert fresh.all()[0].profile.created == "2026-02-02"
