"""An attack inside the host: it tells what the shell tells, runs, stops, goes on, and its pages tell what came out."""

import csv
import io
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from lib_memstab.evidence.verify.plan import Sampling, SourceError
from lib_memstab.host.attacker import Attacker
from lib_memstab.host.background import Turn
from tests.evidence.standin import replaying, rough
from tests.host.attacking import ATTEMPTS, BODY, PLAIN, REPLAYED, Machine, asked
from tests.host.verifying import ended

PICTURES = PLAIN + ATTEMPTS


@pytest.fixture
def model():
    with replaying(REPLAYED, hidden=[("cfg_scale", 1.0)]) as made:
        yield made


@pytest.fixture
def machine(model):
    return Machine(model)


def report_of(attacker):
    return json.loads(attacker.file("json").read_text("utf-8"))


def test_it_tells_what_came_out_in_sentences_and_in_files(attacker, machine):
    assert attacker.file("json") is None
    assert attacker.start(asked()) == ""
    progress = ended(attacker)
    assert (progress.state, progress.done, progress.total, progress.resumed) == ("done", PICTURES, PICTURES, 0)
    assert progress.message == "done: 4 attempts, each without MemStab and in suppress mode"
    assert machine.share() == (PICTURES, PICTURES)
    assert machine.sampling == Sampling("Euler", "Automatic", 20, 7.0, 64, 64, 100.0)
    found = report_of(attacker)
    assert progress.report == found
    assert [(row["attack"], row["copies_without"], row["copies_with"]) for row in found["rows"]] == [
        ("words reordered", 0, 0),
        ("CFG 1", 2, 2),
    ]
    assert progress.summary[0] == "1 of 2 prompts were attacked: the others are not replayed here."
    assert any(one.startswith("Attempts of those who do not hold the training picture") for one in progress.summary)
    assert "Of the copies without MemStab 0 of 2 were flagged." in progress.summary
    assert found["copies_by"] in progress.summary
    rows = list(csv.DictReader(io.StringIO(attacker.file("csv").read_bytes().decode("utf-8-sig"))))
    assert [(row["attack"], row["prompt"], row["copy_without"], row["copy_with"], row["flagged"]) for row in rows] == [
        *[("words reordered", REPLAYED, "False", "False", "False")] * 2,
        *[("CFG 1", REPLAYED, "True", "True", "False")] * 2,
    ]


def test_everything_the_shell_tells_is_the_same_here(attacker, model, shell, tmp_path):
    attacker.start(asked(attacks=None))
    ended(attacker)
    for name in ("prompts", "ordinary"):
        (tmp_path / name).write_text(BODY[name], encoding="utf-8")
    call = ("attack", "--webui", model.address, "--prompts-file", tmp_path / "prompts", "--seeds", 2, "--cfg", 7)
    more = ("--ordinary", tmp_path / "ordinary", "--width", 64, "--height", 64, "--out", tmp_path / "out")
    assert shell(*call, *more)[0] == 1
    theirs = json.loads((tmp_path / "out" / "attack-webui.json").read_text("utf-8"))
    ours = report_of(attacker)
    assert len(ours["attempts"]) > 40
    assert theirs.pop("left_out") == ours["left_out"][:1]
    assert {name: ours[name] for name in theirs} == theirs


def test_how_far_it_is_counts_down_once_it_is_known_which_prompts_are_replayed(attacker, machine):
    machine.pictures = 3
    attacker.start(asked())
    progress = ended(attacker)
    assert (progress.state, progress.done, progress.total) == ("stopped", 3, PLAIN + 2 * ATTEMPTS)
    assert asked().pictures() == progress.total
    machine.pictures, machine.taken = 7, 0
    attacker.start(asked())
    progress = ended(attacker)
    assert (progress.done, progress.total, progress.resumed) == (10, PICTURES, 3)


@pytest.mark.parametrize("kept", [3, PLAIN, 11], ids=["among plain pictures", "before attempts", "among attempts"])
def test_stopped_on_the_way_it_goes_on_to_the_same_report(attacker, machine, model, kept):
    attacker.start(asked())
    ended(attacker)
    whole = report_of(attacker)
    machine.taken, machine.pictures = 0, kept
    attacker.start(asked(resume=False))
    progress = ended(attacker)
    assert (progress.state, progress.done, progress.report) == ("stopped", kept, None)
    assert progress.message.startswith(f"stopped; {kept} of ")
    assert progress.message.endswith("pictures are kept: the same attack goes on from there")
    assert attacker.file("json") is None
    machine.taken, machine.pictures, before = 0, 999, len(model.jobs)
    attacker.start(asked(attacker.unfinished()))
    progress = ended(attacker)
    assert (progress.state, progress.done, progress.resumed) == ("done", PICTURES, kept)
    assert len(model.jobs) - before == PICTURES - kept
    assert report_of(attacker) == whole
    assert attacker.unfinished() is None


