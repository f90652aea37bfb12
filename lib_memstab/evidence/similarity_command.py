"""`python -m lib_memstab similarity`: how well copies are told without knowing the truth, where it is known.

On the lab model the training pictures are known, and a generated picture's latent says whether it is a copy of one
(`lab.truth`). The same pictures are compared by their pixels alone, with each training picture and with each other.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lib_memstab.cli import BAD_USE, FINDING
from lib_memstab.core.monitor import Settings
from lib_memstab.evidence.descriptors import Descriptor, DescriptorError, chosen
from lib_memstab.evidence.similarity import FloatArray, tiled_distance
from lib_memstab.lab import scenes, truth
from lib_memstab.lab.corpus import Memorized, scene_of
from lib_memstab.lab.experiment import BATCH, load_lab_model, load_splits
from lib_memstab.lab.sd1_layout import LabModel
from lib_memstab.lab.statistics import auc
from lib_memstab.lab.tables import table
from lib_memstab.lab.tools import SEED_BASES
from lib_memstab.lab.trials import Cell, Trial, memorized_trials, run_trials

log = logging.getLogger("memstab")

BoolArray = NDArray[np.bool_]
LEAST = 0.95
"""AUC below which the command counts as a finding."""

SSCD_HELP = (
    "TorchScript file of SSCD in place of the built-in comparison; such a file is a program that is run: only one "
    "from a source you trust"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab similarity`."""
    parser.add_argument("--split", choices=("final", "tuning"), default="final", help="which prompts (final)")
    parser.add_argument("--seeds", type=int, default=3, help="pictures of each memorized prompt, 2 or more (3)")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (20)")
    parser.add_argument("--limit", type=int, help="memorized prompts of each kind at most")
    parser.add_argument("--sscd", type=Path, metavar="FILE", help=SSCD_HELP)


def run(args: argparse.Namespace) -> int:
    """Sample, compare and tell; 1 if a comparison ranks copies worse than it should, 2 for bad use."""
    if args.seeds < 2 or args.steps < 2 or (args.limit is not None and args.limit < 1):
        log.error("similarity: --seeds and --steps are 2 or more, --limit 1 or more")
        return BAD_USE
    try:
        descriptor = chosen(args.sscd)
    except DescriptorError as error:
        log.error("similarity: %s", error)
        return BAD_USE
    model = load_lab_model()
    trials = _few(memorized_trials(load_splits()[args.split], args.seeds, SEED_BASES["memorized"]), args.limit)
    figures = agreement(model, trials, descriptor, Cell("similarity", {"steps": args.steps}))
    sys.stdout.write((json.dumps(figures) if args.json else _words(figures)) + "\n")
    return FINDING if any(row["auc"] is not None and row["auc"] < LEAST for row in _judged(figures)) else 0


