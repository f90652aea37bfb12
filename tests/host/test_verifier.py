"""A verification inside the host, on the lab model: it runs, stops, goes on, and its pages tell what came out."""

import csv
import io
import json

import pytest
from PIL import Image

from lib_memstab.evidence.verify.plan import Sampling, SourceError
from lib_memstab.host.background import Turn
from lib_memstab.host.verifier import Verifier
from tests.host.verifying import SEEDS, asked, ended

PICTURES = 2 * SEEDS * 3
"""Of one prompt in each list, in three modes."""


def figures_of(verifier):
    found = json.loads(verifier.file("json").read_text("utf-8"))
    found["figures"].pop("seconds")
    return found


def test_it_tells_what_came_out_in_sentences_and_in_files(verifier, machine, body):
    assert verifier.file("json") is None
    assert verifier.start(asked(body)) == ""
    progress = ended(verifier)
    assert (progress.state, progress.done, progress.total, progress.resumed) == ("done", PICTURES, PICTURES, 0)
    assert machine.share() == (PICTURES, PICTURES)
    assert machine.sampling == Sampling("Euler", "Automatic", 20, 7.0, 128, 128, 100.0)
    found = json.loads(verifier.file("json").read_text("utf-8"))
    assert progress.report == found
    assert verifier.file("html").read_text("utf-8").startswith("<!doctype html>")
    assert len(list(csv.DictReader(io.StringIO(verifier.file("csv").read_bytes().decode("utf-8-sig"))))) == 4
    hits = found["figures"]["flagged"]["all"]["hits"]
    assert any(f"{hits} of 2, were flagged" in one for one in progress.summary)
    assert any("pixel by pixel: " in one for one in progress.summary)
    assert found["copies_by"] == progress.summary[-1]


def test_stopped_at_half_it_goes_on_to_the_same_report(verifier, machine, body):
    verifier.start(asked(body))
    ended(verifier)
    whole = figures_of(verifier)
    machine.taken, machine.batches = 0, 3
    verifier.start(asked(body, resume=False))
    progress = ended(verifier)
    assert (progress.state, progress.done) == ("stopped", 6)
    assert progress.message == "stopped; 6 of 12 pictures are kept: the same verification goes on from there"
    assert progress.report is None
    assert verifier.file("html") is None
    machine.taken, machine.batches = 0, 99
    verifier.start(asked(verifier.unfinished()))
    progress = ended(verifier)
    assert (progress.state, progress.done, progress.resumed, machine.taken) == ("done", 12, 6, 3)
    assert figures_of(verifier) == whole
    assert verifier.unfinished() is None


def test_another_process_knows_the_last_report_and_what_is_unfinished(verifier, machine, body, tmp_path):
    other = Verifier(machine, lambda: tmp_path / "verifications", Turn(lambda: False))
    assert (other.file("json"), other.unfinished()) == (None, None)
    verifier.start(asked(body))
    ended(verifier)
    assert other.file("json") == verifier.file("json")
    machine.taken, machine.batches = 0, 1
    verifier.start(asked(body, sensitivity=50))
    ended(verifier)
    assert asked(other.unfinished()) == asked(body, sensitivity=50)
    for file in (tmp_path / "verifications").glob("*/asked.json"):
        file.write_text("[]")
    assert other.unfinished() is None


def test_one_at_a_time_and_none_beside_a_calibration(verifier, machine, calibrating, body):
    machine.gate.clear()
    assert verifier.start(asked(body)) == ""
    assert verifier.start(asked(body)) == "verifying"
    verifier.stop()
    machine.gate.set()
    ended(verifier)
    calibrating.append(1)
    assert verifier.start(asked(body)) == "calibrating"


def test_stop_ends_the_picture_that_is_sampled_and_keeps_the_others(verifier, machine, body):
    assert verifier.stop() is False
    machine.gate.clear()
    verifier.start(asked(body))
    assert machine.begun.wait(10)
    assert verifier.stop() is True
    assert machine.told == 1
    machine.gate.set()
    progress = ended(verifier)
    assert (progress.state, progress.done) == ("stopped", 2)


