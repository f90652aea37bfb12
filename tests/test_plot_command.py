"""`python -m lib_memstab plot`, as a user calls it: what it draws, what it says, and its exit codes."""

import json

import pytest
from PIL import Image

from lib_memstab import cli
from tests.evidence.pictures import png, with_comment
from tests.test_badge import CASES, write

pytest.importorskip("matplotlib")


@pytest.fixture
def call(capsys, caplog):
    """Runs the command and returns its exit code, its output, and what it complained of."""

    def run(*arguments):
        caplog.clear()
        code = cli.main(["plot", *map(str, arguments)])
        return code, capsys.readouterr().out, caplog.text

    return run


@pytest.mark.parametrize(("name", "begins"), [("curve.png", b"\x89PNG"), ("curve.svg", b"<?xml")])
def test_a_badge_is_drawn_the_same_every_time(call, tmp_path, name, begins):
    picture = png(tmp_path / "x.png", *CASES["suppressed"])
    drawn = []
    for _ in range(2):
        code, told, _ = call(picture, "--out", tmp_path / name)
        drawn.append((tmp_path / name).read_bytes())
        assert code == 0
        assert told.startswith("Looked like the replay of a training picture")
        assert told.endswith(f"{name}\n")
    assert drawn[0].startswith(begins)
    assert drawn[0] == drawn[1]


def test_the_result_as_json(call, tmp_path):
    picture = png(tmp_path / "x.png", *CASES["clear"])
    code, told, _ = call(picture, "--out", tmp_path / "curve.png", "--json")
    assert (code, json.loads(told)["verdict"]) == (0, "clear")


def test_what_cannot_be_drawn_says_why_and_writes_nothing(call, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    (tmp_path / "text.png").write_text("hello")
    with_comment(tmp_path / "x.jpg", "x")
    write(tmp_path / "damaged.png", (b"tEXt", b"memstab\0{}"))
    picture = png(tmp_path / "blind.png", *CASES["not measured"])
    before = sorted(tmp_path.iterdir())
    for name, reason in (
        ("none.png", "No such file"),
        ("bare.png", "has no badge"),
        ("text.png", "no PNG, JPEG, WebP or AVIF"),
        ("x.jpg", "is not a PNG file but JPEG"),
        ("damaged.png", "the badge cannot be read"),
        ("blind.png", "nothing was measured"),
    ):
        code, told, complaint = call(tmp_path / name, "--out", tmp_path / "curve.png")
        assert (code, told) == (2, "")
        assert reason in complaint
    for out, reason in (("curve.gif", "let it end in .png or .svg"), (picture, "is the picture itself")):
        assert call(picture, "--out", out)[0] == 2
        assert reason in call(picture, "--out", out)[2]
    assert sorted(tmp_path.iterdir()) == before
