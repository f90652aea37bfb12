"""Suppression on the lab model: which prompts are read in pieces, and what is left of them."""

from typing import ClassVar

import pytest

pytest.importorskip("torchsde")
import torch

from lib_memstab.core.monitor import Settings
from lib_memstab.core.suppression import Windows
from lib_memstab.lab import truth
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.rules import RULES
from lib_memstab.lab.tools import load_tools
from lib_memstab.lab.trials import Cell, memorized_trials, run_trials

SUPPRESS = Settings("suppress", 100.0)
FEW_STEPS = Cell("Euler 8", {"steps": 8})


class Watched(Windows):
    """Keeps the last text that each batch was evaluated with, and the one that is three tokens at a time."""

    batches: ClassVar[list["Watched"]] = []

    def __init__(self, strength):
        super().__init__(strength)
        self.batches.append(self)

    def condition(self, text, rows):
        self.read, self.glimpses = super().condition(text, rows), rows.glimpses
        return self.read


@pytest.mark.parametrize(("kind", "least", "most"), [("caption", 0, 3), ("template", 8, 8)])
def test_in_few_steps_captions_keep_their_halves_and_templates_do_not(monkeypatch, kind, least, most):
    monkeypatch.setitem(RULES, Watched.name, Watched)
    monkeypatch.setattr(Watched, "batches", [])
    model, judge, regions = load_tools()
    memorized = memorized_trials(load_splits()["tuning"], 1, 10_000, ("heavy", "medium"))
    trials = [trial for trial in memorized if trial.pair.kind == kind][:8]
    replayed = judge.similarities(run_trials(model, FEW_STEPS, trials, None, SUPPRESS).latents, trials)[0]
    assert (replayed > truth.COPY_THRESHOLD).all()
    found = run_trials(model, FEW_STEPS, trials, regions["txt2img"], SUPPRESS, Watched.name)
    assert [one.verdict for one in found.reports] == ["suppressed"] * 8
    assert (judge.similarities(found.latents, trials)[0] < truth.COPY_THRESHOLD).all()
    in_pieces = [(batch.read == batch.glimpses).flatten(1).all(1) for batch in Watched.batches]
    assert least <= int(torch.cat(in_pieces).sum()) <= most