@pytest.mark.parametrize(
    ("error", "words"),
    [(SourceError("calibrate this checkpoint first"), "calibrate"), (RuntimeError("inside"), "RuntimeError: inside")],
)
def test_a_failure_is_told_and_nothing_is_left_behind(verifier, machine, body, tmp_path, error, words):
    machine.refusal = error
    verifier.start(asked(body))
    progress = ended(verifier)
    assert progress.state == "failed"
    assert words in progress.message
    assert not (tmp_path / "verifications").exists()


def test_training_pictures_of_an_output_folder_tell_copies_and_links_there_are_not_followed(
    verifier, lab, body, tmp_path
):
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    listed = json.dumps({"caption": body["memorized"], "index": 7})
    more = {"memorized": listed, "reference": str(outputs), "seeds": 1}
    [taken] = lab.take([body["memorized"]], [1], "off")
    Image.fromarray(taken.pixels).save(tmp_path / "elsewhere.png")
    try:
        (outputs / "7.png").symlink_to(tmp_path / "elsewhere.png")
    except OSError:
        pytest.skip("no symbolic links for this user")
    verifier.start(asked(body, [outputs], **more))
    assert "no picture in" in ended(verifier).message
    (outputs / "7.png").unlink()
    (tmp_path / "elsewhere.png").rename(outputs / "7.png")
    verifier.start(asked(body, [outputs], **more))
    progress = ended(verifier)
    assert progress.summary[-1].startswith(
        "A picture of a memorized prompt counts as a copy if it is like its training"
    )
    before = progress.report["figures"]["memorization"]["all"]["before"]
    assert (before["hits"], before["of"]) == (1, 1)


def test_a_journal_that_cannot_be_read_is_left_alone_until_it_is_started_over(verifier, machine, body, tmp_path):
    machine.batches = 1
    verifier.start(asked(body))
    ended(verifier)
    [journal] = (tmp_path / "verifications").glob("*/journal.jsonl")
    journal.write_text("broken\n")
    machine.taken = 0
    verifier.start(asked(body))
    assert "start over" in ended(verifier).message
    assert journal.read_text() == "broken\n"
    verifier.start(asked(body, resume=False))
    assert ended(verifier).state == "stopped"
    assert len(journal.read_text().splitlines()) == 3


def test_the_pages_start_tell_stop_and_give_the_report(pages, verifier, machine, body):
    place = "/memstab/v1/verify"
    assert pages.get(place).json()["state"] == "idle"
    assert pages.delete(place).status_code == 409
    assert pages.get(f"{place}/report").status_code == 404
    machine.gate.clear()
    started = pages.post(place, json=body)
    assert started.status_code == 202
    assert started.json()["state"] in ("waiting", "running")
    again = pages.post(place, json=body)
    assert (again.status_code, "DELETE" in again.json()["error"]) == (409, True)
    calibrate = pages.post("/memstab/v1/calibrate", json={})
    assert (calibrate.status_code, "verification" in calibrate.json()["error"]) == (409, True)
    assert machine.begun.wait(10)
    assert pages.delete(place).status_code == 202
    machine.gate.set()
    ended(verifier)
    told = pages.get(place).json()
    assert (told["state"], told["done"], told["report"]) == ("stopped", 2, None)
    assert pages.get(f"{place}/report").status_code == 404
    assert pages.post(place, json=body).status_code == 202
    ended(verifier)
    told = pages.get(place).json()
    assert (told["state"], told["resumed"]) == ("done", 2)
    assert pages.get(f"{place}/report").json() == told["report"]
    for form, kind in (("html", "text/html"), ("csv", "text/csv")):
        answered = pages.get(f"{place}/report", params={"format": form})
        assert answered.headers["content-type"].startswith(kind)
        assert answered.headers["content-security-policy"].startswith("default-src 'none'")
        assert answered.content == verifier.file(form).read_bytes()


def test_the_pages_refusals_are_json(pages, calibrating, body):
    place = "/memstab/v1/verify"
    wrong = pages.post(place, json={**body, "steps": "many"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "steps")
    assert pages.post(place, content=b"{").json()["field"] == "body"
    assert pages.post(place, json={**body, "reference": "/"}).status_code == 403
    assert pages.get(f"{place}/report", params={"format": "pdf"}).json()["allowed"] == "one of html, json, csv"
    calibrating.append(1)
    refused = pages.post(place, json=body)
    assert (refused.status_code, "calibration" in refused.json()["error"]) == (409, True)
