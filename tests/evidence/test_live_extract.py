"""`python -m lib_memstab extract --webui`: what is found without MemStab and with it, and how a run is resumed."""

import json

import pytest
from PIL import Image

from lib_memstab.evidence.verify.sources import WebUISource
from tests.evidence.standin import replaying

REPLAYED, OTHER, ORDINARY = "Wheel (16:10) by nobody", "a plain prompt", "a dog"
SMALL = ("--seeds", 5, "--width", 64, "--height", 64)


@pytest.fixture
def lists(tmp_path):
    (tmp_path / "tried.txt").write_text(f"{REPLAYED}\n{OTHER}\n", encoding="utf-8")
    (tmp_path / "ordinary.txt").write_text(ORDINARY, encoding="utf-8")
    return ("--prompts-file", tmp_path / "tried.txt", "--ordinary", tmp_path / "ordinary.txt")


@pytest.fixture
def model():
    with replaying(REPLAYED) as running:
        yield running


def test_a_replayed_prompt_is_found_without_memstab_and_not_with_it(shell, model, lists, tmp_path):
    out = tmp_path / "out"
    call = ("extract", "--webui", model.address, *lists, *SMALL, "--out", out)
    code, printed, _ = shell(*call)
    assert code == 0
    assert "tried     50.0 %" in printed
    assert "5 !" in printed
    assert REPLAYED in printed
    found = json.loads((out / "extract.json").read_text("utf-8"))
    assert [(one["prompts"], one["of"], one["found_without"], one["found_with"]) for one in found["lists"]] == [
        ("tried", 2, 1, 0),
        ("ordinary", 1, 0, 0),
    ]
    by_prompt = {one["prompt"]: one for one in found["prompts"]}
    assert [len(seeds) for seeds in by_prompt[REPLAYED]["clique_seeds"]] == [5, 1]
    assert by_prompt[REPLAYED]["states"] == {"suppressed": 5}
    assert by_prompt[ORDINARY]["memorized"] == [False, False]
    assert Image.open(out / "cliques.png").width > 2 * 5 * 100
    assert len(model.jobs) == 3 * 5 * 2
    assert model.jobs[0]["prompt"] == r"Wheel \(16:10\) by nobody"
    assert len({(job["prompt"], job["seed"]) for job in model.jobs}) == 15
    code, again, _ = shell(*call, "--json")
    assert code == 0
    assert json.loads(again) == found
    assert len(model.jobs) == 30


def test_a_prompt_that_is_replayed_with_memstab_too_is_a_finding(shell, lists, tmp_path):
    with replaying(REPLAYED, hidden=[("steps", 20)]) as model:
        code, printed, _ = shell("extract", "--webui", model.address, *lists, *SMALL, "--out", tmp_path / "out")
    assert code == 1
    assert "tried     50.0 % [1.26, 98.74] of 2  50.0 % [1.26, 98.74] of 2" in printed


def test_where_nothing_is_found_there_is_no_sheet(shell, lists, tmp_path):
    with replaying() as model:
        code, printed, _ = shell("extract", "--webui", model.address, *lists, *SMALL, "--out", tmp_path / "out")
    assert code == 0
    assert "No prompt gave the same picture again and again." in printed
    assert not (tmp_path / "out" / "cliques.png").exists()


def test_a_run_that_was_interrupted_goes_on_to_the_same_result_and_to_no_other(
    shell, model, lists, tmp_path, monkeypatch
):
    call = ("extract", "--webui", model.address, *lists, *SMALL, "--out")
    assert shell(*call, tmp_path / "whole")[0] == 0
    real, seen = WebUISource.shoot, []

    def shoot(self, changes, mode):
        if len(seen) == 7:
            raise KeyboardInterrupt
        seen.append(mode)
        return real(self, changes, mode)

    monkeypatch.setattr(WebUISource, "shoot", shoot)
    code, _, complaint = shell(*call, tmp_path / "half")
    assert code == 130
    assert "7 pictures are kept" in complaint
    assert not (tmp_path / "half" / "extract.json").exists()
    monkeypatch.setattr(WebUISource, "shoot", real)
    model.breaks_at = len(model.jobs) + 4
    code, _, complaint = shell(*call, tmp_path / "half")
    assert code == 2
    assert "CUDA out of memory" in complaint
    assert "11 pictures are kept" in complaint
    model.breaks_at = None
    assert shell(*call, tmp_path / "half")[0] == 0
    for name in ("extract.json", "cliques.png"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    asked = len(model.jobs)
    assert shell(*call, tmp_path / "half", "--distance", 0.001)[0] == 0
    assert json.loads((tmp_path / "half" / "extract.json").read_text("utf-8"))["lists"][0]["found_without"] == 0
    code, _, complaint = shell(*call, tmp_path / "half", "--cfg", 5)
    assert code == 2
    assert "guidance: 7.5 then, 5.0 now" in complaint
    assert len(model.jobs) == asked


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "--prompts-file LIST"),
        (("--prompts-file", "nothing.txt"), "nothing.txt"),
        (("--prompts-file", "tried.txt", "--seeds", 3), "--clique, 4"),
        (("--prompts-file", "tried.txt", "--seeds", 513), "to 512"),
        (("--prompts-file", "tried.txt", "--limit", 0), "--limit is"),
        (("--prompts-file", "tried.txt", "--sensitivity", "inf"), "--sensitivity"),
        (("--prompts-file", "tried.txt", "--jobs", 1), "lab model"),
        ((".", "--prompts-file", "tried.txt"), "folders or --webui"),
        (("--prompts-file", "tried.txt", "--sampler", "Nonesuch"), "it has Euler, Euler a"),
        (("--prompts-file", "comment.txt"), "Enable comments"),
    ],
)
def test_a_call_that_cannot_be_followed_says_what_to_give(shell, model, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tried.txt").write_text("a", encoding="utf-8")
    (tmp_path / "comment.txt").write_text("No #1 hits", encoding="utf-8")
    code, _, said = shell("extract", "--webui", model.address, *arguments)
    assert code == 2
    assert complaint in said
    assert model.jobs == []
    assert not (tmp_path / "extract").exists()


def test_what_belongs_to_a_webui_is_not_taken_for_the_lab(shell, tmp_path):
    code, _, said = shell("extract", "--prompts-file", tmp_path)
    assert code == 2
    assert "--prompts-file belongs to --webui" in said


def test_nothing_at_the_address_is_said_at_once(shell, lists):
    code, _, said = shell("extract", "--webui", "http://127.0.0.1:9", *lists)
    assert code == 2
    assert "is the WebUI running" in said
