"""The audit: every state is reached by the project's own files, and no file, name or folder stops it."""

import contextlib
import dataclasses
import os
import sys
import zlib
from datetime import datetime, timezone

import hypothesis
import pytest
from hypothesis import strategies as st
from PIL import features

from lib_memstab import badge
from lib_memstab.badge import JobSettings
from lib_memstab.core.report import SecondLook
from lib_memstab.evidence.audit import STATES, Row, audit, moment, summary, told
from lib_memstab.metadata import PictureTexts
from tests.evidence.pictures import parameters, png, with_comment
from tests.test_badge import BLIND, CASES, CLEAR, FLAGGED, LOOKED, SUPPRESSED, TRANSFER, UNLIKE, host_infotext, write

UNLOOKED = dataclasses.replace(LOOKED, second_look=None)
STOPPED = dataclasses.replace(CLEAR, partial=(10, 20))
SETTINGS = JobSettings(sensitivity=1000.0)
STATE_OF = {
    "clear": "clear",
    "clear, transfer": "clear",
    "clear, interrupted": "partial",
    "flagged": "flagged",
    "suppressed": "suppressed",
    "suppressed, interrupted": "suppressed",
    "not measured": "not measured",
    "not measured, interrupted": "not measured",
    "flagged by its second look": "flagged",
    "suppressed by its second look, transfer": "suppressed",
    "flagged anyway, with a second look": "flagged",
    "clear after a second look": "clear",
    "clear for its second look": "clear",
}


def rows(*paths, **options):
    return list(audit(paths, **options))


def only(path):
    (row,) = rows(path)
    return row


@pytest.mark.parametrize("name", CASES)
def test_a_png_tells_what_its_badge_says(tmp_path, name):
    report = CASES[name][1]
    path = png(tmp_path / "x.png", JobSettings(report.mode, report.sensitivity), report)
    assert only(path) == Row(
        path=path,
        state=STATE_OF[name],
        source="badge",
        mode=report.mode,
        sensitivity=report.sensitivity,
        score=report.score,
        p_value=report.p_value,
        first_outside=report.steps.first_outside,
        profile=report.profile and "lab",
        match=report.profile and report.profile.match,
        partial=report.partial,
        reason=report.reason.replace("\n", " "),
        size=path.stat().st_size,
        modified=datetime.fromtimestamp(int(path.stat().st_mtime), timezone.utc),
        likeness=report.second_look and report.second_look.likeness,
    )


@pytest.mark.parametrize("suffix", ["jpg", "webp", *["avif"] * features.check("avif")])
@pytest.mark.parametrize("name", CASES)
def test_other_kinds_tell_what_their_infotext_says(tmp_path, name, suffix):
    settings, report = CASES[name]
    row = only(with_comment(tmp_path / f"x.{suffix}", parameters(settings, report)))
    assert (row.state, row.source, row.contradiction) == (STATE_OF[name], "infotext", "")
    assert (row.mode, row.sensitivity) == (settings.mode, settings.sensitivity)
    assert row.partial == report.partial
    assert row.first_outside == report.steps.first_outside
    assert row.score == (None if report.score is None else pytest.approx(report.score, rel=0.01))
    assert row.match == ("transfer" if name.endswith("transfer") else None)
    told = report.second_look is not None and report.verdict != "clear"
    assert row.likeness == (pytest.approx(report.second_look.likeness, rel=0.06) if told else None)
    assert row.profile == (None if settings.profile == "auto" else settings.profile)


def test_a_png_without_the_chunk_is_told_by_its_infotext(tmp_path):
    text = parameters(SETTINGS, FLAGGED).encode()
    assert only(write(tmp_path / "x.png", (b"tEXt", b"parameters\0" + text))).state == "flagged"


def of_texts(chunk=None, infotext=None, damaged=()):
    found = {"memstab": chunk, "parameters": infotext}
    return told("x.png", PictureTexts("PNG", {key: text for key, text in found.items() if text}, dict(damaged)))


