"""The proof: detection and suppression on the final split, rivals on the same trajectories, as one table."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from lib_memstab.core.monitor import Settings
from lib_memstab.core.region import Region
from lib_memstab.core.suppression import DEFAULT_RULE, RULES
from lib_memstab.lab import tables, truth
from lib_memstab.lab.comparison import contenders, judge_contender
from lib_memstab.lab.cost import measure_cost
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.figures import (
    detect,
    detection_figures,
    mitigation_figures,
    rival_figures,
    suppress,
    suppression_figures,
)
from lib_memstab.lab.pictures import similarity_figure
from lib_memstab.lab.sd1_layout import LabModel
from lib_memstab.lab.statistics import frechet_distance
from lib_memstab.lab.tools import SEED_BASES, load_tools
from lib_memstab.lab.trials import CELLS, MAIN, Cell, memorized_trials, plain_trials, run_trials
from lib_memstab.plots import save_figure

log = logging.getLogger("memstab.bench")

STATED = (10.0, 100.0, 1000.0)
"""Sensitivities whose stated rate of false alarms is held against the observed one."""


@dataclass(frozen=True)
class Plan:
    """How much is sampled: the split, seeds per memorized prompt, ordinary and hard prompts, and the settings.

    Rival mitigations run on every `rivals`-th memorized trajectory; 0 leaves them out.
    """

    split: str = "final"
    seeds: int = 3
    ordinary: int = 200
    hard: int = 60
    sensitivity: float = Settings().sensitivity
    strength: float = Settings().strength
    rule: str = DEFAULT_RULE
    rivals: int = 0

    @property
    def settings(self) -> Settings:
        """The settings every cell runs with."""
        return Settings("suppress", self.sensitivity, self.strength)


def run_cell(cell: Cell, plan: Plan) -> dict[str, Any]:
    """All figures of one cell, as plain data."""
    model, judge, regions = load_tools()
    region, split = regions[cell.mode], load_splits()[plan.split]
    memorized = memorized_trials(split, plan.seeds, SEED_BASES["memorized"])
    ordinary = plain_trials(split["ordinary"][: plan.ordinary], SEED_BASES["ordinary"])
    hard = plain_trials(_hard_prompts(split, plan.hard), SEED_BASES["hard"])
    watched, plain = (
        suppress(model, cell, detect(model, cell, trials, region, plan.settings), region, plan.settings, plan.rule)
        for trials in (memorized, ordinary)
    )
    rare = detect(model, cell, hard, region, plan.settings)
    suppression = suppression_figures(judge, watched)
    before, after = suppression.pop("similarity_before"), suppression.pop("similarity_after")
    features = suppression.pop("features")
    copied = before > truth.COPY_THRESHOLD
    fits, ordinary_features = judge.fits(plain.plain.latents, ordinary)
    fits_touched, _ = judge.fits(plain.after, ordinary)
    first = np.array([report.steps.first_outside or 0 for report in watched.plain.reports])[copied & watched.flagged]
    _, other = judge.similarities(plain.plain.latents, ordinary)
    return {
        "cell": cell.name,
        "split": plan.split,
        "detection": detection_figures(
            watched.plain.excess[:, copied],
            {
                "ordinary": plain.plain.excess,
                "ordinary that are no copies": plain.plain.excess[:, other <= truth.COPY_THRESHOLD],
                "hard": rare.plain.excess,
            },
        ),
        "rivals": rival_figures(watched.plain, copied, plain.plain) if copied.any() else {},
        "mitigations": mitigation_figures(judge, cell, watched, before, after, plan.rivals) if plan.rivals else {},
        "flagged": {
            "copies": [int((copied & watched.flagged).sum()), int(copied.sum())],
            "ordinary": [int(plain.flagged.sum()), len(ordinary)],
            "hard": [int(rare.flagged.sum()), len(hard)],
        },
        "rates": {
            f"{sensitivity:g}": [
                [int((run.plain.excess.max(axis=0) > region.threshold(sensitivity)).sum()), len(run.trials)]
                for run in (plain, rare)
            ]
            for sensitivity in STATED
        },
        "step_of_flag": np.bincount(first).tolist(),
        "suppression": suppression,
        "fits_ordinary": float(fits.mean()),
        "fits_ordinary_after": float(fits_touched.mean()),
        "other_ordinary": int((other > truth.COPY_THRESHOLD).sum()),
        "distance": _distances(features[copied], ordinary_features),
        "identical": _untouched_are_identical(model, cell, ordinary[:32], region, plan),
        "similarity": {
            "kind": [trial.pair.kind for trial in memorized if trial.pair],
            "before": before.tolist(),
            "after": after.tolist(),
        },
    }


def _hard_prompts(split: dict[str, Any], count: int) -> list[str]:
    """A third each of titles seen with many pictures, seen once, and never seen."""
    each = count // 3
    kinds = (split["hard"][name] for name in ("fresh", "once", "never"))
    return [prompts[index % len(prompts)] for prompts in kinds for index in range(each)]


def _distances(suppressed: np.ndarray, ordinary: np.ndarray) -> dict[str, float] | None:
    """Frechet distance of suppressed pictures to ordinary ones, beside that of two halves of the ordinary ones."""
    half = len(ordinary) // 2
    if len(suppressed) < 32 or half < 32:
        return None
    return {
        "suppressed": frechet_distance(suppressed, ordinary),
        "ordinary halves": frechet_distance(ordinary[:half], ordinary[half:]),
    }


def _untouched_are_identical(model: LabModel, cell: Cell, trials: list[Any], region: Region, plan: Plan) -> bool:
    """Whether images that suppression did not flag are bit for bit those of an unwatched job."""
    plain = run_trials(model, cell, trials, None, plan.settings)
    watched = run_trials(model, cell, trials, region, plan.settings, plan.rule)
    clear = [index for index, report in enumerate(watched.reports) if report.verdict == "clear"]
    return torch.equal(plain.latents[clear], watched.latents[clear])


def similarities(result: dict[str, Any]) -> Figure:
    """Histogram of a cell's unmitigated similarities by kind, with the threshold from which they are copies."""
    kinds, before = np.array(result["similarity"]["kind"]), np.array(result["similarity"]["before"])
    return similarity_figure({kind: before[kinds == kind] for kind in tables.KINDS[1:]}, truth.COPY_THRESHOLD)


