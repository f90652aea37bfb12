"""`python -m lib_memstab verify`: what it counts, that it can be taken up again, and what it writes."""

import csv
import io
import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from lib_memstab.core.region import Likeness
from lib_memstab.evidence.descriptors import TileDescriptor
from lib_memstab.evidence.journal import JournalError, packed
from lib_memstab.evidence.prompt_lists import ListedPrompt, PromptList, read_list
from lib_memstab.evidence.verify.figures import clustered_bootstrap, contradicts, figures
from lib_memstab.evidence.verify.journal import Entry, Journal
from lib_memstab.evidence.verify.lab_lists import lab_lists
from lib_memstab.evidence.verify.outcomes import shown
from lib_memstab.evidence.verify.plan import MODES, Sampling, Subject, shots_of, subjects_of
from lib_memstab.evidence.verify.references import TrainingPictureError, read_references
from lib_memstab.evidence.verify.report import Account, write_report
from lib_memstab.evidence.verify.run import excesses, take_all
from lib_memstab.evidence.verify.sources import LabSource
from lib_memstab.lab.statistics import auc, bootstrap

SMALL = ("--limit", 1, "--seeds", 2, "--steps", 4)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    """Intervals by as many rounds as tell something."""
    monkeypatch.setattr("lib_memstab.evidence.verify.figures.ROUNDS", 20)


@pytest.fixture(scope="module")
def lab():
    source = LabSource(Sampling(steps=4, width=128, height=128))
    source.batch = 2
    return source


@pytest.fixture
def call(shell, lab, monkeypatch):
    """The command with one lab model for all calls; its batches are of 2."""
    monkeypatch.setattr("lib_memstab.evidence.verify.command.LabSource", lambda sampling: lab)
    return partial(shell, "verify", *SMALL)


def told(folder):
    """The report's figures without what a clock says."""
    found = json.loads((folder / "report.json").read_text("utf-8"))
    found["figures"].pop("seconds")
    return found


def rows_of(folder):
    text = (folder / "pictures.csv").read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in rows]


