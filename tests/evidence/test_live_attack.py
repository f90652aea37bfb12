"""`python -m lib_memstab attack --webui`: what is asked of the WebUI, what counts as a copy, and resumed runs."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from lib_memstab.evidence.live.attacks import LIVE_ATTACKS, Target, job_of
from lib_memstab.evidence.verify.sources import WebUISource
from lib_memstab.lab.wordings import REWORDINGS
from tests.evidence.standin import replaying, rough

REPLAYED, FREE, ORDINARY = "Wheel (16:10): nobody", "a plain prompt", "a dog, by day"
SMALL = ("--seeds", 2, "--width", 64, "--height", 64)
CFG_1 = ("cfg_scale", 1.0)


@pytest.fixture
def lists(tmp_path):
    rows = [{"caption": REPLAYED, "index": 7}, {"caption": FREE, "index": 8}]
    (tmp_path / "tried.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "ordinary.txt").write_text(ORDINARY, encoding="utf-8")
    return ("--prompts-file", tmp_path / "tried.jsonl", "--ordinary", tmp_path / "ordinary.txt")


@pytest.fixture
def folder(tmp_path):
    """The training picture of the replayed prompt."""
    (tmp_path / "training").mkdir()
    Image.fromarray(rough(REPLAYED)).save(tmp_path / "training" / "7.png")
    return tmp_path / "training"


def told(folder):
    return json.loads((folder / "attack-webui.json").read_text("utf-8"))


def rows_of(found):
    return {row["attack"]: row for row in found["rows"]}


def test_attacks_are_counted_by_what_copies_are_like_and_what_is_not_replayed_is_left_alone(shell, lists, tmp_path):
    out = tmp_path / "out"
    with replaying(REPLAYED, hidden=[CFG_1]) as model:
        call = ("attack", "--webui", model.address, *lists, *SMALL, "--out", out)
        code, printed, _ = shell(*call)
        asked = len(model.jobs)
        assert code == 1
        found = told(out)
        assert json.loads(shell(*call, "--json")[1]) == found
        assert len(model.jobs) == asked
    assert (found["prompts"], found["replayed"]) == (2, 1)
    assert "1 of 2 prompts were attacked" in printed
    assert "the training pictures were not looked at" in printed
    assert found["left_out"] == ["the WebUI has no sampler 'DDIM'"]
    rows = rows_of(found)
    assert {one["prompt"] for one in found["attempts"]} == {REPLAYED}
    for name, with_it, flagged in (("the prompt as it is", 0, 2), ("CFG 1", 2, 0), ("CFG 3", 0, 2), ("Euler a", 0, 2)):
        row = rows[name]
        assert (row["attempts"], row["copies_without"], row["copies_with"]) == (2, 2, with_it), name
        assert (row["flagged"], row["copies_flagged"], row["prompts_won"]) == (flagged, flagged, with_it // 2)
    assert rows["CFG 1"]["interval_with"] == pytest.approx([0.224, 1.0], abs=1e-3)
    assert rows["prompt AND ordinary"]["copies_without"] == 2
    assert rows["beginning dropped"]["copies_without"] == rows["half AND half"]["copies_without"] == 0
    assert not any(name.startswith("img2img") for name in rows)
    whole = found["without_picture"]
    assert (whole["copies_with"], whole["attempts"]) == (2, sum(row["attempts"] for row in found["rows"]))
    free = {json.dumps({**job, "alwayson_scripts": 0}) for job in model.jobs if job["prompt"] == FREE}
    assert len(free) == 2


def test_with_the_training_picture_likeness_is_to_that_and_its_noisy_copy_is_tried(shell, lists, folder, tmp_path):
    with replaying(REPLAYED) as model:
        call = ("attack", "--webui", model.address, *lists, *SMALL, "--reference", folder)
        names = ("the prompt as it is", "img2img 0.75 of a noisy copy", "img2img 0.9 of a noisy copy, ordinary prompt")
        code, printed, _ = shell(*call, "--out", tmp_path / "out", "--attacks", *names)
        sent = [job for job in model.jobs if "init_images" in job]
    # Who holds the picture is no finding.
    assert code == 0
    found = told(tmp_path / "out")
    rows = rows_of(found)
    assert list(rows) == ["the prompt as it is", names[2], names[1]]
    assert (rows[names[1]]["copies_without"], rows[names[1]]["copies_with"]) == (2, 2)
    assert rows[names[1]]["not_measured"] == 2
    assert (rows[names[0]]["copies_without"], rows[names[0]]["copies_with"]) == (2, 0)
    assert found["without_picture"]["attempts"] == 2
    assert "like the training picture" in printed
    assert "control" in printed
    assert {job["denoising_strength"] for job in sent} == {0.75, 0.9}
    assert {job["prompt"] for job in sent} == {r"Wheel \(16:10\): nobody", ORDINARY}
    starts = {job["seed"]: job["init_images"][0] for job in sent}
    assert len(set(starts.values())) == 2
    start = np.asarray(Image.open(io.BytesIO(base64.b64decode(next(iter(starts.values()))))), dtype=float)
    assert start.shape == (64, 64, 3)
    assert 20 < np.abs(start - rough(REPLAYED)).mean() < 70


def test_a_run_that_was_interrupted_goes_on_to_the_same_result(shell, lists, tmp_path, monkeypatch):
    names = ("--attacks", "CFG 1", "words reordered", "[ordinary:prompt:.3]")
    with replaying(REPLAYED) as model:
        call = ("attack", "--webui", model.address, *lists, *SMALL, *names, "--out")
        assert shell(*call, tmp_path / "whole")[0] == 0
        real, seen = WebUISource.shoot, []

        def shoot(self, changes, mode):
            if len(seen) in (3, 12):
                seen.append("broken off")
                raise KeyboardInterrupt
            seen.append(mode)
            return real(self, changes, mode)

        monkeypatch.setattr(WebUISource, "shoot", shoot)
        for kept in (3, 11):
            code, _, complaint = shell(*call, tmp_path / "half")
            assert code == 130
            assert f"{kept} pictures are kept" in complaint
            assert not (tmp_path / "half" / "attack-webui.json").exists()
        assert shell(*call, tmp_path / "half")[0] == 0
        results = [(tmp_path / name / "attack-webui.json").read_bytes() for name in ("half", "whole")]
        assert results[0] == results[1]
        assert len(seen) - 2 == 2 * (2 * 2 + 3 * 2)
        asked = len(model.jobs)
        code, printed, _ = shell(*call[:-1], "--attacks", "CFG 1", "CFG 3", "--out", tmp_path / "half")
        assert code == 0
        assert "| CFG 3 |" in printed
        assert len(model.jobs) == asked + 4


def test_where_no_prompt_is_replayed_nothing_is_attacked(shell, lists, tmp_path):
    with replaying() as model:
        code, printed, _ = shell("attack", "--webui", model.address, *lists, *SMALL, "--out", tmp_path / "out")
        assert len(model.jobs) == 2 * 2 * 2
    assert code == 0
    assert "0 of 2 prompts were attacked" in printed
    assert told(tmp_path / "out")["rows"] == []


@pytest.mark.parametrize("name", LIVE_ATTACKS)
def test_an_attempt_is_another_job_than_the_plain_one_and_the_same_again(name, folder):
    target = Target(REPLAYED, ORDINARY, 3, 64, 64, folder / "7.png")
    job, again = job_of(LIVE_ATTACKS[name], target), job_of(LIVE_ATTACKS[name], target)
    assert job == again
    assert job["seed"] == 3
    plain = {"prompt": r"Wheel \(16:10\): nobody", "seed": 3}
    assert (job == plain) == (name == "the prompt as it is")
    assert json.dumps(job)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("an ordinary caption appended", {"prompt": r"Wheel \(16:10\): nobody, a dog, by day"}),
        ("negative prompt: its own half", {"negative_prompt": r"\(16:10\): nobody"}),
        ("[ordinary:prompt:.1]", {"prompt": r"[a dog, by day:Wheel \(16\:10\)\: nobody:0.1]"}),
        ("[prompt:ordinary:.3]", {"prompt": r"[Wheel \(16\:10\)\: nobody:a dog, by day:0.3]"}),
        ("prompt AND ordinary", {"prompt": r"Wheel \(16:10\): nobody AND a dog, by day"}),
        ("half AND half", {"prompt": r"Wheel AND \(16:10\): nobody"}),
        ("written twice", {"prompt": r"Wheel \(16:10\): nobody, Wheel \(16:10\): nobody"}),
        ("6 steps", {"steps": 6}),
    ],
)
def test_prompts_are_escaped_and_the_syntax_of_an_attack_is_not(name, asked):
    plain = {"prompt": r"Wheel \(16:10\): nobody", "seed": 3}
    assert job_of(LIVE_ATTACKS[name], Target(REPLAYED, ORDINARY, 3, 64, 64)) == {**plain, **asked}


@pytest.mark.parametrize("prompt", ["one", "1984"])
def test_a_prompt_of_one_word_is_not_cut_and_one_without_letters_has_none_changed(prompt):
    target = Target(prompt, ORDINARY, 3, 64, 64)
    impossible = {name for name, attack in LIVE_ATTACKS.items() if job_of(attack, target) is None}
    cut = {"beginning dropped", "end dropped", "one word dropped", "words reordered", "half AND half"}
    cut |= {"negative prompt: its own half"} | {name for name in LIVE_ATTACKS if name.startswith("img2img")}
    assert impossible == (cut if prompt == "one" else cut | {"one letter changed"})
    assert set(REWORDINGS) < set(LIVE_ATTACKS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--attacks", "inversion from noise"), "there is no attack 'inversion from noise' through a WebUI"),
        (("--attacks", "DDIM"), "the WebUI has no sampler 'DDIM'"),
        (("--full",), "--full is for the lab model"),
        (("--strength", "0.5"), "--strength is for the lab model"),
        (("--steps", "10", "20"), "--steps is one number"),
        (("--seeds", "1"), "--seeds 2 or more"),
        (("--reference", "nowhere"), "check the path"),
        (("--reference", "."), "name each as the list's index"),
        (("--sscd", "nothing.pt"), "give SSCD's own"),
    ],
)
def test_a_call_that_cannot_be_followed_says_what_to_give(shell, lists, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    with replaying(REPLAYED) as model:
        code, _, said = shell("attack", "--webui", model.address, *lists[:2], *arguments)
        assert model.jobs == []
    assert code == 2
    assert complaint in said
    assert not (tmp_path / "attack").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--attacks", "DPM++ 2M"), "there is no attack 'DPM++ 2M' on the lab model"),
        (("--cfg", "3"), "--cfg belongs to --webui"),
        (("--reference", "."), "--reference belongs to --webui"),
    ],
)
def test_what_belongs_to_a_webui_is_not_taken_for_the_lab(shell, arguments, complaint):
    code, _, said = shell("attack", *arguments)
    assert code == 2
    assert complaint in said
