"""The tab's look for replays: real pictures in folders, told with links."""

import pytest

pytest.importorskip("matplotlib")

from lib_memstab.host.tab import extracting
from tests.evidence.test_extract_command import ORDINARY, REPLAYED, infotext, write
from tests.evidence.test_extraction import pictures, replays


@pytest.fixture
def outputs(tmp_path):
    for seed, pixels in enumerate(replays(5, 1)):
        write(tmp_path / "out" / f"r{seed}.png", pixels, infotext(REPLAYED, seed))
    for seed, pixels in enumerate(pictures(5, 3)):
        write(tmp_path / "out" / "other" / f"o{seed}.png", pixels, infotext(ORDINARY, seed))
    return tmp_path / "out"


@pytest.fixture
def look(outputs):
    served = []

    def through(chosen="all of them"):
        return extracting.replays(chosen, "all of them", [outputs], served.extend)

    through.served = served
    return through


def test_a_prompt_that_replays_is_told_with_a_link(look, outputs):
    html = look()
    assert "1 of 2 prompts give the same picture again and again." in html
    assert REPLAYED in html
    assert ORDINARY not in html
    assert [path.name for path in look.served] == ["r0.png"]
    assert f'href="file={outputs / "r0.png"}"' in html


def test_nothing_found_is_no_proof_and_says_so(look, outputs):
    html = look(str(outputs / "other"))
    assert "0 of 1 prompts" in html
    assert extracting.NO_REPLAYS in html
    assert look.served == []


def test_few_pictures_and_files_that_say_nothing_are_counted(look, outputs):
    write(outputs / "single.png", pictures(1, 9)[0], infotext("alone", 1))
    (outputs / "broken.png").write_bytes(b"none")
    html = look()
    assert "1 more had fewer than 4 pictures" in html
    assert "1 files were left out, such as broken.png" in html


def test_other_folders_are_refused_and_a_hostile_prompt_is_text(look, outputs, tmp_path):
    assert "only the WebUI" in look(str(tmp_path))
    for seed, pixels in enumerate(replays(4, 2)):
        write(outputs / f"h{seed}.png", pixels, infotext("<img src=x onerror=alert(1)>", seed))
    html = look()
    assert "<img" not in html
    assert "&lt;img" in html