def test_a_grid_is_as_grave_as_its_gravest_picture():
    row = of_texts(infotext=host_infotext({badge.VERDICT_KEY: badge.summary([CLEAR, SUPPRESSED, CLEAR])}))
    assert (row.state, row.reason) == ("suppressed", "a grid of 2 clear / 1 suppressed")


@pytest.mark.parametrize(
    ("infotext", "state"),
    [
        (None, "no badge"),
        ("a cat\nSteps: 20, Sampler: Euler", "no badge"),
        ("a cat, MemStab verdict: flagged", "no badge"),
        ("a cat, MemStab verdict: flagged\nSteps: 20, Sampler: Euler", "no badge"),
        ('x\nSteps: 20, Hires prompt: "MemStab verdict: flagged, x", Sampler: Euler', "no badge"),
        ("x\nSteps: 20, MemStab: suppress 100 strength 1", "no badge"),
        ("x\nSteps: 20, MemStab verdict: suspicious", "damaged badge"),
        ("x\nSteps: 20, MemStab: loud, MemStab verdict: clear", "damaged badge"),
        ("x\nSteps: 20, MemStab verdict: clear", "clear"),
    ],
)
def test_only_an_entry_of_the_infotext_itself_counts(infotext, state):
    assert of_texts(infotext=infotext).state == state


def test_texts_that_cannot_be_read_are_damaged_or_unreadable():
    assert of_texts(damaged={"memstab": "its checksum is wrong"}.items()).state == "damaged badge"
    assert of_texts(chunk="{}").state == "damaged badge"
    assert of_texts(damaged={"parameters": "it is not UTF-8"}.items()).state == "unreadable"
    both = of_texts(badge.to_chunk(CLEAR), damaged={"parameters": "it is not UTF-8"}.items())
    assert (both.state, both.contradiction) == ("clear", "the badge says clear, the infotext unreadable")


@pytest.mark.parametrize(
    ("written", "said", "state", "contradiction"),
    [
        (CLEAR, FLAGGED, "flagged", "the badge says clear, the infotext flagged"),
        (FLAGGED, CLEAR, "flagged", "the badge says flagged, the infotext clear"),
        (STOPPED, CLEAR, "partial", "the badge says partial, the infotext clear"),
        (CLEAR, dataclasses.replace(CLEAR, score=1.52), "clear", "the badge says score 1.5, the infotext 1.52"),
        (CLEAR, dataclasses.replace(CLEAR, p_value=0.2), "clear", "the badge says p_value 0.25, the infotext 0.2"),
        (BLIND, dataclasses.replace(BLIND, reason="other"), "not measured", ""),
        (LOOKED, UNLOOKED, "flagged", "the badge says likeness 0.9312, the infotext None"),
        (UNLOOKED, LOOKED, "flagged", "the badge says likeness None, the infotext 0.93"),
        (UNLIKE, dataclasses.replace(UNLIKE, second_look=None), "clear", ""),
    ],
)
def test_two_texts_that_differ_are_told_and_the_graver_counts(written, said, state, contradiction):
    row = of_texts(badge.to_chunk(written), parameters(JobSettings(written.mode, written.sensitivity), said))
    assert (row.state, row.contradiction) == (state, contradiction)


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(st.floats(-1e6, 1e6), st.floats(0, 1), st.floats(1, 1e9, exclude_min=True), st.floats(-1, 1))
def test_rounding_is_no_contradiction(score, p_value, sensitivity, likeness):
    look = SecondLook(likeness, 2.25)
    numbers = {"score": score, "p_value": p_value, "sensitivity": sensitivity, "second_look": look}
    report = dataclasses.replace(LOOKED, mode="suppress", profile=TRANSFER.profile, **numbers)
    row = of_texts(badge.to_chunk(report), parameters(JobSettings("suppress", sensitivity), report))
    assert row.contradiction == ""


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.data())
def test_no_damage_raises_and_none_makes_a_flagged_picture_clear(tmp_path_factory, data):
    path = png(tmp_path_factory.getbasetemp() / "damaged.png", CASES["flagged"][0], FLAGGED)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    assert only(path).state in ("flagged", "damaged badge", "unreadable", "no badge")


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.text(max_size=80), st.text(max_size=80))
def test_any_texts_give_a_row(chunk, verdict):
    for infotext in (verdict, f"x\nSteps: 20, MemStab verdict: {verdict}", f"x\nSteps: 20, MemStab: {verdict}"):
        assert of_texts(chunk, infotext).state in STATES


