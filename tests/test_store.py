"""Profile files of a user: taken in, renamed, given out, removed, and never lost by accident."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lib_memstab.core import profile as profiles
from lib_memstab.core.profile import ProfileError, from_bytes, load
from lib_memstab.store import Store
from tests.core.test_hostile import corrupted
from tests.core.test_profile import EARLIER, GOLDEN, PROFILE

hypothesis = pytest.importorskip("hypothesis")

OTHER = replace(PROFILE, created="2026-03-01")


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "shipped").mkdir()
    profiles.save(replace(PROFILE, name="shipped one"), tmp_path / "shipped")
    return tmp_path / "own", tmp_path / "shipped"


@pytest.fixture
def store(folders):
    return Store(lambda: folders[0], folders[1])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def test_a_saved_profile_is_there_at_once(store):
    assert store.names() == ["shipped one"]
    store.save(PROFILE)
    assert store.names() == [PROFILE.name, "shipped one"]
    first = store.all()[0].profile
    assert store.all()[0].profile is first
    store.save(OTHER)
    assert store.all()[0].profile.created == OTHER.created


def test_names_are_told_without_reading_a_file(store, folders, monkeypatch):
    store.save(PROFILE)
    (folders[0] / "broken.json").write_text("{")
    monkeypatch.setattr(profiles, "load", None)
    assert store.file_names() == [*sorted(["broken", PROFILE.name]), "shipped one"]


@pytest.mark.parametrize("source", [GOLDEN, GOLDEN.read_bytes(), EARLIER], ids=["path", "bytes", "earlier form"])
def test_an_imported_file_goes_by_the_profiles_own_name(store, folders, source):
    path = store.import_file(source)
    assert path == folders[0] / f"{PROFILE.name}.json"
    assert path.read_bytes() == load(path).to_bytes()
    assert store.import_file(source) == path
    assert len(files(folders[0])) == 1


def test_another_profile_of_the_name_stays_unless_it_is_to_be_replaced(store):
    path = store.save(PROFILE)
    with pytest.raises(ProfileError, match=r"there is another profile .*: replace it, or rename it first"):
        store.import_file(OTHER.to_bytes())
    assert path.read_bytes() == PROFILE.to_bytes()
    assert store.import_file(OTHER.to_bytes(), replace=True) == path
    assert path.read_bytes() == OTHER.to_bytes()


def test_a_broken_file_of_the_name_stays_too(store, folders):
    folders[0].mkdir()
    path = folders[0] / f"{PROFILE.name}.json"
    path.write_bytes(b"{")
    with pytest.raises(ProfileError, match="replace it"):
        store.import_file(GOLDEN)
    assert path.read_bytes() == b"{"
    store.import_file(GOLDEN, replace=True)
    assert store.names()[0] == PROFILE.name


def test_a_shipped_profile_is_not_hidden_by_accident(store, folders):
    shipped = replace(PROFILE, name="shipped one")
    assert store.import_file(shipped.to_bytes()) == folders[1] / "shipped one.json"
    with pytest.raises(ProfileError, match="another profile shipped one"):
        store.import_file(replace(shipped, created="2026-03-01").to_bytes())
    assert files(folders[0]) == {}


def test_names_that_differ_in_capitals_only_are_one(store):
    store.save(replace(PROFILE, name="dreamy"))
    for wanted in (False, True):
        with pytest.raises(ProfileError, match="another profile dreamy: rename that one first"):
            store.import_file(replace(PROFILE, name="Dreamy").to_bytes(), replace=wanted)
    with pytest.raises(ProfileError, match="there is a profile dreamy already"):
        store.rename("dreamy", "DREAMY")
    assert store.names() == ["dreamy", "shipped one"]


def test_what_is_no_profile_is_not_imported(store, folders):
    with pytest.raises(ProfileError, match="the file is not a usable profile"):
        store.import_file(b"{}")
    with pytest.raises(ProfileError, match="cannot be read"):
        store.import_file(folders[0] / "none.json")
    assert files(folders[0]) == {}


@hypothesis.settings(
    max_examples=100, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(corrupted())
def test_a_corrupted_import_never_overwrites(store, folders, content):
    path = store.save(PROFILE)
    try:
        store.import_file(content, replace=True)
    except ProfileError:
        assert files(folders[0]) == {path.name: PROFILE.to_bytes()}
    else:
        assert from_bytes(content).to_bytes() == path.read_bytes()


def test_a_renamed_profile_says_its_new_name_itself(store, folders):
    store.save(PROFILE)
    path = store.rename(PROFILE.name, "new name")
    assert list(files(folders[0])) == ["new name.json"]
    assert load(path).name == "new name"
    assert replace(load(path), name=PROFILE.name).checksum == PROFILE.checksum
    assert store.names() == ["new name", "shipped one"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("mine", "shipped one", "there is a profile shipped one already"),
        ("mine", "Shipped One", "there is a profile shipped one already"),
        ("mine", "mine", "there is a profile mine already"),
        ("mine", "../mine", "no name for a profile"),
        ("mine", "NUL", "no name for a profile"),
        ("shipped one", "mine too", "shipped one ships with MemStab and cannot be renamed"),
        ("gone", "mine too", "there is no profile 'gone': choose one of "),
        ("../shipped/shipped one", "mine too", "there is no profile"),
        ("broken", "mine too", "broken.json is not a usable profile.*can only be deleted"),
    ],
)
def test_a_rename_that_is_refused_changes_nothing(store, folders, old, new, reason):
    store.save(replace(PROFILE, name="mine"))
    (folders[0] / "broken.json").write_bytes(b"{")
    before = [files(folder) for folder in folders]
    with pytest.raises(ProfileError, match=reason):
        store.rename(old, new)
    assert [files(folder) for folder in folders] == before


def test_a_rename_that_cannot_be_finished_loses_nothing(store, folders, monkeypatch):
    store.save(PROFILE)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ProfileError, match=r"cannot be removed .*: remove it yourself"):
        store.rename(PROFILE.name, "new name")
    assert [load(folders[0] / name).name for name in sorted(files(folders[0]))] == [PROFILE.name, "new name"]


def refuse(path, missing_ok=False):
    if not missing_ok:
        raise PermissionError("in use")


def test_a_users_profile_is_deleted_and_a_broken_one_too(store, folders):
    store.save(PROFILE)
    (folders[0] / "broken.json").write_bytes(b"{")
    for name in (PROFILE.name, "broken"):
        store.delete(name)
    assert files(folders[0]) == {}
    assert store.names() == ["shipped one"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("shipped one", "ships with MemStab and cannot be deleted"), ("../shipped/shipped one", "there is no profile")],
)
def test_what_is_not_the_users_is_not_deleted(store, folders, name, reason):
    before = files(folders[1])
    with pytest.raises(ProfileError, match=reason):
        store.delete(name)
    assert files(folders[1]) == before


def test_without_any_profile_the_advice_is_another(tmp_path):
    with pytest.raises(ProfileError, match="there is no profile 'gone': calibrate, or import one"):
        Store(lambda: tmp_path / "own", tmp_path / "shipped").delete("gone")


def test_what_is_given_out_is_taken_in_elsewhere(store, folders, tmp_path):
    folders[0].mkdir()
    shutil.copy(EARLIER, folders[0] / "mine.json")
    elsewhere = Store(lambda: tmp_path / "elsewhere", folders[1])
    path = elsewhere.import_file(store.export("mine"))
    assert path.read_bytes() == load(EARLIER).to_bytes()
    for name, reason in (("broken", "is not a usable profile"), ("gone", "there is no profile")):
        (folders[0] / "broken.json").write_bytes(b"{")
        with pytest.raises(ProfileError, match=reason):
            store.export(name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_that_cannot_be_written_says_so(store, folders):
    folders[0].mkdir(mode=0o500)
    with pytest.raises(ProfileError, match="cannot be written"):
        store.import_file(GOLDEN)
