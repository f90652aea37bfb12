"""The tab's audit: real picture files of every state, told, counted, listed and kept."""

import csv
import io
import json
import re

import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from lib_memstab.badge import JobSettings
from lib_memstab.host import wording
from lib_memstab.host.tab import auditing
from tests.evidence.pictures import png
from tests.test_badge import CLEAR, FLAGGED, SUPPRESSED

SETTINGS = JobSettings(sensitivity=1000.0)


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "outputs"
    (folder / "deeper").mkdir(parents=True)
    png(folder / "flagged.png", JobSettings("detect", 1000.0), FLAGGED)
    png(folder / "deeper" / "suppressed.png", SETTINGS, SUPPRESSED)
    png(folder / "clear.png", SETTINGS, CLEAR)
    Image.new("RGB", (8, 8)).save(folder / "plain.png")
    return folder


@pytest.fixture
def look(outputs, tmp_path):
    served = []

    def through(chosen=wording.EVERYTHING, recursive=True, only=auditing.TOLD, allowed=(outputs,)):
        *_, last = auditing.look_through(chosen, recursive, only, list(allowed), tmp_path, served.extend)
        return last

    through.served = served
    return through


def test_flagged_and_suppressed_pictures_are_listed_with_links_and_all_are_counted(look, outputs):
    found = look()
    assert [path.name for path in look.served] == ["flagged.png", "suppressed.png"]
    for path in look.served:
        assert f'href="file={path}"' in found.html
    assert "clear.png" not in found.html
    heads, numbers = (re.findall(r"<t[hd][^>]*>([^<]*)", row) for row in found.html.split("<tr>")[1:3])
    assert dict(zip(heads, numbers, strict=True)) == {"flagged": "1", "suppressed": "1", "clear": "1", "no badge": "1"}


def test_the_files_to_keep_have_the_rows_that_are_listed(look):
    table, lines = look(only=["clear", "no badge"]).files
    rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8-sig"))))
    assert [row["state"] for row in rows] == ["clear", "no badge"]
    assert [json.loads(line)["state"] for line in lines.read_text().splitlines()] == ["clear", "no badge"]


def test_folders_inside_are_a_choice_and_nothing_chosen_lists_all(look):
    assert [path.name for path in look(recursive=False, only=[]).files] == ["audit.csv", "audit.jsonl"]
    assert sorted(path.name for path in look.served) == ["clear.png", "flagged.png", "plain.png"]


def test_only_the_webuis_folders_can_be_looked_through(look, outputs, tmp_path):
    assert auditing.folders([outputs, tmp_path / "none"]) == [wording.EVERYTHING, str(outputs)]
    assert "only the WebUI&#x27;s output folders" in look(str(tmp_path)).html
    assert "there is no folder" in look(str(outputs / "none")).html
    assert wording.NO_FOLDERS.split("'")[0] in look(allowed=(tmp_path / "none",)).html
    assert wording.NO_PICTURES in look(str(_empty(outputs))).html


def _empty(outputs):
    folder = outputs / "empty"
    folder.mkdir(exist_ok=True)
    return folder


def test_a_hostile_name_is_text_and_not_a_page(look, outputs):
    png(outputs / "<img src=x onerror=alert(1)>.png", SETTINGS, FLAGGED)
    assert "<img" not in look().html


def test_it_is_told_how_far_it_is_and_long_lists_are_cut(outputs, tmp_path, monkeypatch):
    monkeypatch.setattr(auditing, "EVERY_SECONDS", -1.0)
    monkeypatch.setattr(auditing, "SHOWN", 1)
    *steps, last = auditing.look_through(wording.EVERYTHING, True, [], [outputs], tmp_path, lambda paths: None)
    assert [step.html.split(" files")[0] for step in steps] == [f"<p>{done} of 4" for done in (1, 2, 3, 4)]
    assert "The first 1 of 4" in last.html
    assert len(csv.DictReader(io.StringIO(last.files[0].read_text("utf-8-sig"))).fieldnames) > 10


def test_two_runs_at_once_have_files_of_their_own_which_go_with_them(outputs):
    def run(state):
        return auditing.own_run(wording.EVERYTHING, True, [state], [outputs], lambda paths: None)

    running = {state: run(state) for state in ("flagged", "clear")}
    found = {state: next(told for told in one if told.files) for state, one in running.items()}
    for state, told in found.items():
        rows = list(csv.DictReader(io.StringIO(told.files[0].read_text("utf-8-sig"))))
        assert [row["state"] for row in rows] == [state]
    for one in running.values():
        assert list(one) == []
    assert [path for told in found.values() for path in told.files if path.exists()] == []


def test_a_folder_that_cannot_be_written_to_is_said_and_the_result_shown(outputs, tmp_path):
    *_, last = auditing.look_through(wording.EVERYTHING, True, [], [outputs], tmp_path / "none", lambda paths: None)
    assert "cannot be written" in last.html
    assert "flagged.png" in last.html
    assert last.files == ()