def test_a_run_that_was_interrupted_goes_on_to_the_same_report_and_to_no_other(call, lab, monkeypatch, tmp_path):
    code, printed, _ = call("--out", tmp_path / "whole")
    assert code in (0, 1)
    assert "AUC" in printed
    real, calls = lab.take, []

    def take(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(lab, "take", take)
    code, _, complaint = call("--out", tmp_path / "half")
    assert code == 130
    assert "6 of 12 pictures are kept" in complaint
    assert not (tmp_path / "half" / "report.json").exists()
    monkeypatch.setattr(lab, "take", real)
    assert call("--out", tmp_path / "half")[0] in (0, 1)
    assert told(tmp_path / "half") == told(tmp_path / "whole")
    assert rows_of(tmp_path / "half") == rows_of(tmp_path / "whole")
    assert len(rows_of(tmp_path / "half")) == 4
    before = (tmp_path / "half" / "journal.jsonl").read_bytes()
    monkeypatch.setattr(lab, "take", lambda *arguments: pytest.fail("nothing has to be made"))
    assert call("--out", tmp_path / "half", "--json")[0] in (0, 1)
    code, _, complaint = call("--out", tmp_path / "half", "--cfg", 5)
    assert code == 2
    assert "guidance: 7.5 then, 5.0 now" in complaint
    assert "another --out" in complaint
    assert (tmp_path / "half" / "journal.jsonl").read_bytes() == before


def test_the_excess_out_of_a_badge_is_the_score_of_its_evaluation_and_above_one_it_is_outside(lab):
    memorized, ordinary = lab_lists()
    prompts = [one.text for one in (*memorized.prompts[:4], *ordinary.prompts[:4])]
    bound, unlooked = lab.lab.region.threshold(100), 0
    for one in lab.take(prompts, range(8), "detect"):
        found = excesses(one.report)
        if one.report.second_look is None:
            assert one.report.score == pytest.approx(bound * max(found), rel=1e-4)
            unlooked += 1
            assert (max(found) > 1) == (one.report.verdict == "flagged")
        assert sum(value > 1 for value in found) == one.report.steps.outside
        assert len(found) == 4
    assert unlooked > 0


@pytest.fixture
def looking(lab):
    """The lab for bounds that no picture reaches alone, whose calibration found all ordinary pictures unlike."""
    source = LabSource(Sampling(steps=4, width=128, height=128, sensitivity=1e8))
    bands = tuple(replace(band, likeness=Likeness(-2.0, 0.05)) for band in lab.lab.region.bands)
    source.lab = replace(lab.lab, region=replace(lab.lab.region, bands=bands))
    return source


def test_what_came_of_a_second_look_is_kept_and_in_the_table(looking, tmp_path):
    subjects = subjects_of([lab_lists()[0]], [], 1)
    journal = Journal(tmp_path / "journal.jsonl", {})
    take_all(shots_of(subjects, 1), looking, journal, TileDescriptor(), {})
    off, detected, after = journal.entries()
    assert (off.alike, off.extra) == (None, 0)
    assert detected.verdict == "flagged"
    assert detected.score < looking.lab.region.threshold(1e8)
    assert 0.5 < detected.alike <= 1
    assert (after.verdict, after.alike is None) == ("suppressed", False)
    rows = shown(journal, subjects, TileDescriptor())
    write_report(tmp_path, Account({}, [], figures(rows), "by what is told", [], 1), rows)
    assert [float(row["second_look_likeness"]) for row in rows_of(tmp_path)] == [pytest.approx(detected.alike)]


def test_a_journal_of_a_memstab_without_second_looks_goes_on(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", {})
    journal.add(entry(0, 1, "detect", alike=0.9))
    journal.add(entry(0, 2, "detect", alike=0.9))
    first, one, other = journal.path.read_text("utf-8").splitlines()
    earlier = {name: value for name, value in json.loads(one).items() if name != "alike"}
    journal.path.write_text("\n".join([first, json.dumps(earlier), other, ""]), "utf-8")
    assert [found.alike for found in Journal(journal.path, {}).entries()] == [None, 0.9]


def listed(*texts, kinds=()):
    kinds = kinds or [""] * len(texts)
    prompts = tuple(
        ListedPrompt(text, line, kind) for line, (text, kind) in enumerate(zip(texts, kinds, strict=True), 1)
    )
    return PromptList("list.txt", "text", "0" * 64, prompts, ())


def entry(subject, seed, mode, **changes):
    plain = Entry(
        subject, seed, mode, f"{subject}-{seed}", 1.0, "", "", None, None, None, 0, (), False, "", "", None, ""
    )
    return replace(plain, **changes)


def picture(seed):
    rough = np.random.default_rng(seed).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    return packed(TileDescriptor().describe(rough.repeat(16, axis=1).repeat(16, axis=2))[0])


def kept(tmp_path, subjects, pictures, excess, **changes):
    """A journal of pictures that are made here: `pictures` and `excess` by subject, (before, after) of every seed."""
    journal = Journal(tmp_path / "journal.jsonl", {})
    for shot in shots_of(subjects, len(pictures[0])):
        place = shot.seed - shot.subject.seeds(1)[0]
        before, after = pictures[shot.subject.number][place]
        height = excess[shot.subject.number]
        seen = {"verdict": "flagged" if height > 1 else "clear", "score": height, "excess": (height / 2, height)}
        same = before == after
        journal.add(entry(shot.subject.number, shot.seed, "off", descriptor=picture(before)))
        journal.add(entry(shot.subject.number, shot.seed, "detect", whole=True, **{**seen, **changes}))
        left = {**seen, "verdict": "suppressed" if height > 1 else "clear"}
        pixels = f"{shot.subject.number}-{shot.seed}" if same else "other"
        journal.add(entry(shot.subject.number, shot.seed, "suppress", pixels=pixels, descriptor=picture(after), **left))
    return journal


def test_copies_are_told_by_the_seeds_of_a_prompt_before_and_after(tmp_path):
    subjects = subjects_of([listed("replayed", "half", "free", kinds=["verbatim", "template", "verbatim"])], [], None)
    pictures = {
        # Both seeds give picture 1; suppression leaves one of them as it was.
        0: [(1, 1), (1, 2), (1, 3)],
        # Two of three seeds give picture 10, and suppression helps both.
        1: [(10, 11), (10, 12), (13, 13)],
        2: [(20, 20), (21, 21), (22, 22)],
    }
    journal = kept(tmp_path, subjects, pictures, {0: 2, 1: 2, 2: 0.1})
    rows = shown(journal, subjects, TileDescriptor())
    assert [row.copied for row in rows] == [
        *((True, True), (True, False), (True, False)),
        *((True, False), (True, False), (False, False)),
        *[(False, False)] * 3,
    ]
    found = figures(rows)["memorization"]
    assert found["all"]["before"]["hits"] == 5
    assert found["all"]["after"]["hits"] == 1
    assert found["all"]["after, of those before"]["of"] == 5
    assert found["template"]["before"]["hits"] == 2
    assert found["verbatim"]["before"]["of"] == 6
    assert "1 of 9 memorized pictures are copies after suppression" in contradicts(figures(rows))


def test_a_new_picture_that_all_suppressed_seeds_share_is_a_copy_too(tmp_path):
    subjects = subjects_of([listed("one")], [], None)
    rows = shown(kept(tmp_path, subjects, {0: [(1, 9), (1, 9)]}, {0: 2}), subjects, TileDescriptor())
    assert [row.copied for row in rows] == [(True, True), (True, True)]


def test_detection_is_ranked_by_first_evaluations_and_kinds(tmp_path):
    subjects = subjects_of([listed("a", "b", kinds=["verbatim", "template"])], [listed("c", "d")], None)
    pictures = {number: [(4 * number, 4 * number), (4 * number + 1, 4 * number + 1)] for number in range(4)}
    found = figures(
        shown(kept(tmp_path, subjects, pictures, {0: 3, 1: 0.5, 2: 0.2, 3: 0.9}), subjects, TileDescriptor())
    )
    ranked = found["detection"]
    assert ranked["verbatim"]["all"]["auc"] == 1
    assert ranked["template"]["all"]["auc"] == 0.5
    assert ranked["all"]["all"]["auc"] == 0.75
    assert ranked["all"]["first"]["prompts"] == [2, 2]
    assert found["flagged"]["verbatim"]["rate"] == 1
    assert found["flagged"]["ordinary"]["rate"] == 0
    assert found["identical"]["ordinary"]["suppress mode, not flagged"] == [4, 4]


def test_what_was_not_measured_is_counted_and_not_ranked(tmp_path):
    subjects = subjects_of([listed("a")], [listed("c")], None)
    pictures = {0: [(1, 1)], 1: [(2, 2)]}
    journal = kept(tmp_path, subjects, pictures, {0: 3, 1: 0.5}, verdict="not measured", score=None)
    found = figures(shown(journal, subjects, TileDescriptor()))
    assert found["not measured"] == 2
    assert found["detection"]["all"]["all"] is None
    assert found["memorization"]["all"]["before"]["of"] == 0


def test_a_picture_that_changed_without_a_flag_is_a_finding(tmp_path):
    subjects = subjects_of([listed("a")], [listed("c")], None)
    journal = kept(tmp_path, subjects, {0: [(1, 1)], 1: [(2, 3)]}, {0: 0.5, 1: 0.5})
    assert any(
        "1 ordinary pictures are not pixel-identical" in one
        for one in contradicts(figures(shown(journal, subjects, TileDescriptor())))
    )


def test_intervals_resample_prompts():
    rng = np.random.default_rng(1)
    prompts = [np.full(20, value) for value in rng.normal(1, 1, 30)]
    others = [np.full(20, value) for value in rng.normal(0, 1, 30)]
    wide = clustered_bootstrap(auc, prompts, others, rounds=300)
    narrow = bootstrap(auc, np.concatenate(prompts), np.concatenate(others), rounds=300)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    alone = [np.array([one[0]]) for one in prompts], [np.array([one[0]]) for one in others]
    single = clustered_bootstrap(auc, *alone, rounds=300)
    assert wide == pytest.approx(single)


def test_a_broken_line_of_a_journal_is_a_picture_to_make_again(tmp_path, caplog):
    journal = Journal(tmp_path / "journal.jsonl", {"seeds": 1})
    for seed in (1, 2, 3):
        journal.add(entry(0, seed, "off", descriptor=picture(seed)))
    path = tmp_path / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"subject": 0, "seed": "x"}\n', lines[3], lines[1][:40]]))
    again = Journal(path, {"seeds": 1})
    assert again.done == {(0, 1, "off"), (0, 3, "off")}
    assert "line 3" in caplog.text
    again.add(entry(0, 2, "off"))
    assert {one.seed for one in again.entries()} == {1, 2, 3}
    assert Journal(path, {"seeds": 1}).done == again.done


@pytest.mark.parametrize("content", [b"", b"no journal\n", b'{"schema": 9, "settings": {}}\n', b"[" * 100_000])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content + b"\n")
    with pytest.raises(JournalError, match="another --out"):
        Journal(path, {})


