"""Figures of one cell of the table: detection, suppression and fidelity, from trials on one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lib_memstab.core.monitor import Settings
from lib_memstab.core.region import FloatArray, Region
from lib_memstab.lab import truth
from lib_memstab.lab.checker import CaptionChecker
from lib_memstab.lab.corpus import PANEL, Memorized
from lib_memstab.lab.sd1_layout import LabModel
from lib_memstab.lab.statistics import auc, bootstrap, tpr_at_fpr
from lib_memstab.lab.trials import Cell, Outcome, Trial, run_trials

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Judge:
    """What tells copies and captions apart: all memorized pairs with their latents and masks, and the checker."""

    model: LabModel
    checker: CaptionChecker
    pairs: Sequence[Memorized]
    references: Tensor
    masks: Tensor

    @classmethod
    def of(cls, model: LabModel, checker: CaptionChecker, pairs: Sequence[Memorized]) -> Judge:
        """A judge who knows these pairs."""
        return cls(model, checker, pairs, truth.reference_latents(model, pairs), truth.masks(pairs))

    def similarities(self, latents: Tensor, trials: Sequence[Trial]) -> tuple[FloatArray, FloatArray]:
        """Likeness to each trial's own memorized picture (-1 without one), and to the most alike of all others."""
        table = truth.similarity(latents, self.references, self.masks).double().numpy()
        place = {pair.text: index for index, pair in enumerate(self.pairs)}
        own = np.full(len(trials), -1.0)
        for row, trial in enumerate(trials):
            if trial.pair is not None:
                own[row] = table[row, place[trial.pair.text]]
                table[row, place[trial.pair.text]] = -1.0
        return own, table.max(axis=1)

    @torch.no_grad()
    def fits(self, latents: Tensor, trials: Sequence[Trial]) -> tuple[BoolArray, FloatArray]:
        """Whether each picture fits its caption (a template's caption: the picture or its panel), and its features."""
        right, features = [], []
        for start in range(0, len(trials), 32):
            part = trials[start : start + 32]
            pictures = self.model.decode(latents[start : start + 32])
            claims = [trial.claims for trial in part]
            whole = self.checker.fits(pictures, claims)
            panel = functional.interpolate(pictures[:, :, PANEL, PANEL], scale_factor=2.0, mode="bilinear")
            template = np.array([trial.pair is not None and trial.pair.kind == "template" for trial in part])
            right.append(whole | (template & self.checker.fits(panel, claims)))
            features.append(self.checker.features(pictures).double().cpu().numpy())
        return np.concatenate(right), np.concatenate(features)


@dataclass(frozen=True)
class Watched:
    """Trials as they come, and as suppression leaves them; untouched rows share their latents."""

    trials: Sequence[Trial]
    plain: Outcome
    flagged: BoolArray
    after: Tensor
    extra: FloatArray


def detect(model: LabModel, cell: Cell, trials: Sequence[Trial], region: Region, settings: Settings) -> Watched:
    """Run trials in detect mode: nothing is touched yet."""
    plain = run_trials(model, cell, trials, region, replace(settings, mode="detect"))
    flagged = np.array([report.verdict == "flagged" for report in plain.reports])
    return Watched(trials, plain, flagged, plain.latents, np.zeros(len(trials)))


def suppress(model: LabModel, cell: Cell, watched: Watched, region: Region, settings: Settings, rule: str) -> Watched:
    """Run those that were flagged again under suppression, at equal seeds."""
    after, extra = watched.plain.latents.clone(), np.zeros(len(watched.trials))
    index = [int(row) for row in np.flatnonzero(watched.flagged)]
    if index:
        trials = [watched.trials[row] for row in index]
        again = run_trials(model, cell, trials, region, replace(settings, mode="suppress"), rule)
        after[index] = again.latents
        extra[index] = [report.extra_evaluations for report in again.reports]
    return replace(watched, after=after, extra=extra)


def kinds_of(trials: Sequence[Trial]) -> NDArray[np.str_]:
    """title, caption, template, or plain."""
    return np.array(["plain" if trial.pair is None else trial.pair.kind for trial in trials])


def suppression_figures(judge: Judge, watched: Watched) -> dict[str, Any]:
    """Copies before and after, likeness to others, and fit to the caption, by kind of memorized prompt."""
    before, _ = judge.similarities(watched.plain.latents, watched.trials)
    after, other = judge.similarities(watched.after, watched.trials)
    fits, features = judge.fits(watched.after, watched.trials)
    copied = before > truth.COPY_THRESHOLD
    kinds = kinds_of(watched.trials)
    figures: dict[str, Any] = {"similarity_before": before, "similarity_after": after, "features": features}
    for kind in ("all", "title", "caption", "template"):
        chosen = (kinds == kind) | (kind == "all")
        replayed = chosen & copied
        figures[kind] = {
            "trajectories": int(chosen.sum()),
            "copied_before": int(replayed.sum()),
            "copied_after": int((chosen & (after > truth.COPY_THRESHOLD)).sum()),
            "missed": int((replayed & ~watched.flagged).sum()),
            "other_after": int((chosen & (other > truth.COPY_THRESHOLD)).sum()),
            "fits_after": float(fits[replayed].mean()) if replayed.any() else None,
            "extra": float(watched.extra[replayed].mean()) if replayed.any() else 0.0,
        }
    return figures


def detection_figures(ours: FloatArray, negatives: Mapping[str, FloatArray]) -> dict[str, Any]:
    """How copies rank against each kind of trajectory that is none, by the highest excess of the first steps.

    `ours` and each of `negatives` are excesses [steps, N].
    """
    figures: dict[str, Any] = {}
    for steps, name in ((1, "first"), (3, "first 3"), (5, "first 5"), (None, "all")):
        for label, others in negatives.items():
            if ours.shape[1] and others.shape[1]:
                mine, theirs = ours[:steps].max(axis=0), others[:steps].max(axis=0)
                figures[f"{name}, {label}"] = {
                    "auc": auc(mine, theirs),
                    "auc_interval": bootstrap(auc, mine, theirs),
                    "tpr_at_1": tpr_at_fpr(mine, theirs, 0.01),
                    "tpr_at_1_interval": bootstrap(lambda a, b: tpr_at_fpr(a, b, 0.01), mine, theirs, rounds=300),
                }
    return figures
