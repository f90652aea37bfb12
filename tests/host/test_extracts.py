"""The extraction's page: prompts of the host's own pictures that give one picture whatever the seed."""

import os

import pytest

from lib_memstab.host import extracts
from lib_memstab.host.audit import ForbiddenError
from lib_memstab.host.extracts import answer, read_extraction
from lib_memstab.settings import SettingsError
from tests.evidence.test_extract_command import ORDINARY, REPLAYED, infotext, write
from tests.evidence.test_extraction import pictures, replays


@pytest.fixture
def outputs(tmp_path):
    """Five replays of one prompt in folders, as many pictures of another, one of a third, and a file that is none."""
    folder = tmp_path / "outputs"
    for seed, pixels in enumerate(replays(5, 1)):
        write(folder / str(seed % 2) / f"r{seed}.png", pixels, infotext(REPLAYED, seed))
    for seed, pixels in enumerate(pictures(5, 3)):
        write(folder / f"o{seed}.png", pixels, infotext(ORDINARY, seed))
    write(folder / "single.png", pictures(1, 9)[0], infotext("alone", 1))
    (folder / "broken.png").write_bytes(b"none")
    return folder


def test_a_prompt_that_gives_one_picture_is_found(outputs):
    found = answer(read_extraction({}, [outputs]))
    assert (found["memorized"], found["prompts"], found["too_few_pictures"], found["truncated"]) == (1, 2, 1, False)
    assert found["groups"][0]["prompt"] == REPLAYED
    assert len(found["groups"][0]["clique"]) == 5
    assert [one["path"] for one in found["left_out"]] == [str(outputs / "broken.png")]


def test_folders_inside_distance_and_clique_are_choices(outputs):
    assert answer(read_extraction({"recursive": False}, [outputs]))["memorized"] == 0
    assert answer(read_extraction({"clique": 6}, [outputs]))["memorized"] == 0
    assert answer(read_extraction({"folder": str(outputs / "0"), "clique": 2}, [outputs]))["memorized"] == 1
    assert answer(read_extraction({"distance": 1, "clique": 5}, [outputs]))["memorized"] == 2


def test_links_lead_nowhere_and_other_folders_are_forbidden(outputs, tmp_path):
    with pytest.raises(ForbiddenError):
        read_extraction({"folder": str(tmp_path)}, [outputs])
    with pytest.raises(FileNotFoundError):
        read_extraction({"folder": str(outputs / "none")}, [outputs])
    if os.name == "posix":
        (outputs / "out").mkdir()
        for seed in range(5):
            (outputs / "out" / f"l{seed}.png").symlink_to(outputs / str(seed % 2) / f"r{seed}.png")
        inside = {"folder": str(outputs / "out")}
        assert answer(read_extraction(inside, [outputs]))["groups"] == []


def test_so_many_rows_at_most(outputs, monkeypatch):
    monkeypatch.setattr(extracts, "MAX_ROWS", 1)
    found = answer(read_extraction({}, [outputs]))
    assert (len(found["groups"]), found["prompts"], found["truncated"]) == (1, 2, True)


def test_more_pictures_of_a_prompt_than_can_be_compared_are_refused(outputs, monkeypatch):
    monkeypatch.setattr("lib_memstab.evidence.cliques.MAX_NODES", 4)
    with pytest.raises(SettingsError, match="fewer pictures of a prompt") as caught:
        answer(read_extraction({}, [outputs]))
    assert caught.value.field == "folder"


def test_the_page_answers_and_refuses_in_json(outputs):
    pytest.importorskip("fastapi", reason="the pages need FastAPI, which the WebUI brings")
    client = pytest.importorskip("fastapi.testclient")
    from lib_memstab.host import api

    app = api.FastAPI()
    rest = dict.fromkeys(("verifier", "attacker", "turn"))
    api.add_pages(app, api.Parts(lambda: "test", *[None] * 9, folders=lambda: [outputs], **rest, credentials="me:x"))
    page, login, place = client.TestClient(app), ("me", "x"), "/memstab/v1/extract"
    assert page.post(place, json={}).status_code == 401
    assert page.post(place, json={}, auth=login).json()["memorized"] == 1
    for body, status in (({"folder": "/"}, 403), ({"folder": str(outputs / "none")}, 404), ({"clique": 1}, 422)):
        answered = page.post(place, json=body, auth=login)
        assert (answered.status_code, "error" in answered.json()) == (status, True)