def test_other_attacks_on_the_same_prompts_go_on_from_the_same_pictures(attacker, machine):
    attacker.start(asked())
    ended(attacker)
    machine.taken = 0
    attacker.start(asked(attacks=["CFG 1", "CFG 3"]))
    assert ended(attacker).state == "done"
    assert machine.taken == 4
    assert [row["attack"] for row in report_of(attacker)["rows"]] == ["CFG 1", "CFG 3"]


def test_where_nothing_is_replayed_nothing_is_attacked(attacker, machine):
    attacker.start(asked(prompts="one\ntwo"))
    progress = ended(attacker)
    assert (progress.state, progress.done, progress.total, machine.taken) == ("done", PLAIN, PLAIN, PLAIN)
    assert "none of these prompts is replayed here" in progress.message
    assert progress.summary[0].startswith("0 of 2 prompts were attacked")
    assert progress.report["attempts"] == []


def test_another_process_knows_the_last_report_and_what_is_unfinished(attacker, machine, tmp_path):
    other = Attacker(machine, lambda: tmp_path / "attacks", Turn(lambda: False))
    assert (other.file("json"), other.unfinished()) == (None, None)
    attacker.start(asked())
    ended(attacker)
    assert other.file("json") == attacker.file("json")
    machine.taken, machine.pictures = 0, 1
    attacker.start(asked(sensitivity=50))
    ended(attacker)
    assert asked(other.unfinished()) == asked(sensitivity=50)


def test_one_work_at_a_time_of_whichever_kind(attacker, verifier, machine, calibrating, turn):
    machine.gate.clear()
    assert attacker.start(asked()) == ""
    assert (turn.taken(), attacker.start(asked()), verifier.start(None)) == ("attacking",) * 3
    assert machine.begun.wait(10)
    assert attacker.stop() is True
    assert machine.told == 1
    machine.gate.set()
    progress = ended(attacker)
    assert (progress.state, progress.done) == ("stopped", 1)
    assert attacker.stop() is False
    calibrating.append(1)
    assert attacker.start(asked()) == "calibrating"


def test_of_many_that_begin_at_once_one_does(attacker, machine, turn, tmp_path):
    machine.gate.clear()
    works, together = (attacker, Attacker(machine, lambda: tmp_path / "others", turn)), threading.Barrier(8)

    def begin(number):
        together.wait(10)
        return works[number % 2].start(asked())

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(begin, range(8))) == ["", *["attacking"] * 7]
    assert [one.stop() for one in works].count(True) == 1
    machine.gate.set()
    assert {ended(one).state for one in works} == {"idle", "stopped"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SourceError("calibrate this checkpoint first"), "calibrate"),
        (RuntimeError("CUDA out of memory"), "RuntimeError: CUDA out of memory"),
    ],
)
def test_a_failure_is_told_and_what_was_made_before_is_kept(attacker, machine, model, error, words, tmp_path):
    machine.refusal = error
    attacker.start(asked())
    progress = ended(attacker)
    assert progress.state == "failed"
    assert words in progress.message
    assert not (tmp_path / "attacks").exists()
    machine.refusal, model.breaks_at = None, 5
    attacker.start(asked())
    progress = ended(attacker)
    assert (progress.state, progress.done) == ("failed", 5)
    assert "out of memory" in progress.message
    model.breaks_at = None
    attacker.start(asked())
    assert ended(attacker).resumed == 5


def test_training_pictures_of_an_output_folder_tell_copies_and_are_begun_from_and_links_there_are_not_followed(
    attacker, model, tmp_path
):
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    Image.fromarray(rough(REPLAYED)).save(tmp_path / "elsewhere.png")
    try:
        (outputs / "7.png").symlink_to(tmp_path / "elsewhere.png")
    except OSError:
        pytest.skip("no symbolic links for this user")
    body = {"prompts": json.dumps({"caption": REPLAYED, "index": 7}), "reference": str(outputs), "seeds": 1}
    names = ["the prompt as it is", "img2img 0.75 of a noisy copy"]
    attacker.start(asked(body, [outputs], attacks=names))
    assert "no picture in" in ended(attacker).message
    (tmp_path / "elsewhere.png").rename(outputs / "7.jpg")
    Image.fromarray(rough(REPLAYED)).save(outputs / "7.jpg", "JPEG")
    attacker.start(asked(body, [outputs], attacks=names))
    progress = ended(attacker)
    rows = {row["attack"]: row for row in progress.report["rows"]}
    assert [(rows[name]["copies_without"], rows[name]["copies_with"]) for name in names] == [(1, 0), (1, 1)]
    assert progress.report["without_picture"]["attempts"] == 1
    assert any("like the training picture" in one for one in progress.summary)
    assert len([job for job in model.jobs if "init_images" in job]) == 2


