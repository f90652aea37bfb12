"""The table of settings: one source for every door into the program."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_memstab import badge
from lib_memstab.settings import TABLE, Choice, SettingsError, args_schema, read_args, row

FIRST_RELEASE = ("enabled", "mode", "sensitivity", "strength", "profile")


def test_positional_order_is_append_only():
    assert tuple(setting.attribute for setting in TABLE)[: len(FIRST_RELEASE)] == FIRST_RELEASE


def test_defaults_are_usable_and_what_nothing_means():
    assert read_args([]) == read_args([setting.default for setting in TABLE]) == Choice(False, badge.JobSettings())


def test_a_whole_number_may_be_written_as_a_fraction():
    retries = read_args([{"retries": 5.0}]).settings.retries
    assert (retries, type(retries)) == (5, int)


def test_an_object_and_a_list_say_the_same():
    listed = read_args([True, "detect", 50, 0.5, "mine"])
    named = {"enabled": True, "mode": "detect", "sensitivity": 50, "strength": 0.5, "profile": "mine"}
    assert listed == read_args([named]) == read_args([named, "suppress", 100.0, 1.0, "auto"])
    assert listed.settings == badge.JobSettings("detect", 50.0, 0.5, "mine")


@pytest.mark.parametrize(
    ("args", "field", "allowed"),
    [
        ([1], "enabled", "true or false"),
        ([True, "destroy"], "mode", "'suppress' or 'detect' or 'stop' or 'retry'"),
        ([True, "detect", 1], "sensitivity", "a number from 2 to 100000"),
        ([True, "detect", True], "sensitivity", "a number from 2 to 100000"),
        ([True, "detect", float("nan")], "sensitivity", "a number from 2 to 100000"),
        ([True, "detect", 100, 2.5], "strength", "a number from 0 to 1"),
        ([True, "detect", 100, 1, "../x"], "profile", "'auto' or a profile's name ('mine')"),
        ([True, "detect", 100, 1, "other"], "profile", "'auto' or a profile's name ('mine')"),
        ([{"colour": 1}], "colour", "one of enabled, mode, profile, retries, sensitivity, strength"),
        ([{"retries": 1.5}], "retries", "a whole number from 1 to 20"),
        ([{"retries": 21}], "retries", "a whole number from 1 to 20"),
        ([{"retries": True}], "retries", "a whole number from 1 to 20"),
        ([{"mode": None}], "mode", "'suppress' or 'detect' or 'stop' or 'retry'"),
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


SCHEMA = Path(__file__).resolve().parents[1] / "profiles" / "args.schema.json"


def test_the_published_schema_of_the_arguments_is_the_tables():
    assert SCHEMA.read_text("utf-8") == json.dumps(args_schema(), indent=2) + "\n"
    jsonschema.Draft202012Validator.check_schema(args_schema())


FIELDS = {
    "enabled": st.booleans() | st.just(1),
    "mode": st.sampled_from(["suppress", "detect", "off", 1]),
    "sensitivity": st.integers(-1, 200_000) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans(),
    "strength": st.floats(-0.5, 1.5) | st.sampled_from([0, 1, None, "1"]),
    "profile": st.from_regex(r"\A[a ./(]{0,4}\Z") | st.integers(),
    "colour": st.text(),
}


@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_the_schema_accepts_what_is_read_and_nothing_else(given_object):
    try:
        read_args([given_object])
        read = True
    except SettingsError:
        read = False
    assert jsonschema.Draft202012Validator(args_schema()).is_valid(given_object) == read
