"""Profiles as the tab shows and changes them: sentences, never an error that nobody caught."""

from dataclasses import replace

import pytest

pytest.importorskip("matplotlib")

from lib_memstab.core import profile as profiles
from lib_memstab.core.profile import Checkpoint, ProfileError, load
from lib_memstab.host.tab import catalogue, markup
from lib_memstab.store import SHIPPED, Store

LAB = "memstab-lab"


@pytest.fixture
def store(tmp_path):
    store = Store(lambda: tmp_path / "own")
    lab = load(SHIPPED / f"{LAB}.json")
    store.save(replace(lab, name="mine", modes={"txt2img": lab.modes["txt2img"]}))
    return store


@pytest.fixture
def broken(store, tmp_path):
    (tmp_path / "own" / "broken.json").write_text("{", encoding="utf-8")
    return store


def test_every_profile_has_a_row_the_broken_one_with_its_error(broken):
    rows = {row[0]: row for row in catalogue.rows(broken.all())}
    modes = load(SHIPPED / f"{LAB}.json").modes
    first, second = (str(modes[mode].region.count) for mode in ("txt2img", "img2img"))
    assert rows["mine"] == ("mine", LAB, "txt2img", first, "500", "you")
    assert rows[LAB][2:] == ("txt2img, img2img", f"{first}, {second}", "500, 500", "MemStab")
    assert rows["broken"][1].startswith("cannot be used: ")
    html = markup.table(catalogue.HEADS, catalogue.rows(broken.all()))
    assert html.count("<tr>") == 4
    assert f'colspan="{len(catalogue.HEADS) - 1}">cannot be used' in html


def test_what_others_wrote_is_text_and_not_a_page(store):
    lab = load(SHIPPED / f"{LAB}.json")
    store.save(replace(lab, name="evil", checkpoint=Checkpoint("<img src=x onerror=alert(1)>", None)))
    html = markup.table(catalogue.HEADS, catalogue.rows(store.all())) + markup.plain(catalogue.told(store, "evil")[0])
    assert "<img" not in html


def test_a_profile_is_told_as_the_command_line_tells_it(store):
    words, figure = catalogue.told(store, "mine")
    assert "sha256" in words
    assert "trajectories" in words
    assert "second looks" in words
    assert len(figure.axes) == 1
    assert "<img" in markup.picture(figure, "mine")
    assert catalogue.told(store, "") == ("", None)


@pytest.mark.parametrize("name", ["broken", "nobody"])
def test_one_that_cannot_be_used_says_so(broken, name):
    with pytest.raises(ProfileError):
        catalogue.told(broken, name)


def test_two_profiles_are_compared_band_by_band(store):
    words, figure = catalogue.compared(store, LAB, "mine")
    assert "The bounds of mine (1 in 100) against those of memstab-lab" in words
    assert "Only one of them was calibrated for img2img." in words
    assert "+0.0%" in words
    assert len(figure.axes) == 1
    assert len(figure.axes[0].lines) == 2 * len(load(SHIPPED / f"{LAB}.json").modes["txt2img"].region.bands)
    for other in ("mine", ""):
        with pytest.raises(ProfileError, match="two different"):
            catalogue.compared(store, "mine", other)


def test_rename_chooses_the_new_name(store):
    answer = catalogue.rename(store, "mine", " other ")
    assert answer.chosen == "other"
    assert set(store.names()) == {"other", LAB}
    assert "ships with MemStab" in catalogue.rename(store, LAB, "own").message
    assert "is no name" in catalogue.rename(store, "other", "../up").message
    assert catalogue.rename(store, "", "x").message == catalogue.NONE_CHOSEN


def test_delete_wants_a_second_click_on_the_same_profile(broken):
    first = catalogue.delete(broken, "mine", "")
    assert "once more" in first.message
    assert "once more" in catalogue.delete(broken, "broken", first.armed).message
    assert set(catalogue.names(broken.all())) == {"mine", "broken", LAB}
    assert catalogue.delete(broken, "mine", first.armed).message == "mine is deleted."
    assert catalogue.delete(broken, "broken", "broken").armed == ""
    assert catalogue.names(broken.all()) == [LAB]
    assert "ships with MemStab" in catalogue.delete(broken, LAB, "").message


def test_what_is_exported_can_be_imported(store, tmp_path):
    path = catalogue.export(store, "mine", tmp_path)
    assert path.name == "mine.json"
    store.delete("mine")
    answer = catalogue.take_in(store, path.read_bytes(), False)
    assert answer.chosen == "mine"
    assert profiles.load(tmp_path / "own" / "mine.json").checksum == load(path).checksum


def test_an_import_that_cannot_be_is_refused_in_a_sentence(store, tmp_path):
    mine = catalogue.export(store, "mine", tmp_path)
    changed = replace(load(mine), created="2026-02-02").to_bytes()
    assert "there is another profile mine" in catalogue.take_in(store, changed, False).message
    assert catalogue.take_in(store, changed, True).chosen == "mine"
    assert catalogue.take_in(store, b"{}", False).chosen == ""
    assert catalogue.take_in(store, b"\xff\xfe", False).message
    assert "Choose a profile's file" in catalogue.take_in(store, None, False).message


def test_only_names_of_profiles_are_exported(store, tmp_path):
    with pytest.raises(ProfileError, match="there is no profile"):
        catalogue.export(store, "../secret", tmp_path)
