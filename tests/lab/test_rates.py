"""Stated and observed rates of false alarms, at toy sizes on the shipped model."""

import json

import pytest

for name in ("diffusers", "transformers", "tokenizers", "safetensors"):
    pytest.importorskip(name)

from lib_memstab import cli  # noqa: E402
from lib_memstab.lab import rates  # noqa: E402
from lib_memstab.lab.experiment import load_splits  # noqa: E402


def test_prompts_of_both_kinds_are_new():
    split = load_splits()
    calibration, captions = rates.kinds()
    assert calibration.prompts("calibration", len(split["calibration"])) == split["calibration"]
    known = {*split["calibration"], *(row["text"] for half in ("tuning", "final") for row in split[half]["ordinary"])}
    drawn = {*calibration.prompts("rates-held-out", 300), *calibration.prompts("rates-calibration", 300)}
    assert len(drawn & known) < 15
    assert captions.prompts("rates-held-out", 300) != captions.prompts("rates-calibration", 300)


def test_each_kinds_region_is_held_against_both_kinds(capsys, tmp_path):
    arguments = ["--calibration", "8", "--ordinary", "12", "--jobs", "1"]
    assert cli.main(["bench", "--rates", *arguments, "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "rates.json").read_text())
    names = [kind.name for kind in rates.kinds()]
    pairs = [(row["learned"], row["judged"]) for row in figures["rows"]]
    assert pairs == [(learned, judged) for learned in names for judged in names]
    for row in figures["rows"]:
        flagged = [count for _, count, _ in row["curve"]]
        assert flagged == sorted(flagged, reverse=True)
        assert {total for _, _, total in [*row["stated"], *row["curve"]]} == {12}
    assert (tmp_path / "rates.png").stat().st_size > 5000
    assert "| captions | captions |" in capsys.readouterr().out
