"""Calibrations carried over and small ones: real trajectories of the lab model, two of each kind and few steps."""

import json

import pytest

pytest.importorskip("torchsde")
import numpy as np

from lib_memstab import cli
from lib_memstab.core.calibration import learn
from lib_memstab.core.matching import Match
from lib_memstab.core.monitor import Settings
from lib_memstab.core.region import MIN_TRAJECTORIES
from lib_memstab.lab import sizes, transfer, transfer_tables
from lib_memstab.lab.recording import join, record_calibration, record_trials
from lib_memstab.lab.statistics import rate_interval
from lib_memstab.lab.tools import load_tools
from lib_memstab.lab.transfer import Plan, Trials, Way
from lib_memstab.lab.trials import run_trials

AXES = {"sampler": {"Euler": Way(steps=5), "DDIM": Way("DDIM", steps=5)}}
SENSITIVITY = 3.0


@pytest.fixture(scope="module")
def trials():
    """Eight calibration trajectories, two ordinary ones and two of heavily duplicated pictures."""
    every = Plan(calibration=MIN_TRAJECTORIES, ordinary=2, seeds=1).trials()
    return Trials(every.calibration, every.ordinary, every.memorized[:4:2])


@pytest.fixture(scope="module")
def sampled(trials):
    return {way: transfer.sample_way(way, trials) for way in AXES["sampler"].values()}


@pytest.fixture(scope="module")
def cells(sampled):
    return transfer.matrices(load_tools()[0], AXES, sampled, SENSITIVITY)["sampler"]


def test_a_column_judged_afterwards_is_as_it_would_have_been_judged_while_sampling(trials, sampled):
    euler, ddim = AXES["sampler"].values()
    region = sampled[euler].region
    for way in (euler, ddim):
        for some, recording in ((trials.ordinary, sampled[way].ordinary), (trials.memorized, sampled[way].memorized)):
            settings = Settings("detect", SENSITIVITY)
            reports = run_trials(load_tools()[0], way.cell, some, region, settings).reports
            scores = recording.scores(region)
            assert scores.tolist() == [report.score for report in reports]
            flagged = scores > region.threshold(SENSITIVITY)
            assert flagged.tolist() == [report.verdict == "flagged" for report in reports]


def test_a_row_knows_only_its_own_way_of_sampling(trials, sampled):
    euler, ddim = (sampled[way].region for way in AXES["sampler"].values())
    assert [len(region.bands) for region in (euler, ddim)] == [1, 1]
    assert ddim.bands[0].conditions.start < euler.bands[0].conditions.start
    assert euler.count == len(trials.calibration)


def test_a_cell_counts_copies_and_alarms_of_its_column_by_its_rows_threshold(sampled, cells):
    assert [(cell["calibrated"], cell["tested"]) for cell in cells] == [
        ("Euler", "Euler"), ("Euler", "DDIM"), ("DDIM", "Euler"), ("DDIM", "DDIM"),
    ]  # fmt: skip
    ways = AXES["sampler"]
    for cell in cells:
        region, tested = sampled[ways[cell["calibrated"]]].region, sampled[ways[cell["tested"]]]
        alarms = int((tested.ordinary.scores(region) > region.threshold(SENSITIVITY)).sum())
        assert cell["alarms"] == [alarms, 2]
        assert cell["interval"] == list(rate_interval(alarms, 2))
        assert cell["copies"][1] == tested.memorized.copied.sum()
        assert (cell["auc"] is None) == (cell["copies"][1] == 0)


def test_the_status_is_what_match_says_of_the_rows_profile(monkeypatch, sampled, cells):
    assert [cell["status"] for cell in cells] == ["exact", "transfer", "transfer", "exact"]
    asked = []

    def answer(profile, **facts):
        asked.append((profile.modes["txt2img"].covered.samplers, facts["sampler"]))
        return Match("none", "")

    monkeypatch.setattr(transfer, "match", answer)
    again = transfer.matrices(load_tools()[0], AXES, sampled, SENSITIVITY)["sampler"]
    assert {cell["status"] for cell in again} == {"none"}
    assert asked == [((cell["calibrated"],), cell["tested"]) for cell in again]


