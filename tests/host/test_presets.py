"""The panel's presets, click by click."""

import pytest

from lib_memstab.host.presets import delete, listed, save, settings_of
from lib_memstab.presets import FILE, SETTINGS, Presets

DEFAULTS = [setting.default for setting in SETTINGS]
DETECT = ["detect" if setting.attribute == "mode" else setting.default for setting in SETTINGS]


@pytest.fixture
def presets(tmp_path):
    return Presets(lambda: tmp_path)


def test_what_the_panel_has_is_saved_chosen_and_deleted(presets):
    assert save(presets, " mine ", DETECT, "").chosen == "mine"
    assert listed(presets) == (["mine"], "")
    assert settings_of(presets, "mine") == (DETECT, "")
    asked = delete(presets, "mine", "")
    assert "once more" in asked.message
    assert listed(presets)[0] == ["mine"]
    assert delete(presets, "mine", asked.armed).message == "mine is deleted."
    assert listed(presets) == ([], "")


def test_a_preset_that_says_otherwise_is_replaced_on_a_second_click_only(presets):
    save(presets, "mine", DETECT, "")
    assert save(presets, "mine", DETECT, "").message == "mine is saved."
    asked = save(presets, "mine", DEFAULTS, "")
    assert "once more to replace mine" in asked.message
    assert settings_of(presets, "mine")[0] == DETECT
    assert "once more" in delete(presets, "mine", asked.armed).message
    assert "once more" in save(presets, "mine", DEFAULTS, "save yours").message
    save(presets, "mine", DEFAULTS, asked.armed)
    assert settings_of(presets, "mine")[0] == DEFAULTS


def test_a_wish_that_cannot_be_followed_is_answered_in_a_sentence(presets):
    assert "has 1 to 60 characters" in save(presets, None, DETECT, "").message
    assert "'mode' should be" in save(presets, "mine", ["destroy", *DETECT[1:]], "").message
    assert delete(presets, None, "").message == "Choose a preset first."
    assert "there is no preset" in delete(presets, "gone", "").message
    values, message = settings_of(presets, "gone")
    assert set(values) == {None}
    assert "no preset 'gone' any more" in message


def test_a_file_that_cannot_be_used_is_told_wherever_it_matters(presets, tmp_path):
    (tmp_path / FILE).write_text("{")
    told = [listed(presets)[1], settings_of(presets, "one")[1], save(presets, "one", DETECT, "").message]
    told.append(delete(presets, "one", "").message)
    assert all("Repair the file, or move it away" in message for message in told)
    assert (tmp_path / FILE).read_text() == "{"
