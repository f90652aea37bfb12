"""`python -m lib_memstab profile`, as a user calls it: what it says, what it writes, and its exit codes."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lib_memstab import cli, profile_command
from lib_memstab.core import profile as profiles
from lib_memstab.core.profile import load
from lib_memstab.core.region import Likeness
from lib_memstab.store import SHIPPED
from tests.core.test_merging import made, two
from tests.core.test_profile import EARLIER, GOLDEN, OVER_SIGMA, PROFILE
from tests.core.test_region import ordinary

HOSTILE = GOLDEN.parent / "hostile" / "nan.json"


@pytest.fixture
def call(shell):
    return partial(shell, "profile")


@pytest.fixture
def halves(tmp_path):
    first, second, _ = two()
    return [profiles.save(one, tmp_path) for one in (first, second)]


@pytest.mark.parametrize("action", ["list", "show", "check", "merge", "plot"])
def test_every_action_has_help_with_an_example(capsys, action):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["profile", action, "--help"])
    told = capsys.readouterr().out
    assert f"example: python -m lib_memstab profile {action}" in told
    assert "--json" in told


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["show"], ["merge", "a", "--out", "."], ["check"]])
def test_bad_use_is_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["profile", *arguments])
    assert "usage: python -m lib_memstab profile" in capsys.readouterr().err


def test_the_shipped_profiles_are_listed(call):
    code, told, _ = call("list")
    assert code == 0
    assert [line.split()[0] for line in told.splitlines()] == ["name", "memstab-lab"]
    modes = load(SHIPPED / "memstab-lab.json").modes
    counts = [modes[mode].region.count for mode in ("txt2img", "img2img")]
    assert "{}, {}".format(*counts) in told
    for arguments in (("list", "--json"), ("--json", "list")):
        entry = json.loads(call(*arguments)[1])[0]
        assert entry["modes"]["txt2img"] == {"trajectories": counts[0], "supported": 500}
        assert entry["error"] is None


def test_inside_a_webui_its_own_profiles_come_first(call, monkeypatch, tmp_path):
    shipped, own = tmp_path / "extensions" / "memstab" / "profiles", tmp_path / "models" / "MemStab"
    for folder in (shipped, own):
        folder.mkdir(parents=True)
        profiles.save(PROFILE, folder)
    later = replace(PROFILE, created="2026-09-09")
    profiles.save(later, own)
    monkeypatch.setattr(profile_command, "SHIPPED", shipped)
    assert [Path(one["file"]).parent for one in json.loads(call("list", "--json")[1])] == [own, shipped]
    assert json.loads(call("show", PROFILE.name, "--json")[1])["created"] == later.created


def test_a_broken_file_is_listed_with_its_reason_and_is_a_finding(call, tmp_path):
    shutil.copy(HOSTILE, tmp_path)
    shutil.copy(GOLDEN, tmp_path / f"{PROFILE.name}.json")
    (tmp_path / "other.schema.json").write_text("{}")
    code, told, _ = call("list", tmp_path)
    assert code == 1
    assert "cannot be used" in told
    assert "NaN is not a number" in told
    assert [one["error"] is None for one in json.loads(call("list", tmp_path, "--json")[1])] == [True, False]


def test_a_profile_is_shown_in_words(call):
    code, told, _ = call("show", "memstab-lab")
    assert code == 0
    count = load(SHIPPED / "memstab-lab.json").modes["txt2img"].region.count
    for part in ("sha256 f77b19adf3…", f"{count} trajectories", "CFG 1 to 12", "128x128 pixels", "1 in 1000 at score"):
        assert part in told
    assert "up to 1 in 500" in told
    assert "second looks  yes" in told


def test_of_an_earlier_profile_what_it_does_not_know_is_said(call):
    code, told, _ = call("show", EARLIER)
    assert code == 0
    assert "not recorded" in told
    assert "second looks  no: calibrate again" in told


def test_a_profile_is_shown_by_its_file_and_as_json(call):
    code, told, _ = call("show", GOLDEN, "--json")
    content = json.loads(told)
    assert code == 0
    assert content["name"] == PROFILE.name
    assert content["checksum"] == PROFILE.checksum
    assert content["modes"]["txt2img"]["supported"] == 10
    assert [band["count"] for band in content["modes"]["txt2img"]["bands"]] == [8, 8]
    assert set(content["modes"]["txt2img"]["bounds"]) == {"10", "100", "1000"}


def shown(call, tmp_path, *likenesses):
    """The golden profile with these likenesses of its bands, the second of a negative prompt, as `show` tells it."""
    known = PROFILE.modes["txt2img"]
    first, second = (replace(band, likeness=one) for band, one in zip(known.region.bands, likenesses, strict=True))
    bands = first, replace(second, conditions=replace(second.conditions, negative=True))
    modes = {"txt2img": replace(known, region=replace(known.region, bands=bands))}
    path = profiles.save(replace(PROFILE, modes=modes), tmp_path)
    words, content = call("show", path)[1], json.loads(call("show", path, "--json")[1])["modes"]["txt2img"]
    [line] = [line.strip() for line in words.splitlines() if line.strip().startswith("second looks")]
    table = words[words.index("  bands") :].splitlines()[1:]
    return (
        line,
        [row.split()[-1] for row in table],
        content["second_looks"],
        [one["likeness"] for one in content["bands"]],
    )


@pytest.mark.parametrize(
    ("likenesses", "said", "cells"),
    [
        ((0.2, -0.05), "second looks  yes", ["0.20", "-0.05"]),
        ((0.2, None), "second looks  only without a negative prompt: calibrate again", ["0.20", "-"]),
        ((None, 0.2), "second looks  only with a negative prompt: calibrate again", ["-", "0.20"]),
        ((None, None), "second looks  no: calibrate again to have them", ["-", "-"]),
    ],
)
def test_show_says_whether_there_are_second_looks_and_how_alike_pictures_are(call, tmp_path, likenesses, said, cells):
    bands = [None if one is None else Likeness(float(np.arctanh(one)), 0.1) for one in likenesses]
    line, column, looks, numbers = shown(call, tmp_path, *bands)
    assert line.startswith(said)
    assert column == cells
    assert looks == {"plain": likenesses[0] is not None, "negative": likenesses[1] is not None}
    assert numbers == list(likenesses)


def test_every_file_is_checked_and_one_that_is_not_usable_is_a_finding(call, tmp_path):
    earlier = tmp_path / "earlier.json"
    content = PROFILE.to_dict()
    del content["checksum"], content["modes"]["txt2img"]["covered"]["loras"]
    earlier.write_bytes(profiles._file(content))
    code, told, _ = call("check", GOLDEN, earlier)
    assert code == 0
    assert told.splitlines() == [f"{GOLDEN}: OK", f"{earlier}: OK, of an earlier form; it is read all the same"]
    code, told, _ = call("check", HOSTILE, GOLDEN, "none.json")
    assert code == 1
    assert ["NaN" in told, f"{GOLDEN}: OK" in told, "none.json cannot be read" in told] == [True, True, True]
    _, told, _ = call("check", "--json", earlier, HOSTILE)
    assert [(one["usable"], one["earlier_form"]) for one in json.loads(told)] == [(True, True), (False, None)]


def test_a_profile_of_another_statistic_is_a_finding(call):
    code, told, _ = call("check", GOLDEN, OVER_SIGMA)
    assert code == 1
    assert told.splitlines() == [
        f"{GOLDEN}: OK",
        f"{OVER_SIGMA} was made by a MemStab that measured otherwise, and judges nothing: calibrate again",
    ]


def test_two_profiles_are_merged_into_a_file(call, halves, tmp_path):
    out = tmp_path / "new folder"
    code, told, _ = call("merge", *halves, "--name", "both", "--out", out)
    assert code == 0
    assert told == f"{out / 'both.json'}: 2 profiles, trajectories: txt2img 96\n"
    assert load(out / "both.json").modes["txt2img"].region.count == 96
    _, told, _ = call("merge", *halves, "--name", "both too", "--out", out, "--json")
    assert json.loads(told)["modes"]["txt2img"]["trajectories"] == 96


def test_a_merge_overwrites_only_on_request(call, halves, tmp_path):
    third = made("third", ordinary(40, np.random.default_rng(7)))
    path = profiles.save(third, tmp_path)
    before = path.read_bytes()
    code, _, complaint = call("merge", *halves, "--name", "third", "--out", tmp_path)
    assert code == 2
    assert "there is another profile third" in complaint
    assert path.read_bytes() == before
    assert call("merge", *halves, "--name", "third", "--out", tmp_path, "--replace")[0] == 0
    assert load(path).modes["txt2img"].region.count == 96


def test_what_cannot_be_merged_is_bad_use_and_a_broken_part_is_a_finding(call, halves, tmp_path):
    for parts, name, reason, code in (
        ([halves[0]], "both", "two profiles or more", 2),
        ([halves[0], halves[0]], "both", "share trajectories", 2),
        ([halves[0], "memstab-lab"], "both", "different checkpoints", 2),
        (halves, "../both", "no name for a profile", 2),
        ([halves[0], HOSTILE], "both", "NaN is not a number", 1),
    ):
        found, told, complaint = call("merge", *parts, "--name", name, "--out", tmp_path / "out")
        assert (found, told) == (code, "")
        assert reason in complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [("show", "nothing"), ("show", "nothing.json"), ("list", "nowhere")])
def test_what_is_not_there_is_bad_use(call, arguments):
    code, told, complaint = call(*arguments)
    assert (code, told) == (2, "")
    assert "nothing" in complaint or "nowhere is no folder" in complaint


@pytest.mark.parametrize(("name", "begins"), [("region.png", b"\x89PNG"), ("region.svg", b"<?xml")])
def test_a_plot_is_the_same_file_every_time(call, tmp_path, name, begins):
    pytest.importorskip("matplotlib")
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        assert call("plot", "memstab-lab", "--out", tmp_path / folder / name)[0] == 0
    first, second = ((tmp_path / folder / name).read_bytes() for folder in ("one", "other"))
    assert first.startswith(begins)
    assert first == second


def test_a_plot_that_cannot_be_written_is_bad_use(call, tmp_path):
    pytest.importorskip("matplotlib")
    for out, reason in (
        ("region.gif", "let it end in .png or .svg"),
        (tmp_path / "none" / "region.png", "No such file"),
    ):
        code, _, complaint = call("plot", "memstab-lab", "--out", out)
        assert code == 2
        assert reason in complaint
