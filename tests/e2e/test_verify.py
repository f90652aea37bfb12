"""`python -m lib_memstab verify` against a real WebUI: interrupted at half and resumed, it gives the same table."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lib_memstab.cli import INTERRUPTED
from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e

PROMPTS, SEEDS, MODES = 3, 2, 3
PICTURES = 2 * PROMPTS * SEEDS * MODES


def write_lists(folder, memorized, ordinary):
    rows = [{"caption": text, "index": place, "url": "u"} for place, text in enumerate(memorized[:PROMPTS])]
    (folder / "memorized.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "ordinary.txt").write_text("\n".join(ordinary[:PROMPTS]), encoding="utf-8")


def command(webui, folder, out):
    lists = ["--memorized", str(folder / "memorized.jsonl"), "--ordinary", str(folder / "ordinary.txt")]
    sampling = ["--width", "128", "--height", "128", "--steps", "20", "--sampler", "Euler", "--seeds", str(SEEDS)]
    start = [sys.executable, "-m", "lib_memstab", "verify", "--webui", webui.address]
    return [*start, *lists, *sampling, "--out", str(folder / out)]


def lines(journal):
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def told(folder):
    """The report but for what a clock says."""
    found = json.loads((folder / "report.json").read_text("utf-8"))
    found["figures"].pop("seconds")
    return found


def test_interrupted_at_half_and_resumed_it_gives_the_same_table(calibrated, memorized, ordinary, tmp_path):
    write_lists(tmp_path, memorized, ordinary)
    environment = {**os.environ, "MPLBACKEND": "agg"}
    whole = subprocess.run(command(calibrated, tmp_path, "whole"), cwd=ROOT, env=environment, timeout=600)
    assert whole.returncode in (0, 1)
    half = tmp_path / "half" / "journal.jsonl"
    # Where the tests run in the background, an interruption is ignored, and would be by whatever they start.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "env": environment}
    called = command(calibrated, tmp_path, "half")
    with subprocess.Popen(called, cwd=ROOT, stderr=subprocess.PIPE, text=True, **heeding) as stopped:
        while lines(half) <= PICTURES // 2:
            assert stopped.poll() is None
            time.sleep(0.05)
        stopped.send_signal(signal.SIGINT)
        _, complaint = stopped.communicate(timeout=120)
    assert stopped.returncode == INTERRUPTED
    assert "the same call goes on from there" in complaint
    kept = lines(half) - 1
    assert PICTURES // 2 <= kept < PICTURES
    assert not (tmp_path / "half" / "report.json").exists()
    again = subprocess.run(command(calibrated, tmp_path, "half"), cwd=ROOT, env=environment, timeout=600)
    assert again.returncode == whole.returncode
    assert told(tmp_path / "half") == told(tmp_path / "whole")
    assert lines(half) == PICTURES + 1
    found = told(tmp_path / "whole")["figures"]
    assert found["detection"]["all"]["all"]["auc"] == 1
    assert found["memorization"]["all"]["before"]["hits"] > 0
    assert found["memorization"]["all"]["after"]["hits"] < found["memorization"]["all"]["before"]["hits"]
    same, clear = found["identical"]["ordinary"]["suppress mode, not flagged"]
    assert same == clear > 0
    assert found["identical"]["memorized"]["detect mode"] == [PROMPTS * SEEDS] * 2
