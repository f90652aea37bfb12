"""`python -m lib_memstab extract`: folders of pictures grouped by what they say, and the lab model."""

import json

import pytest
from PIL import Image, PngImagePlugin

from lib_memstab import badge
from lib_memstab.evidence.extract_folder import read_infotext
from tests.evidence.pictures import with_comment
from tests.evidence.test_extraction import pictures, replays
from tests.test_badge import SUPPRESSED

REPLAYED, ORDINARY = "a red circle", "a blue star, really (one)"


def infotext(prompt, seed, more="", negative="blurry"):
    said = f"\nNegative prompt: {negative}" if negative else ""
    return f"{prompt}{said}\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: {seed}, Size: 64x64, Model hash: 1234{more}"


def write(path, pixels, text, chunk=None):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    if chunk is not None:
        info.add_text(badge.CHUNK, badge.to_chunk(chunk))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, pnginfo=info)
    return path


@pytest.fixture
def folder(tmp_path):
    """Five replays of one prompt in two folders, as many pictures of another, and one of a third."""
    for seed, pixels in enumerate(replays(5, 1)):
        write(tmp_path / str(seed % 2) / f"r{seed}.png", pixels, infotext(REPLAYED, seed))
    for seed, pixels in enumerate(pictures(5, 3)):
        write(tmp_path / f"o{seed}.png", pixels, infotext(ORDINARY, seed))
    write(tmp_path / "single.png", pictures(1, 9)[0], infotext("alone", 1))
    return tmp_path


def groups(shell, *arguments):
    code, out, _ = shell("extract", *arguments, "--json")
    return code, json.loads(out)


def test_a_prompt_that_gives_one_picture_is_found_and_another_is_not(shell, folder):
    code, found = groups(shell, folder)
    assert code == 1
    by_prompt = {one["prompt"]: one for one in found["groups"]}
    assert {prompt: one["memorized"] for prompt, one in by_prompt.items()} == {
        REPLAYED: True, ORDINARY: False, "alone": False,
    }  # fmt: skip
    assert len(by_prompt[REPLAYED]["clique"]) == 5
    assert by_prompt["alone"]["tightest"] is None
    assert found["left_out"] == []
    code, out, _ = shell("extract", folder)
    assert code == 1
    assert "1 of 2 prompts give the same picture" in out
    assert "1 more had fewer than 4 pictures" in out
    assert REPLAYED in out


def test_pictures_of_one_seed_of_another_picture_and_grids_say_nothing(shell, tmp_path):
    one = pictures(1, 2)[0]
    for index in range(6):
        write(tmp_path / f"again{index}.png", one, infotext("same seed", 7))
        write(tmp_path / f"img2img{index}.png", one, infotext("from one", index, ", Denoising strength: 0.5"))
        write(tmp_path / f"grid-{index:04}.png", one, infotext("in a grid", index))
    more = ", Denoising strength: 0.7, Hires upscale: 2"
    for index, other in enumerate(pictures(5, 8)):
        write(tmp_path / f"hires{index}.png", other, infotext("hires", index, more))
    code, found = groups(shell, tmp_path)
    assert code == 0
    assert {one["prompt"]: one["pictures"] for one in found["groups"]} == {"same seed": 1, "hires": 5}
    assert len(found["left_out"]) == 5 + 6 + 6
    assert {one["reason"] for one in found["left_out"] if "img2img" in one["path"]} == {
        "made from another picture (img2img)"
    }


def test_suppressed_pictures_are_a_group_of_their_own(shell, tmp_path):
    for seed, (pixels, other) in enumerate(zip(replays(4, 1), pictures(4, 5), strict=True)):
        write(tmp_path / f"off{seed}.png", pixels, infotext(REPLAYED, seed))
        write(tmp_path / f"on{seed}.png", other, infotext(REPLAYED, seed), SUPPRESSED)
    code, found = groups(shell, tmp_path)
    assert code == 1
    assert {one["suppressed"]: one["memorized"] for one in found["groups"]} == {False: True, True: False}


def test_jpeg_and_webp_are_read_too(shell, tmp_path):
    for seed in range(4):
        with_comment(tmp_path / f"{seed}.{'jpg' if seed % 2 else 'webp'}", infotext(REPLAYED, seed))
    code, found = groups(shell, tmp_path)
    assert code == 1
    assert found["groups"][0]["pictures"] == 4


def test_files_that_are_no_pictures_are_left_out_with_the_reason(shell, folder):
    (folder / "broken.png").write_bytes((folder / "single.png").read_bytes()[:200])
    (folder / "no.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(folder / "silent.png")
    code, found = groups(shell, folder)
    assert code == 1
    reasons = {one["path"].rpartition("/")[2]: one["reason"] for one in found["left_out"]}
    assert set(reasons) == {"broken.png", "no.png", "silent.png"}
    assert "does not say" in reasons["silent.png"]


def test_a_picture_that_unpacks_to_far_too_much_is_refused(shell, folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    code, found = groups(shell, folder)
    assert code == 0
    assert found["groups"] == []
    assert all("it cannot be read" in one["reason"] for one in found["left_out"])


def test_an_infotext_tells_its_prompt_whatever_is_in_it():
    two_lines = read_infotext(infotext("first line\nSteps: 3 of them, Seed: 9", 5))
    assert two_lines.prompt == "first line\nSteps: 3 of them, Seed: 9"
    assert two_lines.seed == "5"
    assert two_lines.checkpoint == "1234"
    assert read_infotext(infotext("", 5)).prompt == ""
    assert read_infotext(infotext("", 5, negative="")).prompt == ""
    assert read_infotext("only a text") is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no such folder"], "check the path"),
        (["--clique", "1"], "one picture is always like itself"),
        (["--distance", "0"], "--distance is above 0"),
        (["--seeds", "3"], "have no clique of 4"),
        (["--prompts", "0"], "are 1 or more"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_sampled(shell, arguments, words):
    code, out, said = shell("extract", *arguments)
    assert code == 2
    assert out == ""
    assert words in said


def test_on_the_lab_model_a_memorized_prompt_is_found_an_ordinary_one_is_not_and_suppression_ends_it():
    pytest.importorskip("torchsde")
    from lib_memstab.evidence.extract_lab import Plan, figures, markdown, sample_prompt

    plan = Plan(seeds=2, clique=2, prompts=1)
    by_kind = dict(plan.trials())
    assert list(by_kind) == ["title", "caption", "template", "light", "ordinary", "hard"]
    memorized, ordinary = (sample_prompt((kind, by_kind[kind]), plan) for kind in ("title", "ordinary"))
    result = figures([memorized, memorized, ordinary], plan)
    before, after = result["rows"]
    assert before["kinds"]["title"] == [2, 2, 2]
    assert before["kinds"]["ordinary"] == [0, 0, 1]
    assert (before["found"], before["right"], before["replayed"]) == (2, 2, 2)
    assert (after["found"], after["replayed"]) == (0, 0)
    assert "chosen on every second prompt" in markdown(result)
    half = [one.distances[0].max() for one in (memorized, ordinary)]
    assert result["distance"] == pytest.approx(sum(half) / 2)