@pytest.mark.parametrize("axis", transfer.AXES)
def test_only_the_diagonal_of_a_matrix_is_what_was_calibrated(sampled, axis):
    region = next(iter(sampled.values())).region
    for row in transfer.AXES[axis].values():
        profile = transfer.profile_of(load_tools()[0], row, region)
        for column in transfer.AXES[axis].values():
            assert transfer.status(profile, column) == ("exact" if row == column else "transfer")


def cell(alarms, status, tested="B", trials=200):
    return {
        "calibrated": "A", "tested": tested, "auc": None, "copies": [0, 0], "alarms": [alarms, trials],
        "interval": list(rate_interval(alarms, trials)), "status": status,
    }  # fmt: skip


def figures(*cells):
    return {"sensitivity": 100.0, "calibration": 64, "ways": [], "matrices": {"steps": list(cells)}}


@pytest.mark.parametrize(
    ("one", "listed", "against"),
    [
        (cell(4, "exact"), 0, 0),
        (cell(5, "exact"), 1, 0),
        (cell(20, "transfer"), 1, 0),
        (cell(20, "exact"), 1, 1),
    ],
    ids=["twice the rate", "above by chance", "warned", "not warned"],
)
def test_only_a_significant_excess_without_a_warning_is_a_finding(monkeypatch, capsys, tmp_path, one, listed, against):
    measured = figures(one)
    assert len(transfer.above_twice(measured)) == listed
    assert len(transfer.unwarned(measured)) == against
    monkeypatch.setattr(transfer, "measure", lambda plan, axes, sensitivity, jobs: measured)
    assert cli.main(["bench", "--transfer", "--out", str(tmp_path)]) == against
    text = capsys.readouterr().out
    assert ("steps, A used on B" in text) == bool(against)
    assert ("No cell is above twice the stated rate (2 %)." in text) == (listed == 0)
    assert json.loads((tmp_path / "transfer.json").read_text()) == measured


def test_the_command_line_says_what_is_sampled(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(transfer, "measure", lambda *everything: asked.append(everything) or figures(cell(0, "exact")))
    assert cli.main(["bench", "--transfer"]) == 0
    assert cli.main(["bench", "--transfer", "--axes", "CFG", "--split", "final", "--calibration", "8", "--json"]) == 0
    assert asked[0][:3] == (Plan(), transfer.AXES, 100.0)
    assert asked[1][:2] == (Plan("final", 8), {"CFG": transfer.AXES["CFG"]})
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["sensitivity"] == 100
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", "--transfer", "--calibration", "7"])


def test_draws_of_a_size_share_no_trajectory_and_are_always_the_same():
    drawn = sizes.draws(512, 64, 8)
    assert sorted(np.concatenate(drawn)) == list(range(512))
    assert [len(sizes.draws(512, size, 8)) for size in sizes.SIZES] == [8, 8, 8, 8, 4, 2]
    assert np.array_equal(drawn, sizes.draws(512, 64, 8))
    assert sizes.draws(7, 8, 8) == []


def test_each_draw_is_judged_by_the_region_that_it_gives(trials, sampled):
    way = AXES["sampler"]["Euler"]
    curves, conditions = record_calibration(way.cell, trials.calibration)
    ordinary, memorized = sampled[way].ordinary, sampled[way].memorized
    chosen = [np.arange(8), np.arange(8)[::-1]]
    row = sizes.judge_size(curves, conditions, chosen, ordinary, memorized)
    region = learn(curves, conditions)
    alarms = int((ordinary.scores(region) > region.threshold(10)).sum())
    assert row["alarms"]["10"] == [alarms] * 2
    assert set(row["alarms"]) == set(row["copies"]) == {"10", "100", "1000"}
    text = transfer_tables.sizes(
        {"trajectories": {"ordinary": 2, "copies": 2}, "sizes": [{"size": 8, "draws": 2, **row}]}
    )
    assert "| 8 | 2 |" in text


def test_a_recording_in_parts_is_the_whole(trials):
    way = AXES["sampler"]["DDIM"]
    whole = record_trials(way.cell, trials.memorized)
    parts = join([record_trials(way.cell, [one]) for one in trials.memorized])
    for name, rows in whole.measured.items():
        assert np.allclose(rows, parts.measured[name], rtol=1e-3), name
    assert np.array_equal(whole.copied, parts.copied)