def _single_thread() -> None:
    torch.set_num_threads(1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab bench`."""
    parser.add_argument(
        "--split", choices=("final", "tuning"), default="final", help="tuning is what rules are chosen on"
    )
    parser.add_argument(
        "--cells", nargs="*", metavar="NAME", help=f"cells of the table, of: {', '.join(cell.name for cell in CELLS)}"
    )
    parser.add_argument(
        "--rules",
        action="store_true",
        help="all suppression rules and strengths on the first cell instead of all cells",
    )
    parser.add_argument("--cost", action="store_true", help="only the method's own time, beside an SD-1.5-sized UNet's")
    parser.add_argument("--rule", choices=sorted(RULES), default=DEFAULT_RULE)
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        help="trajectories of each memorized prompt; the first cell has five times as many",
    )
    parser.add_argument(
        "--ordinary", type=int, default=200, help="ordinary prompts; the first cell has five times as many"
    )
    parser.add_argument("--sensitivity", type=float, default=Plan.sensitivity)
    parser.add_argument("--strength", type=float, default=Plan.strength)
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, help="folder for figures.json and the histogram of similarities")


def run(args: argparse.Namespace) -> int:
    """Run the cells, print the tables; 1 if an untouched image was not bit-identical."""
    if args.cost:
        rows = measure_cost(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        sys.stdout.write((json.dumps(rows) if args.json else tables.cost(rows)) + "\n")
        return 0
    small = Plan(args.split, args.seeds, args.ordinary, 60, args.sensitivity, args.strength, args.rule)
    large = replace(small, seeds=args.seeds * 5, ordinary=args.ordinary * 5, hard=240, rivals=5)
    wanted = [cell for cell in CELLS if not args.cells or cell.name in args.cells]
    work = [(cell, large if cell == MAIN else small) for cell in wanted]
    if args.rules:
        return _compare_rules(args)
    results: list[dict[str, Any]] = []
    with ProcessPoolExecutor(args.jobs, initializer=_single_thread) as pool:
        for (cell, plan), result in zip(work, pool.map(run_cell, *zip(*work, strict=True)), strict=True):
            log.info("%s, %s: done", cell.name, plan.rule)
            results.append({**result, "rule": plan.rule})
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "figures.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        save_figure(similarities(results[0]), args.out / "similarity.png")
    sys.stdout.write(json.dumps(results) if args.json else tables.markdown(results))
    sys.stdout.write("\n")
    return 0 if all(result["identical"] for result in results) else 1


def _compare_rules(args: argparse.Namespace) -> int:
    """Print the table of all rules and strengths."""
    work = contenders(args.split, args.seeds, args.ordinary, args.sensitivity)
    with ProcessPoolExecutor(args.jobs, initializer=_single_thread) as pool:
        results = list(pool.map(judge_contender, work))
    sys.stdout.write((json.dumps(results) if args.json else tables.rules(results)) + "\n")
    return 0