def agreement(model: LabModel, trials: Sequence[Trial], descriptor: Descriptor, cell: Cell) -> list[dict[str, Any]]:
    """One row for each comparison, question and kind: how its ranking and its threshold agree with the ground truth.

    The questions: is this picture (of any prompt) a copy of that training picture, and do these two pictures copy the
    same one? Whatever is compared, ground truth is the latent's likeness.
    """
    parts = [trials[start : start + BATCH // 4] for start in range(0, len(trials), BATCH // 4)]
    latents = torch.cat(
        [run_trials(model, cell, part, None, Settings("detect")).latents for part in tqdm(parts, disable=None)]
    )
    pictures = shown_pictures(model, latents)
    pairs = list({trial.pair.text: trial.pair for trial in trials if trial.pair is not None}.values())
    training = training_pictures(pairs)
    copies = truth.similarity(latents, truth.reference_latents(model, pairs), truth.masks(pairs)).numpy()
    is_copy = copies > truth.COPY_THRESHOLD
    kinds = np.array([pair.kind for pair in pairs])
    ways: list[tuple[str, FloatArray, FloatArray, float | None]] = [
        (
            descriptor.name,
            descriptor.similarity(descriptor.describe(pictures), descriptor.describe(training)),
            descriptor.similarity(descriptor.describe(pictures), descriptor.describe(pictures)),
            descriptor.threshold,
        ),
        (
            "tiled distance (Carlini 2023)",
            -tiled_distance(pictures, training),
            -tiled_distance(pictures, pictures),
            None,
        ),
    ]
    upper = np.triu(np.ones((len(pictures), len(pictures)), dtype=bool), k=1)
    rows = []
    for name, to_training, to_each_other, threshold in ways:
        for label, chosen_kinds in (("verbatim", kinds != "template"), ("template", kinds == "template")):
            asked = to_training[:, chosen_kinds], is_copy[:, chosen_kinds]
            rows.append(_row(name, "copy of this training picture", label, *asked, threshold))
            same = is_copy[:, chosen_kinds].astype(int) @ is_copy[:, chosen_kinds].T.astype(int) > 0
            own = np.array([(trial.pair.kind == "template") == (label == "template") for trial in trials if trial.pair])
            counted = upper & own[:, None] & own[None, :]
            rows.append(
                _row(name, "two copies of one picture", label, to_each_other[counted], same[counted], threshold)
            )
    return rows


def shown_pictures(model: LabModel, latents: torch.Tensor) -> NDArray[np.uint8]:
    """The pictures [N, H, W, 3] that latents stand for, as the WebUI would save them."""
    with torch.no_grad():
        decoded = torch.cat([model.decode(latents[start : start + 32]) for start in range(0, len(latents), 32)])
    return to_pixels(decoded)


def training_pictures(pairs: Sequence[Memorized]) -> NDArray[np.uint8]:
    """The duplicated picture of each pair, [M, 128, 128, 3]; of a template with some panel in its surround."""
    return to_pixels(torch.cat([scenes.render(scene_of(pair.scene)) for pair in pairs]))


def to_pixels(pictures: torch.Tensor) -> NDArray[np.uint8]:
    """Pictures [N, 3, H, W] of 0..1 as uint8 [N, H, W, 3]."""
    return (pictures * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def _row(
    name: str, question: str, kind: str, similarity: FloatArray, is_copy: BoolArray, threshold: float | None
) -> dict[str, Any]:
    """How one ranking and its threshold answer one question."""
    copies, others = similarity[is_copy], similarity[~is_copy]
    told = None if threshold is None else similarity >= threshold
    hits = 0 if told is None else int((told & is_copy).sum())
    return {
        "comparison": name,
        "question": question,
        "kind": kind,
        "copies": len(copies),
        "others": len(others),
        "auc": auc(copies, others) if len(copies) and len(others) else None,
        "threshold": threshold,
        "precision": hits / int(told.sum()) if told is not None and told.any() else None,
        "recall": hits / len(copies) if told is not None and len(copies) else None,
    }


def _few(trials: Sequence[Trial], limit: int | None) -> list[Trial]:
    """The trials of the first `limit` prompts of each kind."""
    prompts: dict[str, dict[str, None]] = {}
    for trial in trials:
        if trial.pair is not None:
            prompts.setdefault(trial.pair.kind, {})[trial.pair.text] = None
    wanted = {text for texts in prompts.values() for text in list(texts)[:limit]}
    return [trial for trial in trials if trial.pair is not None and trial.pair.text in wanted]


def _judged(figures: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the comparison that has a threshold; the tiled distance is no measure of templates."""
    return [row for row in figures if row["threshold"] is not None]


def _words(figures: Sequence[dict[str, Any]]) -> str:
    head = ["comparison", "question", "kind", "copies", "others", "AUC", "threshold", "precision", "recall"]
    names = ("auc", "threshold", "precision", "recall")
    rows = [
        [
            *(str(row[name]) for name in ("comparison", "question", "kind", "copies", "others")),
            *(
                "-" if row[name] is None else f"{row[name]:.4f}" if name == "auc" else f"{row[name]:.3g}"
                for name in names
            ),
        ]
        for row in figures
    ]
    return table(head, rows)