def test_a_bomb_is_a_damaged_badge(tmp_path):
    bomb = (b"zTXt", b"memstab\0\0" + zlib.compress(b"[" * (64 << 20)))
    row = only(write(tmp_path / "x.png", bomb))
    assert (row.state, "unpacked it is longer" in row.reason) == ("damaged badge", True)


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    png(tmp_path / "b.PNG", *CASES["flagged"])
    png(tmp_path / "deep" / "a.jpg", *CASES["suppressed"])
    (tmp_path / "deep" / "deeper" / "empty.webp").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("MemStab verdict: flagged")
    return tmp_path


def names(found):
    return [row.path.name for row in found]


def test_folders_are_walked_in_order_and_files_counted(tree):
    progress = []
    found = rows(tree, progress=lambda done, total: progress.append((done, total)))
    assert names(found) == ["b.PNG", "a.jpg", "empty.webp"]
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert {state: count for state, count in summary(found).items() if count} == {
        "flagged": 1,
        "suppressed": 1,
        "unreadable": 1,
    }
    assert list(summary([])) == list(STATES)
    assert names(rows(tree, recursive=False)) == ["b.PNG"]
    assert names(rows(tree / "notes.txt", tree / "deep", tree)) == ["notes.txt", "a.jpg", "empty.webp", "b.PNG"]


def test_only_files_modified_since_are_read(tree):
    os.utime(tree / "b.PNG", (0, 0))
    assert names(rows(tree, since=moment("2000-01-01"))) == ["a.jpg", "empty.webp"]
    assert rows(tree / "b.PNG")[0].modified == datetime(1970, 1, 1, tzinfo=timezone.utc)
    for text in ("", "yesterday", "2026-13-01"):
        with pytest.raises(ValueError, match=r"."):
            moment(text)


def linked(link, target):
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("no symbolic links for this user")


def test_links_round_in_a_circle_end_and_can_be_left_out(tree):
    linked(tree / "deep" / "up", tree)
    linked(tree / "itself.png", tree / "itself.png")
    linked(tree / "gone.png", tree / "nothing.png")
    found = rows(tree)
    assert names(found) == ["b.PNG", "a.jpg", "empty.webp", "gone.png", "itself.png"]
    assert [row.state for row in found[3:]] == ["unreadable", "unreadable"]
    assert names(rows(tree, links=False)) == ["b.PNG", "a.jpg", "empty.webp"]


def test_a_folder_that_cannot_be_listed_is_a_row(tree, monkeypatch):
    real = os.scandir

    def refuse(path):
        if path.name == "deep":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = rows(tree)
    assert names(found) == ["b.PNG", "deep"]
    assert (found[1].state, found[1].reason) == ("unreadable", "the folder cannot be read: Permission denied")


def test_a_file_that_is_not_there_is_a_row(tmp_path):
    assert only(tmp_path / "none.png").state == "unreadable"
    assert only(tmp_path / "a\0b.png").state == "unreadable"
    (tmp_path / "folder.png").mkdir()
    assert rows(tmp_path) == []


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_names_that_are_no_text_are_told(tmp_path):
    with contextlib.suppress(OSError):
        png(tmp_path / os.fsdecode(b"caf\xe9.png"), *CASES["clear"])
    png(tmp_path / "two\nlines.png", *CASES["clear"])
    assert [row.state for row in rows(tmp_path)] == ["clear", "clear"]
