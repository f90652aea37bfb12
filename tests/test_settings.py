"""The table of settings: one source for every door into the program."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_memstab import badge
from lib_memstab.settings import TABLE, Choice, SettingsError, read_args, row

FIRST_RELEASE = ("enabled", "mode", "sensitivity", "strength", "profile")


def test_positional_order_is_append_only():
    assert tuple(setting.attribute for setting in TABLE)[: len(FIRST_RELEASE)] == FIRST_RELEASE


def test_defaults_are_usable_and_what_nothing_means():
    assert read_args([]) == read_args([setting.default for setting in TABLE]) == Choice(False, badge.JobSettings())


def test_an_object_and_a_list_say_the_same():
    listed = read_args([True, "detect", 50, 0.5, "mine"])
    named = {"enabled": True, "mode": "detect", "sensitivity": 50, "strength": 0.5, "profile": "mine"}
    assert listed == read_args([named]) == read_args([named, "suppress", 100.0, 1.0, "auto"])
    assert listed.settings == badge.JobSettings("detect", 50.0, 0.5, "mine")


@pytest.mark.parametrize(
    ("args", "field", "allowed"),
    [
        ([1], "enabled", "true or false"),
        ([True, "destroy"], "mode", "'suppress' or 'detect'"),
        ([True, "detect", 1], "sensitivity", "a number from 2 to 100000"),
        ([True, "detect", True], "sensitivity", "a number from 2 to 100000"),
        ([True, "detect", float("nan")], "sensitivity", "a number from 2 to 100000"),
        ([True, "detect", 100, 2.5], "strength", "a number from 0 to 1"),
        ([True, "detect", 100, 1, "../x"], "profile", "'auto' or a profile's name ('mine')"),
        ([True, "detect", 100, 1, "other"], "profile", "'auto' or a profile's name ('mine')"),
        ([{"colour": 1}], "colour", "one of enabled, mode, profile, sensitivity, strength"),
        ([{"mode": None}], "mode", "'suppress' or 'detect'"),
    ],
)
def test_bad_values_name_the_field_and_what_is_allowed(args, field, allowed):
    with pytest.raises(SettingsError) as refused:
        read_args(args, ["mine"])
    assert refused.value.field == field
    assert refused.value.allowed == allowed
    assert field in str(refused.value)
    assert allowed in str(refused.value)


PLAIN_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(st.lists(PLAIN_DATA | st.dictionaries(st.text(), PLAIN_DATA), max_size=7))
def test_anything_is_read_or_refused(args):
    try:
        choice = read_args(args)
    except SettingsError:
        return
    assert badge.settings_from_infotext(badge.settings_to_infotext(choice.settings)) == choice.settings


@given(st.floats(allow_nan=False))
def test_clamped_numbers_can_be_read(number):
    for setting in (row("sensitivity"), row("strength")):
        assert setting.read(setting.clamp(number)) == setting.clamp(number)