def test_a_hostile_prompt_is_text_in_the_page_and_no_formula_in_the_table(tmp_path):
    hostile = '=HYPERLINK("http://x") <script>alert(1)</script> $\\frac'
    subjects = subjects_of([listed(hostile, kinds=["<b>k</b>"])], [listed("c")], None)
    journal = kept(tmp_path, subjects, {0: [(1, 1), (1, 3)], 1: [(2, 2), (5, 5)]}, {0: 3, 1: 0.5})
    rows = shown(journal, subjects, TileDescriptor())
    account = Account({"host": hostile}, [("memorized", listed(hostile))], figures(rows), hostile, [hostile], 2)
    write_report(tmp_path, account, rows)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert "<b>k" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert rows_of(tmp_path)[0]["prompt"].startswith("'=HYPERLINK")
    assert rows_of(tmp_path)[0]["html_tags"] == ""


def test_training_pictures_belong_to_prompts_by_index_or_by_the_name_in_an_address(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("77.png", "some%20name.jpg", "cat dog.webp", "unrelated.png"):
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / name)
    (folder / "88.png").write_bytes(b"no picture")
    lines = [
        {"caption": "a", "index": 77},
        {"caption": "b", "url": "https://x/y/cat%20dog.jpg?size=2"},
        {"caption": "c", "index": 88, "url": "https://[broken"},
        {"caption": "d", "index": 99},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    subjects = subjects_of([read_list(path)], [], None)
    found, broken = read_references(folder, subjects, TileDescriptor())
    assert list(found) == [0, 1]
    assert len(broken) == 1
    assert broken[0].startswith("88.png")
    with pytest.raises(TrainingPictureError, match="name each as the list's index"):
        read_references(folder, subjects[3:], TileDescriptor())


def test_no_two_prompts_share_a_seed_and_a_prompt_in_two_lists_counts_once():
    subjects = subjects_of([listed("a", "b"), listed("b", "c")], [listed("a", "d")], None)
    assert [(one.group, one.prompt.text) for one in subjects] == [
        *(("memorized", text) for text in "abc"),
        *(("ordinary", text) for text in "ad"),
    ]
    seeds = [shot.seed for shot in shots_of(subjects, 1000)]
    assert len(set(seeds)) == 5000
    assert max(Subject(0, "ordinary", ListedPrompt("x", 1), "", 2_000_000).seeds(1000)) < 2**32
    assert len(subjects_of([listed("a", "b")], [listed("c", "d")], 1)) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--webui", "http://127.0.0.1:1"), "give lists"),
        (("--seeds", 0), "--seeds is"),
        (("--steps", 1), "--steps"),
        (("--width", 100), "steps of 8"),
        (("--auth", "a:b"), "--webui"),
        (("--sampler", "Nonesuch"), "Euler"),
        (("--sscd", "nothing.pt"), "give SSCD's own"),
        (("--memorized", "nothing.txt"), "both"),
        (("--memorized", "nothing.txt", "--ordinary", "nothing.txt"), "nothing.txt"),
    ],
)
def test_a_call_that_cannot_be_followed_says_what_to_give(shell, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    code, _, said = shell("verify", *arguments)
    assert code == 2
    assert complaint in said
    assert list(tmp_path.iterdir()) == []


def test_own_lists_run_on_the_lab_and_their_broken_lines_are_told(shell, lab, monkeypatch, tmp_path):
    monkeypatch.setattr("lib_memstab.evidence.verify.command.LabSource", lambda sampling: lab)
    memorized, ordinary = lab_lists()
    lines = ["Caption;URL;type", f"{memorized.prompts[0].text};u;VM", "broken"]
    (tmp_path / "memorized.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "ordinary.txt").write_text(ordinary.prompts[0].text, encoding="utf-8")
    lists = ("--memorized", tmp_path / "memorized.csv", "--ordinary", tmp_path / "ordinary.txt")
    out = tmp_path / "out"
    code, printed, said = shell("verify", *lists, "--steps", 4, "--seeds", 2, "--out", out)
    assert code in (0, 1)
    assert "memorized.csv, line 3 is left out" in said
    assert "the training pictures were not looked at" in printed
    found = told(out)
    assert found["lists"][0]["broken"][0]["line"] == 3
    assert {(row["group"], row["kind"]) for row in rows_of(out)} == {("memorized", "verbatim"), ("ordinary", "")}
    assert found["figures"]["identical"]["ordinary"]["detect mode"] == [2, 2]
    assert len(MODES) * 4 == len((out / "journal.jsonl").read_text("utf-8").splitlines()) - 1
