"""A verification inside the WebUI: from the tab, stopped, gone on; the pictures of one over HTTP; a good neighbour."""

import csv
import io
import json
import os
import re
import subprocess
import time
import urllib.request

import pytest

from lib_memstab.host.tab import extracting, verifying, working
from lib_memstab.host.tab.working import VERIFYING
from tests.e2e.conftest import ROOT
from tests.e2e.test_browser import open_tab, upload, wait_for_words
from tests.e2e.test_panel import contrast_of
from tests.e2e.test_verify import PICTURES, PROMPTS, SEEDS, command, told, write_lists

pytestmark = pytest.mark.e2e

PLACE = "/memstab/v1/verify"
SETTINGS = {"seeds": SEEDS, "steps": 20, "width": 128, "height": 128, "guidance": 7.5}
MORE_THAN_HALF = rf"verifying: (1[89]|2\d) of {PICTURES} pictures"


def open_evidence(page):
    open_tab(page)
    page.click("#tab_memstab button:has-text('Evidence')")


def lists_of(folder):
    return (folder / "memorized.jsonl").read_text("utf-8"), (folder / "ordinary.txt").read_text("utf-8")


def wait_until(webui, states):
    for _ in range(1200):
        now = webui.call(PLACE)[1]
        if now["state"] in states:
            return now
        time.sleep(0.5)
    pytest.fail(f"still {now}")


def made(journal):
    """Every picture of a journal by prompt, seed and mode: its pixels' digest and its badge's figures."""
    rows = [json.loads(line) for line in journal.read_text("utf-8").splitlines()[1:]]
    told = ("pixels", "verdict", "score", "p_value", "first_outside", "excess", "profile", "match")
    return {(row["subject"], row["seed"], row["mode"]): [row[name] for name in told] for row in rows}


@pytest.fixture
def nothing_on_its_way(calibrated):
    yield calibrated
    calibrated.call(PLACE, method="DELETE")
    wait_until(calibrated, ("idle", "done", "stopped", "failed"))


def test_from_the_tab_stopped_at_half_and_gone_on_it_is_the_one_over_http(
    nothing_on_its_way, opened, memorized, ordinary, pictures, tmp_path
):
    webui = nothing_on_its_way
    write_lists(tmp_path, memorized, ordinary)
    page = opened("/?__theme=dark")
    open_evidence(page)
    for field, text in zip(("memorized", "ordinary"), lists_of(tmp_path), strict=True):
        upload(page, field, f"{field}.txt", text.encode())
    for name, value in SETTINGS.items():
        page.fill(f"#memstab_verify_{name} input", str(value))
    page.click("#memstab_verify")
    wait_for_words(page, "verify_line", MORE_THAN_HALF)
    page.screenshot(path=pictures / "evidence-running-dark.png")
    page.click("#memstab_verify_stop")
    wait_for_words(page, "verify_line", rf"\d+ of {PICTURES} pictures are kept")
    assert webui.call(PLACE)[1]["report"] is None
    page.reload()
    open_evidence(page)
    wait_for_words(page, "verify_line", "are kept")
    page.click("#memstab_verify_on")
    wait_for_words(page, "verify_line", "of them made before")
    wait_for_words(page, "verify_line", "done: 12 pictures")
    wait_for_words(page, "verify_result", "What this does not show")
    page.screenshot(path=pictures / "evidence-done-dark.png", full_page=True)
    now = webui.call(PLACE)[1]
    assert (now["state"], now["done"], now["total"]) == ("done", PICTURES, PICTURES)
    assert PICTURES / 2 <= now["resumed"] < PICTURES
    said = page.inner_text("#memstab_verify_result")
    assert len(now["summary"]) >= 5
    assert all(one in said for one in now["summary"])
    names = page.inner_text("#memstab_verify_files")
    assert all(name in names for name in ("report.html", "report.json", "pictures.csv"))
    with page.expect_download() as download:
        page.click("#memstab_verify_files a >> nth=1")
    assert json.loads(download.value.path().read_text("utf-8")) == now["report"]
    assert contrast_of(page, "#memstab_verify_result li") >= 4.5

    shell = subprocess.run(
        command(webui, tmp_path, "shell"), cwd=ROOT, env={**os.environ, "MPLBACKEND": "agg"}, timeout=900
    )
    assert shell.returncode in (0, 1)
    theirs = told(tmp_path / "shell")
    ours = now["report"]
    ours["figures"].pop("seconds")
    assert ours["figures"] == theirs["figures"]
    assert ours["findings"] == theirs["findings"]
    assert ours["copies_by"] == theirs["copies_by"]
    shared = set(theirs["settings"]) - {"lists", "scheduler"}
    assert {name: ours["settings"][name] for name in shared} == {name: theirs["settings"][name] for name in shared}
    same, clear = ours["figures"]["identical"]["ordinary"]["suppress mode, not flagged"]
    assert same == clear > 0
    assert ours["figures"]["memorization"]["all"]["before"]["hits"] > 0
    if webui.folder is not None:
        journals = (webui.folder / "models" / "MemStab" / "verifications").glob("*/journal.jsonl")
        newest = max(journals, key=lambda one: one.stat().st_mtime)
        assert made(newest) == made(tmp_path / "shell" / "journal.jsonl")
        assert len(made(newest)) == PICTURES


