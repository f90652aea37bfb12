"""The demo: a small one on the committed model, and what it does with a folder that is there already."""

import json

import pytest
import torch

pytest.importorskip("torchsde")
from PIL import Image

from lib_memstab import badge
from lib_memstab.core.monitor import Settings
from lib_memstab.lab import demo, demonstration, experiment
from lib_memstab.lab.sampling import Job

JOB = Job(prompts=(), seeds=(), steps=6)

needs_model = pytest.mark.skipif(
    not (experiment.CHECKPOINT.exists() and experiment.PROFILE.exists()),
    reason="the lab model or its profile is not in this checkout",
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """One memorized and one ordinary prompt, sampled and written: the shots and the folder."""
    folder = tmp_path_factory.mktemp("demo")
    subjects = demonstration.choose(experiment.load_splits()["tuning"])
    chosen = [subjects[0], subjects[-1]]
    lab = demonstration.load_lab(JOB)
    shots = demonstration.shoot(lab, chosen, 1, JOB, Settings())
    demo.write(folder, lab, shots, JOB, demo.findings_of(shots))
    return shots, folder


@needs_model
def test_an_ordinary_picture_is_the_same_in_every_mode(shown):
    ordinary = shown[0][-1]
    assert ordinary.untouched("detect")
    assert ordinary.untouched("suppress")
    assert ordinary.findings() == []


@needs_model
def test_a_memorized_picture_is_flagged_and_steered_away(shown):
    memorized = shown[0][0]
    assert memorized.untouched("detect")
    assert memorized.reports["detect"].verdict == "flagged"
    assert memorized.reports["suppress"].verdict == "suppressed"
    assert not memorized.untouched("suppress")
    assert memorized.similarity["suppress"] < memorized.similarity["off"]


@needs_model
def test_watched_pictures_carry_their_badge_and_all_carry_their_parameters(shown):
    shots, folder = shown
    for number, shot in enumerate(shots, start=1):
        for mode in demonstration.MODES:
            path = folder / "pictures" / f"{number:02d}-{shot.subject.kind}-seed1-{mode}.png"
            found = badge.read_png(path)
            prompt, settings = found.parameters.split("\n")
            assert prompt == shot.subject.text
            assert "Steps: 6, Sampler: Euler, Schedule type: Automatic, CFG scale: 7.5, Seed: 1, " in settings
            assert found.report == shot.reports.get(mode)
            assert ("MemStab verdict: " in settings) == (mode != "off")


@needs_model
def test_sheet_curve_and_manifest_are_there(shown):
    folder = shown[1]
    for name in (demo.SHEET, demo.CURVE):
        with Image.open(folder / name) as image:
            image.load()
            assert image.width > 500
    manifest = json.loads((folder / demo.MANIFEST).read_text())
    assert [row["kind"] for row in manifest["images"]] == ["title", "ordinary"]
    assert {demo.SHEET, demo.CURVE} < set(manifest["files"])
    demo.refuse_foreign(folder)


@needs_model
def test_the_curve_shows_the_profiles_region_whatever_an_image_was_held_against(shown):
    memorized, ordinary = shown[0]
    assert memorized.reports["detect"].second_look is not None
    lab = demonstration.load_lab(JOB)
    one, other = (demo._bounds(lab, shot, JOB.guidance) for shot in (memorized, ordinary))
    assert one.high == other.high
    assert one.low == pytest.approx(ordinary.reports["detect"].trace.low, rel=1e-4)
    assert memorized.reports["detect"].trace.high[-1] < one.high[-1]


@needs_model
def test_the_table_has_a_line_for_every_picture(shown):
    shots = shown[0]
    lines = demo.table(shots).splitlines()[1:]
    assert len(lines) == len(shots)
    for line, shot in zip(lines, shots, strict=True):
        assert f"  {shot.reports['suppress'].verdict}  " in line
    assert lines[-1].endswith("bit for bit")


@needs_model
def test_a_templates_training_picture_has_the_panel_that_its_prompt_asks_for():
    subject = next(s for s in demonstration.choose(experiment.load_splits()["tuning"]) if s.kind == "template")
    assert subject.training_picture().size == (128, 128)


def test_a_folder_with_other_files_is_refused_before_anything_is_sampled(tmp_path, caplog):
    (tmp_path / "holiday.jpg").touch()
    parser = demo.argparse.ArgumentParser()
    demo.add_arguments(parser)
    args = parser.parse_args(["--out", str(tmp_path)])
    args.json = False
    assert demo.run(args) == demo.BAD_USE
    assert "not the demo's" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_added_to_the_demos_folder_is_kept(tmp_path):
    (tmp_path / demo.MANIFEST).write_text('{"files": ["curve.png"]}')
    (tmp_path / "curve.png").touch()
    demo.refuse_foreign(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(demonstration.DemoError, match=r"notes\.txt"):
        demo.refuse_foreign(tmp_path)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": 1}', '{"files": [[]]}', "\udcff"])
def test_a_broken_manifest_makes_a_folder_foreign(tmp_path, manifest):
    (tmp_path / demo.MANIFEST).write_bytes(manifest.encode(errors="surrogateescape"))
    with pytest.raises(demonstration.DemoError, match="not the demo's"):
        demo.refuse_foreign(tmp_path)


def test_the_new_folder_takes_the_old_ones_place_only_when_it_is_whole(tmp_path):
    out = tmp_path / "demo"
    for content in ("one", "two"):
        with demo.replacing(out) as folder:
            (folder / demo.MANIFEST).write_text(json.dumps({"files": ["table"]}))
            (folder / "table").write_text(content)
    with pytest.raises(FileNotFoundError), demo.replacing(out) as folder:
        (folder / "missing" / "table").write_text("three")
    assert (out / "table").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("count", ["0", "-1", "9", "many"])
def test_a_count_of_seeds_that_makes_no_sense_is_bad_use(count, capsys):
    parser = demo.argparse.ArgumentParser()
    demo.add_arguments(parser)
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--seeds", count])
    assert stopped.value.code == 2
    assert "--seeds" in capsys.readouterr().err


def test_without_any_copy_there_is_nothing_to_show():
    same = dict.fromkeys(demonstration.MODES, torch.zeros(1))
    shot = demonstration.Shot(demonstration.Subject("x"), 1, same, {}, None)
    assert demo.findings_of([shot]) == ["no memorized picture was reproduced, so there was nothing to suppress"]
