"""Guidance scales that the shipped profile was calibrated with only where pictures begin at the highest noise level."""

import pytest

from lib_memstab.core.monitor import Settings
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.tools import SEED_BASES, load_tools
from lib_memstab.lab.trials import Cell, memorized_trials, plain_trials, run_trials


@pytest.mark.parametrize(
    "cell",
    [
        Cell("DDIM", {"sampler": "DDIM", "steps": 10, "guidance": 1.0}),
        Cell("img2img", {"guidance": 1.0, "strength": 0.75}, picture=True),
    ],
    ids=lambda cell: cell.name,
)
def test_ordinary_pictures_at_a_low_scale_are_no_alarms_wherever_they_begin(cell):
    """Of these twelve eight and two were flagged while a scale was known of noise alone."""
    model, _, regions = load_tools()
    split = load_splits()["tuning"]
    ordinary = plain_trials(split["ordinary"][:12], SEED_BASES["ordinary"])
    memorized = memorized_trials(split, 1, SEED_BASES["memorized"], ("heavy",))[:4]
    runs = [
        run_trials(model, cell, some, regions[cell.mode], Settings("detect", 100.0)) for some in (ordinary, memorized)
    ]
    alarms, hits = ([report.verdict == "flagged" for report in run.reports] for run in runs)
    assert sum(alarms) <= 1
    assert all(hits)
