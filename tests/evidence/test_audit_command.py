"""`python -m lib_memstab audit`, as a user calls it: what it says, what it writes, and its exit codes."""

import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from lib_memstab import cli
from lib_memstab.evidence.audit import Row
from lib_memstab.evidence.audit_table import shown, to_csv
from tests.evidence.pictures import png
from tests.test_badge import CASES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def call(shell):
    return partial(shell, "audit")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "outputs"
    (place / "deep").mkdir(parents=True)
    for name in ("clear", "suppressed", "not measured"):
        png(place / f"{name}.png", *CASES[name])
    png(place / "deep" / "flagged.png", *CASES["flagged"])
    return place


def test_counts_come_first_and_then_what_was_found(call, folder):
    code, told, _ = call(folder)
    counts, table = told.split("\n\n")
    assert code == 1
    assert counts.splitlines() == [
        "4 files",
        "flagged       1",
        "suppressed    1",
        "not measured  1",
        "clear         1",
    ]
    assert [line.split()[:4] for line in table.splitlines()[1:]] == [
        ["flagged", "8.21", "0.0004", "2"],
        ["suppressed", "8.21", "<0.0001", "2"],
    ]
    assert str(folder / "deep" / "flagged.png") in table


def test_what_is_listed_and_the_exit_code(call, folder):
    assert len(call(folder, "--all")[1].splitlines()) == 5 + 2 + 4
    code, told, _ = call(folder, "--flat", "--only", "clear", "not-measured")
    assert code == 0
    assert [line.split()[0] for line in told.split("\n\n")[1].splitlines()[1:]] == ["not", "clear"]
    (folder / "empty").mkdir()
    assert call(folder / "empty") == (0, "0 files\n", "")
    assert call(folder, "--since", "2999-01-01")[:2] == (0, "0 files\n")


def test_the_result_as_json(call, folder):
    for arguments in (("--json", "--only", "flagged"), ("--only", "flagged", "--json")):
        code, told, _ = call(folder, *arguments)
        content = json.loads(told)
        (row,) = content["rows"]
        assert code == 1
        assert content["counts"]["clear"] == 1
        assert Path(row["path"]) == folder / "deep" / "flagged.png"
        assert (row["state"], row["p_value"], row["profile"], row["match"]) == ("flagged", 0.0004, "lab", "exact")
        assert row["modified"].endswith("+00:00")


def test_rows_are_written_as_csv_and_as_lines_of_json(call, folder, tmp_path):
    code, _, _ = call(folder, "--csv", tmp_path / "x.csv", "--jsonl", tmp_path / "x.jsonl")
    assert code == 1
    assert (tmp_path / "x.csv").read_bytes().startswith(b"\xef\xbb\xbfpath,state,source,mode,")
    with (tmp_path / "x.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text("ascii").splitlines()]
    assert [row["state"] for row in table] == [row["state"] for row in lines]
    assert len(lines) == 4
    assert table[2]["reason"] == 'no profile: "dreamy", nor another, fits this checkpoint'
    assert float(next(row for row in table if row["state"] == "flagged")["score"]) == 8.2149
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*"))


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_csv_is_taken_for_a_formula(begins):
    row = Row(Path(f"{begins}cmd|' /C calc'!A0.png"), "clear", reason=f"{begins}1", score=-1.5, partial=(10, 20))
    _, cells = csv.reader(to_csv([row]).decode("utf-8-sig").splitlines())
    assert [cell[:1] for cell in cells if "calc" in cell or cell.endswith("1")] == ["'", "'"]
    assert {"-1.5", "10 of 20"} <= set(cells)


def test_what_has_no_shape_is_shown_as_escapes():
    assert shown("a\nb\x1b[31m\u202e\udce9 ねこ") == r"a\nb\x1b[31m\u202e\udce9 ねこ"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("none",), "there is no folder none"),
        ((".", "--csv", "none/x.csv"), "there is no folder none to write x.csv to"),
        ((".", "--jsonl", "none/x.jsonl"), "there is no folder none to write x.jsonl to"),
    ],
)
def test_what_cannot_be_done_is_refused_first(call, folder, monkeypatch, arguments, reason):
    monkeypatch.chdir(folder)
    code, told, complaint = call(*arguments)
    assert (code, told) == (2, "")
    assert reason in complaint


@pytest.mark.parametrize("arguments", [[], [".", "--only", "bad"], [".", "--since", "soon"], [".", "--since", ""]])
def test_bad_use_is_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["audit", *arguments])
    assert "usage: python -m lib_memstab audit" in capsys.readouterr().err


def test_the_command_needs_no_torch(folder):
    program = (
        "import sys; from lib_memstab import cli; cli.main(['audit', sys.argv[1]]); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], cwd=ROOT, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_no_text_can_be_told_anywhere(call, tmp_path):
    try:
        png(tmp_path / os.fsdecode(b"caf\xe9.png"), *CASES["flagged"])
    except OSError:
        pytest.skip("the file system takes Unicode only")
    code, told, _ = call(tmp_path, "--csv", tmp_path / "x.csv", "--jsonl", tmp_path / "x.jsonl")
    assert code == 1
    assert r"caf\udce9.png" in told
    assert rb"caf\udce9.png" in (tmp_path / "x.csv").read_bytes()
    assert os.fsencode(json.loads((tmp_path / "x.jsonl").read_text())["path"]).endswith(b"caf\xe9.png")