def test_over_the_api_others_come_in_between_and_interrupt_stops_it(
    nothing_on_its_way, opened, memorized, ordinary, tmp_path
):
    webui = nothing_on_its_way
    write_lists(tmp_path, memorized, ordinary)
    lists = dict(zip(("memorized", "ordinary"), lists_of(tmp_path), strict=True))
    files = None if webui.folder is None else set((webui.folder / "outputs").rglob("*.*"))
    own = webui.one(ordinary[5], {"mode": "detect"}, seed=7)
    body = {**lists, **SETTINGS, "resume": False}
    page = opened()
    page.click("#script_txt2img_memstab_enable .label-wrap")
    status, answer = webui.call(PLACE, body)
    assert (status, answer["state"]) == (202, "waiting")
    assert webui.call(PLACE, body)[0] == 409
    page.click("#script_txt2img_memstab_calibrate")
    page.wait_for_function(
        "words => document.querySelector('#script_txt2img_memstab_status').innerText.includes(words)", arg=VERIFYING
    )
    status, answer = webui.call("/memstab/v1/calibrate", {}, "POST")
    assert (status, "verification" in answer["error"]) == (409, True)
    while webui.call(PLACE)[1]["done"] < 3:
        time.sleep(0.1)
    between = webui.one(ordinary[5], {"mode": "detect"}, seed=7)
    now = webui.call(PLACE)[1]
    assert (now["state"], now["done"] < PICTURES) == ("running", True)
    assert between.equals(own)
    assert between.report == own.report
    shown = webui.call("/sdapi/v1/progress?skip_current_image=true")[1]
    assert 0 < shown["progress"] < 1
    for _ in range(100):
        webui.call("/sdapi/v1/interrupt", {})
        if webui.call(PLACE)[1]["state"] != "running":
            break
        time.sleep(0.2)
    stopped = wait_until(webui, ("stopped", "done"))
    assert stopped["state"] == "stopped"
    assert f"{stopped['done']} of {PICTURES} pictures are kept" in stopped["message"]
    assert webui.call(f"{PLACE}/report")[0] == 404
    assert webui.call(PLACE, {**body, "resume": True})[0] == 202
    done = wait_until(webui, ("done", "failed", "stopped"))
    assert (done["state"], done["resumed"], done["done"]) == ("done", stopped["done"], PICTURES)
    assert webui.call(f"{PLACE}/report")[1] == done["report"]
    assert files is None or set((webui.folder / "outputs").rglob("*.*")) == files


def test_memstabs_own_ordinary_prompts_serve_and_a_wrong_body_starts_nothing(nothing_on_its_way, memorized):
    webui = nothing_on_its_way
    status, answer = webui.call(PLACE, {"memorized": "\n".join(memorized[:2]), "steps": 1})
    assert (status, answer["field"]) == (422, "steps")
    body = {"memorized": "\n".join(memorized[:2]), **SETTINGS, "width": None}
    assert webui.call(PLACE, body)[0] == 202
    done = wait_until(webui, ("done", "failed"))
    assert done["state"] == "done", done
    assert [one["name"] for one in done["report"]["lists"]] == ["memorized prompts", "MemStab's own ordinary prompts"]
    assert done["report"]["lists"][1]["prompts"] == 2
    assert done["report"]["settings"]["width"] == 128
    with urllib.request.urlopen(f"{webui.address}{PLACE}/report?format=csv", timeout=60) as answer:
        rows = list(csv.DictReader(io.StringIO(answer.read().decode("utf-8-sig"))))
    assert len(rows) == 2 * 2 * SEEDS
    with urllib.request.urlopen(f"{webui.address}{PLACE}/report?format=html", timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "MemStab: verification" in answer.read().decode()


def test_the_other_controls_answer_in_light(nothing_on_its_way, opened, memorized, pictures):
    webui = nothing_on_its_way
    for seed in range(1, 5):
        webui.one(memorized[2], seed=seed, save_images=True)
    page = opened("/?__theme=light")
    open_evidence(page)
    page.click("#memstab_verify")
    wait_for_words(page, "verify_line", re.escape(verifying.NO_PROMPTS))
    page.fill("#memstab_pasted textarea", "\n".join(memorized[:PROMPTS]))
    page.fill("#memstab_verify_steps input", "1")
    page.click("#memstab_verify_anew")
    wait_for_words(page, "verify_line", "“Steps” should be a whole number from 2 to 150")
    page.click("#memstab_verify_stop")
    wait_for_words(page, "verify_line", re.escape(working.NOT_VERIFYING))
    page.click("#memstab_replays_start")
    wait_for_words(page, "replays_result", "[1-9][0-9]* of [0-9]+ prompts give the same picture")
    assert all(head in page.inner_text("#memstab_replays_result") for head in extracting.HEADS)
    link = page.eval_on_selector("#memstab_replays_result a[target=_blank]", "one => one.href")
    assert page.request.get(link).body().startswith(b"\x89PNG")
    page.screenshot(path=pictures / "evidence-light.png", full_page=True)
    assert contrast_of(page, "#memstab_verify_line p") >= 4.5
    status, found = webui.call("/memstab/v1/extract", {})
    assert status == 200
    assert memorized[2] in {one["prompt"] for one in found["groups"] if one["memorized"]}
