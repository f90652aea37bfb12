"""`extract --webui` and `attack --webui` against a real WebUI, and its own attack: what is found, and the same after an
interruption.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from lib_memstab.cli import FINDING, INTERRUPTED
from lib_memstab.evidence.similarity_command import training_pictures
from lib_memstab.lab.corpus import Memorized
from tests.e2e.conftest import ROOT
from tests.e2e.test_browser import open_tab, wait_for_words
from tests.e2e.test_panel import contrast_of

pytestmark = pytest.mark.e2e

SEEDS = 5
SIDES = ("--width", "128", "--height", "128", "--steps", "20", "--sampler", "Euler")
PLAIN, EDITED, AND, IMG2IMG = (
    "the prompt as it is",
    "[ordinary:prompt:.3]",
    "prompt AND ordinary",
    "img2img 0.9 of a noisy copy",
)
ATTACKS = (PLAIN, "one letter changed", "negative prompt: its own half", "CFG 3", "Euler a", EDITED, AND, IMG2IMG)


def command(webui, folder, name, *arguments):
    start = [sys.executable, "-m", "lib_memstab", name, "--webui", webui.address, *SIDES]
    return [*start, "--ordinary", str(folder / "ordinary.txt"), *arguments]


def finished(called):
    done = subprocess.run(
        called, cwd=ROOT, env={**os.environ, "MPLBACKEND": "agg"}, timeout=600, capture_output=True, text=True
    )
    assert done.returncode in (0, FINDING), done.stderr
    return done.returncode


def broken_off(called, journal, pictures):
    """Interrupt a call once it has kept so many pictures; what it said."""
    # Where the tests run in the background, an interruption is ignored, and would be by whatever they start.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(called, cwd=ROOT, stderr=subprocess.PIPE, text=True, **heeding) as stopped:
        while not journal.exists() or journal.read_bytes().count(b"\n") - 1 < pictures:
            assert stopped.poll() is None
            time.sleep(0.05)
        stopped.send_signal(signal.SIGINT)
        _, complaint = stopped.communicate(timeout=120)
    assert stopped.returncode == INTERRUPTED
    return complaint


@pytest.fixture
def lists(tmp_path, splits, memorized, ordinary):
    """Two memorized prompts and an ordinary one, and the first one's training picture."""
    rows = [{"caption": text, "index": place} for place, text in enumerate(memorized[:2])]
    (tmp_path / "memorized.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "ordinary.txt").write_text(ordinary[0], encoding="utf-8")
    row = next(row for row in splits["tuning"]["memorized"] if row["text"] == memorized[0])
    pair = Memorized(**{name: value for name, value in row.items() if name != "fillings"})
    (tmp_path / "training").mkdir()
    Image.fromarray(training_pictures([pair])[0]).save(tmp_path / "training" / "0.png")
    return tmp_path


def test_extraction_finds_the_memorized_prompts_without_memstab_and_none_with_it(calibrated, lists, pictures):
    prompts = ("--prompts-file", str(lists / "memorized.jsonl"), "--seeds", str(SEEDS))
    called = [command(calibrated, lists, "extract", *prompts, "--out", str(lists / name)) for name in ("whole", "half")]
    assert finished(called[0]) == 0
    found = json.loads((lists / "whole" / "extract.json").read_text("utf-8"))
    assert [(one["of"], one["found_without"], one["found_with"]) for one in found["lists"]] == [(2, 2, 0), (1, 0, 0)]
    assert all(len(one["clique_seeds"][0]) == SEEDS for one in found["prompts"][:2])
    assert found["not_measured"] == 0
    complaint = broken_off(called[1], lists / "half" / "journal.jsonl", 3 * SEEDS)
    assert "the same call goes on from there" in complaint
    assert not (lists / "half" / "extract.json").exists()
    assert finished(called[1]) == 0
    assert json.loads((lists / "half" / "extract.json").read_text("utf-8")) == found
    sheets = [lists / name / "cliques.png" for name in ("whole", "half")]
    assert sheets[0].read_bytes() == sheets[1].read_bytes()
    (pictures / "cliques.png").write_bytes(sheets[0].read_bytes())


def test_attacks_get_the_training_picture_without_memstab_and_those_that_it_sees_do_not_with_it(calibrated, lists):
    prompts = ("--prompts-file", str(lists / "memorized.jsonl"), "--limit", "1", "--seeds", "2")
    tried = (*prompts, "--reference", str(lists / "training"), "--attacks", *ATTACKS, "--out")
    called = [command(calibrated, lists, "attack", *tried, str(lists / name)) for name in ("whole", "half")]
    code = finished(called[0])
    found = json.loads((lists / "whole" / "attack-webui.json").read_text("utf-8"))
    rows = {row["attack"]: row for row in found["rows"]}
    assert set(rows) == set(ATTACKS)
    assert all(row["attempts"] == 2 for row in rows.values())
    for name in (PLAIN, "CFG 3", "Euler a", EDITED):
        assert (rows[name]["copies_without"], rows[name]["copies_flagged"], rows[name]["copies_with"]) == (2, 2, 0)
    assert rows[AND]["copies_without"] == rows[IMG2IMG]["copies_without"] == 2
    # A prompt that takes itself away hides: docs/attacks.md.
    assert rows["negative prompt: its own half"]["copies_without"] == 2
    assert all(row["not_measured"] == 0 for row in rows.values())
    whole = found["without_picture"]
    assert whole["attempts"] == 2 * (len(ATTACKS) - 1)
    assert code == (FINDING if whole["copies_with"] else 0)
    complaint = broken_off(called[1], lists / "half" / "journal.jsonl", 2 * len(ATTACKS))
    assert "the same call goes on from there" in complaint
    assert finished(called[1]) == code
    assert json.loads((lists / "half" / "attack-webui.json").read_text("utf-8")) == found


PLACE = "/memstab/v1/attack"
OWN = ("CFG 3", "Euler a", IMG2IMG)
OWN_SEEDS = 2
ALL_PICTURES = 2 * 2 * OWN_SEEDS + 2 * OWN_SEEDS * (2 + 2 + 1)
"""Two prompts as they are, and of these two attacks on both, and one on the one whose training picture there is."""


def waited(webui, states):
    for _ in range(1200):
        now = webui.call(PLACE)[1]
        if now["state"] in states:
            return now
        time.sleep(0.2)
    pytest.fail(f"still {now}")


def kept(journal):
    """Every picture of a journal by prompt, attempt and mode: verdict, score, and what it is compared by."""
    rows = [json.loads(line) for line in journal.read_text("utf-8").splitlines()[1:]]
    return {
        (row["subject"], row["order"], row["mode"]): [row[name] for name in ("verdict", "score", "descriptor")]
        for row in rows
    }


@pytest.fixture
def outputs(calibrated, lists):
    """The training picture in a folder of its own among the WebUI's output folders."""
    if calibrated.folder is None:
        pytest.skip("the output folders of a WebUI that runs already are its own")
    folder = Path(calibrated.call("/memstab/v1/audit")[1]["folders"][0]) / "training pictures"
    shutil.copytree(lists / "training", folder)
    yield folder
    calibrated.call(PLACE, method="DELETE")
    waited(calibrated, ("idle", "done", "stopped", "failed"))
    shutil.rmtree(folder)


def test_the_webuis_own_attack_interrupted_and_gone_on_tells_what_the_shell_tells(
    calibrated, lists, outputs, opened, pictures
):
    webui = calibrated
    body = {
        "prompts": (lists / "memorized.jsonl").read_text("utf-8"),
        "ordinary": (lists / "ordinary.txt").read_text("utf-8"),
        "attacks": list(OWN),
        "reference": str(outputs),
        **{"seeds": OWN_SEEDS, "steps": 20, "guidance": 7.5, "width": 128, "height": 128},
    }
    status, answer = webui.call(PLACE, {**body, "attacks": ["CFG 4"]})
    assert (status, answer["field"]) == (422, "attacks")
    files = set((webui.folder / "outputs").rglob("*.*"))
    status, answer = webui.call(PLACE, body)
    assert (status, answer["state"]) == (202, "waiting")
    assert webui.call(PLACE, body)[0] == webui.call("/memstab/v1/verify", {"memorized": "a"})[0] == 409
    while (now := webui.call(PLACE)[1])["done"] < ALL_PICTURES // 2:
        assert now["state"] in ("waiting", "running"), now
        time.sleep(0.05)
    for _ in range(100):
        webui.call("/sdapi/v1/interrupt", {})
        if webui.call(PLACE)[1]["state"] != "running":
            break
        time.sleep(0.1)
    stopped = waited(webui, ("stopped", "done"))
    assert stopped["state"] == "stopped", stopped
    assert ALL_PICTURES // 2 <= stopped["done"] < stopped["total"] == ALL_PICTURES
    assert webui.call(f"{PLACE}/report")[0] == 404
    assert webui.call(PLACE, body)[0] == 202
    done = waited(webui, ("done", "failed", "stopped"))
    assert (done["state"], done["resumed"], done["done"]) == ("done", stopped["done"], ALL_PICTURES), done
    assert webui.call(f"{PLACE}/report")[1] == done["report"]
    assert set((webui.folder / "outputs").rglob("*.*")) == files

    prompts = ("--prompts-file", str(lists / "memorized.jsonl"), "--seeds", str(OWN_SEEDS))
    more = ("--reference", str(lists / "training"), "--attacks", *OWN, "--out", str(lists / "shell"))
    finished(command(webui, lists, "attack", *prompts, *more))
    theirs = json.loads((lists / "shell" / "attack-webui.json").read_text("utf-8"))
    ours = {name: done["report"][name] for name in theirs}
    # The same likeness, in the last digit as this Python's torch has it and as the WebUI's has.
    for one, other in zip(ours["attempts"], theirs["attempts"], strict=True):
        for likeness in ("without", "suppressed"):
            assert one.pop(likeness) == pytest.approx(other.pop(likeness), abs=1e-6)
    assert ours == theirs
    assert theirs["replayed"] == 2
    assert [row["attempts"] for row in theirs["rows"]] == [2 * OWN_SEEDS, 2 * OWN_SEEDS, OWN_SEEDS]
    assert all(row["copies_without"] == row["attempts"] for row in theirs["rows"])
    [journal] = (webui.folder / "models" / "MemStab" / "attacks").glob("*/journal.jsonl")
    assert kept(journal) == kept(lists / "shell" / "journal.jsonl")
    assert len(kept(journal)) == ALL_PICTURES

    page = opened("/?__theme=dark")
    open_tab(page)
    page.click("#tab_memstab button:has-text('Evidence')")
    wait_for_words(page, "attack_line", f"done: {len(theirs['attempts'])} attempts")
    wait_for_words(page, "attack_result", "What this does not show")
    told = page.inner_text("#memstab_attack_result")
    assert all(one in told for one in (*OWN, *done["summary"]))
    assert "attempts.csv" in page.inner_text("#memstab_attack_files")
    page.fill("#memstab_pasted textarea", "one\ntwo")
    wait_for_words(page, "attack_about", "at most [0-9,]+ pictures: 2 prompts, 26 attacks, 4 seeds")
    page.screenshot(path=pictures / "attack-dark.png", full_page=True)
    assert contrast_of(page, "#memstab_attack_result li") >= 4.5
