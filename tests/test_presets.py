"""Presets: what is saved comes back, a file that cannot be read is told and left alone, names are checked."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_memstab import presets as module
from lib_memstab.presets import FILE, MAX_NAME, MAX_PRESETS, PresetError, Presets
from lib_memstab.settings import TABLE, SettingsError, read_args

DEFAULTS = {setting.attribute: setting.default for setting in TABLE[1:]}
CAREFUL = {**DEFAULTS, "mode": "detect", "sensitivity": 1000.0, "strength": 0.35, "profile": "my model"}


@pytest.fixture
def presets(tmp_path):
    return Presets(lambda: tmp_path / "presets")


def write(tmp_path, content):
    (tmp_path / "presets").mkdir(exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / "presets" / FILE).write_bytes(data)
    return data


def whole(*rows):
    return {"schema": 1, "presets": [{"name": name, "settings": values} for name, values in rows]}


def test_what_is_saved_comes_back_also_for_another_process(presets, tmp_path):
    assert presets.all() == {}
    presets.save("careful", CAREFUL)
    presets.save(" 慎重に <b> ", DEFAULTS)
    assert Presets(lambda: tmp_path / "presets").all() == {"careful": CAREFUL, "慎重に <b>": DEFAULTS}
    presets.save("careful", DEFAULTS)
    presets.delete("慎重に <b>")
    assert presets.all() == {"careful": DEFAULTS}


def test_a_preset_is_an_argument_object_as_it_is(presets):
    presets.save("careful", CAREFUL)
    choice = read_args([{"enabled": True, **presets.all()["careful"]}])
    assert {name: getattr(choice.settings, name) for name in CAREFUL} == CAREFUL


def test_a_setting_that_came_later_has_its_default_in_an_older_preset(presets, tmp_path):
    write(tmp_path, whole(("old", {"mode": "detect"})))
    assert presets.all() == {"old": {**DEFAULTS, "mode": "detect"}}


@pytest.mark.parametrize("name", ["", "  ", "x" * (MAX_NAME + 1), "two\nlines", "bell\a", "\ud800"])
def test_a_bad_name_is_refused(presets, name):
    with pytest.raises(PresetError, match="a preset's name has 1 to 60 characters"):
        presets.save(name, DEFAULTS)
    assert presets.all() == {}


@pytest.mark.parametrize("value", [("mode", "destroy"), ("sensitivity", 0), ("strength", True), ("colour", "red")])
def test_a_bad_value_is_refused(presets, value):
    with pytest.raises(SettingsError, match=value[0]):
        presets.save("bad", {**DEFAULTS, value[0]: value[1]})
    assert presets.all() == {}


def test_there_is_an_end_to_how_many_there_may_be(presets, tmp_path):
    write(tmp_path, whole(*((f"number {number}", DEFAULTS) for number in range(MAX_PRESETS))))
    presets.save("number 7", CAREFUL)
    with pytest.raises(PresetError, match="delete one first"):
        presets.save("one more", DEFAULTS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b" " * (module.MAX_BYTES + 1), "larger than"),
        ({"schema": 2, "presets": []}, "update MemStab"),
        ({"presets": []}, "'schema' is missing"),
        ({"schema": 1}, "a list 'presets'"),
        ({"schema": 1, "presets": {}}, "a list 'presets'"),
        ({"schema": 1, "presets": [1]}, "each preset"),
        ({"schema": 1, "presets": [{"name": 1, "settings": {}}]}, "should be a text"),
        (whole(("one", {"mode": "destroy"})), "'mode' should be"),
        (whole(("one", {"strength": 7})), "'strength' should be"),
        (whole(("one", {"of a newer MemStab": 1})), "'of a newer MemStab'"),
        (whole(("one", {}), ("one", {})), "twice"),
        (whole(("two\nlines", {})), "without line breaks"),
        (b'{"schema": 1, "presets": [{"name": "a", "name": "b", "settings": {}}]}', "twice in one object"),
    ],
)
def test_a_file_that_is_not_of_presets_is_told_and_never_written_over(presets, tmp_path, content, reason):
    data = write(tmp_path, content)
    for act in (presets.all, lambda: presets.save("new", DEFAULTS), lambda: presets.delete("one")):
        with pytest.raises(PresetError, match="Repair the file, or move it away") as error:
            act()
        assert reason in str(error.value)
    assert (tmp_path / "presets" / FILE).read_bytes() == data


@given(st.binary(max_size=200))
def test_no_content_does_harm(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    (folder / FILE).write_bytes(content)
    with pytest.raises(PresetError):
        Presets(lambda: folder).all()


def test_a_pipe_in_the_files_place_is_not_waited_for(presets, tmp_path):
    (tmp_path / "presets").mkdir()
    os.mkfifo(tmp_path / "presets" / FILE)
    with pytest.raises(PresetError, match="no regular file"):
        presets.all()


def test_a_write_that_fails_leaves_the_presets_as_they_were(presets, monkeypatch):
    presets.save("careful", CAREFUL)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(PresetError, match="cannot be written"):
        presets.save("other", DEFAULTS)
    monkeypatch.undo()
    assert presets.all() == {"careful": CAREFUL}


def test_what_is_not_there_cannot_be_deleted(presets):
    with pytest.raises(PresetError, match="there is no preset 'nothing'"):
        presets.delete("nothing")
