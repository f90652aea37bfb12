"""The audit's page: only the host's output folders, at most so many rows, and JSON errors that say what to do."""

import os
from pathlib import Path

import pytest

from lib_memstab.host import audit
from lib_memstab.host.audit import ForbiddenError, answer, read_audit
from lib_memstab.settings import SettingsError
from tests.evidence.pictures import png
from tests.test_badge import CASES


@pytest.fixture
def outputs(tmp_path):
    """An output folder with pictures, beside a folder that is none of the host's."""
    for place in ("outputs/day", "outputs-private"):
        (tmp_path / place).mkdir(parents=True)
    png(tmp_path / "outputs" / "a.png", *CASES["clear"])
    png(tmp_path / "outputs" / "day" / "b.png", *CASES["flagged"])
    png(tmp_path / "outputs-private" / "c.png", *CASES["flagged"])
    return tmp_path / "outputs"


def names(content):
    return [Path(row["path"]).name for row in content["rows"]]


def test_a_folder_inside_is_looked_through(outputs):
    content = answer(read_audit({"folder": str(outputs)}, [outputs]))
    assert (content["counts"]["flagged"], content["counts"]["clear"], content["truncated"]) == (1, 1, False)
    assert names(content) == ["a.png", "b.png"]
    assert names(answer(read_audit({"folder": str(outputs / "day")}, [outputs]))) == ["b.png"]
    assert names(answer(read_audit({"folder": str(outputs), "recursive": False}, [outputs]))) == ["a.png"]
    assert names(answer(read_audit({"since": "2999-01-01"}, [outputs]))) == []


def test_without_a_folder_all_that_are_there_are(outputs):
    content = answer(read_audit({"only": ["flagged"]}, [outputs / "day", outputs, outputs / "none"]))
    assert names(content) == ["b.png"]
    assert content["counts"]["clear"] == 1


def test_a_relative_folder_is_the_host_s(outputs, monkeypatch):
    monkeypatch.chdir(outputs.parent)
    assert names(answer(read_audit({"folder": "outputs/day"}, [Path("outputs")]))) == ["b.png"]


@pytest.mark.parametrize(
    "folder", ["..", "outputs/..", "outputs-private", "outputs/../outputs-private", "/", "", "//x/y", "outputs/a\0b"]
)
def test_any_other_folder_is_forbidden(outputs, monkeypatch, folder):
    monkeypatch.chdir(outputs.parent)
    with pytest.raises(ForbiddenError) as caught:
        read_audit({"folder": folder}, [outputs])
    assert caught.value.allowed == [str(outputs)]
    with pytest.raises(ForbiddenError, match="none"):
        read_audit({"folder": folder}, [])


def test_links_lead_nowhere(outputs):
    try:
        (outputs / "out").symlink_to(outputs.parent / "outputs-private")
        (outputs / "d.png").symlink_to(outputs.parent / "outputs-private" / "c.png")
        (outputs / "loop").symlink_to(outputs / "loop")
    except OSError:
        pytest.skip("no symbolic links for this user")
    assert names(answer(read_audit({}, [outputs]))) == ["a.png", "b.png"]
    with pytest.raises(ForbiddenError):
        read_audit({"folder": str(outputs / "out")}, [outputs])
    with pytest.raises((ForbiddenError, FileNotFoundError)):
        read_audit({"folder": str(outputs / "loop")}, [outputs])


def test_a_folder_that_is_not_there_is_told(outputs):
    for name in ("none", "a.png"):
        with pytest.raises(FileNotFoundError, match=name):
            read_audit({"folder": str(outputs / name)}, [outputs])
    with pytest.raises((ForbiddenError, FileNotFoundError)):
        read_audit({"folder": str(outputs / ("x" * 5000))}, [outputs])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ("{", "body"),
        ({"folders": "x"}, "folders"),
        ({"folder": 1}, "folder"),
        ({"recursive": 1}, "recursive"),
        ({"only": "flagged"}, "only"),
        ({"only": [{}]}, "only"),
        ({"since": "soon"}, "since"),
        ({"since": []}, "since"),
    ],
)
def test_a_wrong_field_is_named(outputs, body, field):
    with pytest.raises(SettingsError) as caught:
        read_audit(body, [outputs])
    assert caught.value.field == field


def test_so_many_rows_at_most(outputs, monkeypatch):
    monkeypatch.setattr(audit, "MAX_ROWS", 1)
    content = answer(read_audit({}, [outputs]))
    assert (names(content), content["truncated"], content["counts"]["flagged"]) == (["a.png"], True, 1)
    assert answer(read_audit({"only": ["flagged"]}, [outputs]))["truncated"] is False


@pytest.fixture
def pages(outputs):
    pytest.importorskip("fastapi", reason="the pages need FastAPI, which the WebUI brings")
    client = pytest.importorskip("fastapi.testclient")
    from lib_memstab.host import api

    def parts(credentials=""):
        nothing = [None] * 9
        known = {
            "folders": lambda: [outputs],
            **dict.fromkeys(("verifier", "attacker", "turn")),
            "credentials": credentials,
        }
        return api.Parts(lambda: "test", *nothing, **known)

    def serve(credentials=""):
        app = api.FastAPI()
        api.add_pages(app, parts(credentials))
        return client.TestClient(app)

    return serve


def test_the_page_answers(pages, outputs):
    page = pages()
    assert page.get("/memstab/v1/audit").json()["folders"] == [str(outputs)]
    answered = page.post("/memstab/v1/audit", json={"folder": str(outputs), "only": ["flagged"]})
    assert answered.status_code == 200
    assert names(answered.json()) == ["b.png"]
    if os.name == "posix":
        png(outputs / os.fsdecode(b"caf\xe9.png"), *CASES["clear"])
        assert page.post("/memstab/v1/audit").json()["counts"]["clear"] == 2


def test_the_page_s_errors_are_json(pages, outputs):
    page = pages()
    for body, status in (({"folder": "/"}, 403), ({"folder": str(outputs / "none")}, 404), ({"only": 1}, 422)):
        answered = page.post("/memstab/v1/audit", json=body)
        assert (answered.status_code, "error" in answered.json()) == (status, True)
    assert page.post("/memstab/v1/audit", json={"folder": "/"}).json()["allowed"] == [str(outputs)]


def test_the_page_is_behind_the_password(pages):
    page = pages("me:secret")
    assert page.get("/memstab/v1/audit").status_code == 401
    assert page.post("/memstab/v1/audit", json={}).status_code == 401
    assert page.post("/memstab/v1/audit", json={}, auth=("me", "secret")).status_code == 200