def test_a_name_that_is_no_unicode_is_told_in_a_way_that_pages_can_tell(attacker, pages, model, tmp_path):
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "7.png").write_bytes(b"no picture")
    try:
        (outputs / os.fsdecode(b"8\xff.png")).write_bytes(b"no picture")
    except OSError:
        pytest.skip("names are Unicode here")
    rows = [json.dumps({"caption": "x", "index": os.fsdecode(b"8\xff")}), json.dumps({"caption": REPLAYED, "index": 7})]
    body = {"prompts": "\n".join(rows), "reference": str(outputs), "seeds": 2}
    attacker.start(asked(body, [outputs], attacks=["CFG 3"]))
    ended(attacker)
    assert pages.get("/memstab/v1/attack").json()["message"].startswith("no picture in")
    Image.fromarray(rough(REPLAYED)).save(outputs / "7.png")
    attacker.start(asked(body, [outputs], attacks=["CFG 3"]))
    ended(attacker)
    told = pages.get("/memstab/v1/attack").json()
    assert told["state"] == "done"
    assert told["report"]["notes"][0].startswith("training picture that cannot be read: 8\\udcff.png")


def test_a_journal_that_cannot_be_read_is_left_alone_until_it_is_started_over(attacker, machine, tmp_path):
    machine.pictures = 1
    attacker.start(asked())
    ended(attacker)
    [journal] = (tmp_path / "attacks").glob("*/journal.jsonl")
    journal.write_text("broken\n")
    machine.taken = 0
    attacker.start(asked())
    assert "start over" in ended(attacker).message
    assert journal.read_text() == "broken\n"
    attacker.start(asked(resume=False))
    assert ended(attacker).state == "stopped"
    assert len(journal.read_text().splitlines()) == 2


def test_the_pages_start_tell_stop_and_give_the_report(pages, attacker, machine):
    place = "/memstab/v1/attack"
    assert pages.get(place).json()["state"] == "idle"
    assert pages.delete(place).status_code == 409
    assert pages.get(f"{place}/report").status_code == 404
    machine.gate.clear()
    started = pages.post(place, json=BODY)
    assert started.status_code == 202
    assert started.json()["state"] in ("waiting", "running")
    for path, body in ((place, BODY), ("/memstab/v1/verify", {"memorized": "a"}), ("/memstab/v1/calibrate", {})):
        refused = pages.post(path, json=body)
        assert (refused.status_code, "DELETE /memstab/v1/attack" in refused.json()["error"]) == (409, True)
    assert machine.begun.wait(10)
    assert pages.delete(place).status_code == 202
    machine.gate.set()
    ended(attacker)
    told = pages.get(place).json()
    assert (told["state"], told["done"], told["report"]) == ("stopped", 1, None)
    assert pages.post(place, json=BODY).status_code == 202
    ended(attacker)
    told = pages.get(place).json()
    assert (told["state"], told["resumed"]) == ("done", 1)
    assert pages.get(f"{place}/report").json() == told["report"]
    answered = pages.get(f"{place}/report", params={"format": "csv"})
    assert answered.headers["content-type"].startswith("text/csv")
    assert answered.content == attacker.file("csv").read_bytes()


def test_the_pages_refusals_are_json(pages, calibrating):
    place = "/memstab/v1/attack"
    wrong = pages.post(place, json={**BODY, "attacks": ["CFG 4"]})
    assert (wrong.status_code, wrong.json()["field"], "'CFG 3'" in wrong.json()["allowed"]) == (422, "attacks", True)
    assert pages.post(place, json={**BODY, "reference": "/"}).status_code == 403
    assert pages.get(f"{place}/report", params={"format": "html"}).json()["allowed"] == "one of json, csv"
    calibrating.append(1)
    refused = pages.post(place, json=BODY)
    assert (refused.status_code, "calibration" in refused.json()["error"]) == (409, True)
