"""The evidence in short: every claim is held against the shipped model, and each points the way that it is told."""

import json
import re
import subprocess

import pytest

for name in ("diffusers", "transformers", "tokenizers", "safetensors"):
    pytest.importorskip(name)

from lib_memstab import cli  # noqa: E402
from lib_memstab.evidence import evidence_command as evidence  # noqa: E402

TARGET = "attempts that get a copy, by attackers who know prompt and MemStab"
"""The one claim whose bound is not met: of it only the direction is asserted."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The results of one short run."""
    folder = tmp_path_factory.mktemp("evidence")
    assert cli.main(["evidence", "--short", "--out", str(folder)]) in (0, cli.FINDING)
    return folder


def counts(text):
    return tuple(map(int, re.match(r"(\d+) of (\d+)", text).groups()))


def test_every_claim_points_the_way_it_is_told(folder):
    lines = {line["what"]: line for line in json.loads((folder / evidence.TABLE).read_text())}
    assert len(lines) == 10
    told = lines.pop(TARGET)
    assert all(line["holds"] for line in lines.values()), lines
    before, after = counts(told["without"]), counts(told["with_it"])
    assert before[1] == after[1] > 40
    assert after[0] < 0.3 * before[0]
    copies = lines["memorized prompts: pictures that are copies"]
    assert counts(copies["without"])[0] > 0


def test_a_second_call_makes_nothing_again(folder, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", None)
    assert cli.main(["evidence", "--short", "--out", str(folder), "--only", "extract"]) == 0
    assert "Carlini" in capsys.readouterr().out


def test_a_result_of_another_call_is_not_taken_for_this_one(folder, monkeypatch):
    asked = []

    def run(program, **_):
        asked.append(program)
        return subprocess.CompletedProcess(program, 2, b"")

    monkeypatch.setattr(subprocess, "run", run)
    kept = folder / "extract-short.json"
    before = kept.read_bytes()
    kept.write_text(json.dumps({**json.loads(before), "command": ["extract", "--prompts", "9"]}))
    assert cli.main(["evidence", "--short", "--out", str(folder), "--only", "extract"]) == cli.BAD_USE
    kept.write_bytes(before)
    assert [program[3] for program in asked] == ["extract"]


def test_an_interrupt_of_a_command_ends_all(monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "run", lambda program, **_: subprocess.CompletedProcess(program, cli.INTERRUPTED))
    assert cli.main(["evidence", "--short", "--out", str(tmp_path)]) == cli.INTERRUPTED
    assert not (tmp_path / evidence.TABLE).exists()


def test_a_claim_that_does_not_hold_is_told_and_is_a_finding():
    line = evidence.Line("a thing", "1 of 2", "2 of 2", False)
    assert evidence.words([line]).splitlines()[1].split("  ")[-1] == "NO"
