"""The proof: detection and suppression on the final split as tables, and what else can be measured on the lab model."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from lib_memstab.core.monitor import Settings
from lib_memstab.core.region import MIN_TRAJECTORIES, Region
from lib_memstab.core.suppression import Windows
from lib_memstab.lab import contamination, provisional, rates, rivalry, sizes, tables, transfer, transfer_tables, truth
from lib_memstab.lab.comparison import contenders, judge_contender
from lib_memstab.lab.cost import measure_cost
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.figures import (
    detect,
    detection_figures,
    suppress,
    suppression_figures,
)
from lib_memstab.lab.pictures import rates_figure, similarity_figure
from lib_memstab.lab.rules import RULES
from lib_memstab.lab.sd1_layout import LabModel
from lib_memstab.lab.statistics import frechet_distance
from lib_memstab.lab.tools import CURVE, SEED_BASES, STATED, given, load_tools, workers
from lib_memstab.lab.trials import CELLS, MAIN, Cell, memorized_trials, plain_trials, run_trials
from lib_memstab.plots import save_figure

log = logging.getLogger("memstab.bench")

_SAMPLED = ("split", "calibration", "ordinary", "seeds")
"""Arguments of --transfer and --sizes."""


@dataclass(frozen=True)
class Plan:
    """How much is sampled: the split, seeds per memorized prompt, ordinary and hard prompts, and the settings."""

    split: str = "final"
    seeds: int = 3
    ordinary: int = 200
    hard: int = 60
    sensitivity: float = Settings().sensitivity
    strength: float = Settings().strength
    rule: str = Windows.name

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
    other, hard_other = (judge.similarities(run.plain.latents, run.trials)[1] for run in (plain, rare))
    replayed = hard_other > truth.COPY_THRESHOLD
    return {
        "cell": cell.name,
        "split": plan.split,
        "detection": detection_figures(
            watched.plain.excess[:, copied],
            {
                "ordinary": plain.plain.excess,
                "ordinary that are no copies": plain.plain.excess[:, other <= truth.COPY_THRESHOLD],
                "hard": rare.plain.excess,
                "hard that are no copies": rare.plain.excess[:, ~replayed],
            },
        ),
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
        "rate_curve": [
            [stated, int((plain.plain.excess.max(axis=0) > region.threshold(stated)).sum()), len(ordinary)]
            for stated in CURVE
        ],
        "supported": region.supported,
        "step_of_flag": np.bincount(first).tolist(),
        "suppression": suppression,
        "fits_ordinary": float(fits.mean()),
        "fits_ordinary_after": float(fits_touched.mean()),
        "other_ordinary": int((other > truth.COPY_THRESHOLD).sum()),
        "other_hard": [int((replayed & rare.flagged).sum()), int(replayed.sum())],
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


def _calibration(text: str) -> int:
    count = int(text)
    if count < MIN_TRAJECTORIES:
        raise argparse.ArgumentTypeError(f"a region is learned from at least {MIN_TRAJECTORIES} trajectories")
    return count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab bench`."""
    parser.add_argument(
        "--split",
        choices=("final", "tuning"),
        help="final by default, but tuning for --transfer, --sizes and --rivals; tuning is what rules are chosen on",
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
    parser.add_argument(
        "--transfer",
        action="store_true",
        help="only matrices of calibrations of one sampler, step count, guidance scale or size used on every other; "
        "exit code 1 where false alarms are above twice the stated rate and the status line would not have warned",
    )
    parser.add_argument(
        "--axes", nargs="*", choices=list(transfer.AXES), metavar="NAME", help=f"of: {', '.join(transfer.AXES)}"
    )
    parser.add_argument(
        "--sizes", action="store_true", help="only calibrations of 8 to 256 trajectories on the same test trajectories"
    )
    parser.add_argument(
        "--rivals",
        action="store_true",
        help="only published detectors and mitigations beside ours, on the same prompts and seeds",
    )
    parser.add_argument(
        "--rates",
        action="store_true",
        help="only stated rates of false alarms against the observed ones, on many prompts that nothing has seen",
    )
    parser.add_argument(
        "--learning",
        action="store_true",
        help="only what becomes of learning while one generates when some of the prompts are memorized",
    )
    parser.add_argument(
        "--provisional",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="only one region for all models: learned from all but one of these models, held against that one",
    )
    parser.add_argument(
        "--calibration",
        type=_calibration,
        help=f"trajectories of each calibration of --transfer ({transfer.Plan.calibration}) and --rates "
        f"({rates.Plan.calibration}), or that those of --sizes are drawn from ({sizes.Plan.calibration})",
    )
    parser.add_argument("--rule", choices=sorted(RULES), default=Windows.name)
    parser.add_argument(
        "--seeds",
        type=int,
        help=f"trajectories of each memorized prompt ({Plan.seeds}; --transfer {transfer.Plan.seeds}, --sizes "
        f"{sizes.Plan.seeds}, --rivals {rivalry.Plan.seeds}); the first cell has five times as many",
    )
    parser.add_argument(
        "--ordinary",
        type=int,
        help=f"ordinary prompts ({Plan.ordinary}; --transfer {transfer.Plan.ordinary}, --sizes {sizes.Plan.ordinary}, "
        f"--rivals {rivalry.Plan.ordinary}, --rates {rates.Plan.ordinary}); the first cell has five times as many",
    )
    parser.add_argument("--memorized", type=int, help="memorized trajectories of each kind, for --rivals (all)")
    parser.add_argument("--sensitivity", type=float, default=Plan.sensitivity)
    parser.add_argument("--strength", type=float, default=Plan.strength)
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--out", type=Path, help="folder for the figures and the histogram of similarities")


def run(args: argparse.Namespace) -> int:
    """Measure what is asked for and print its tables; 1 if that is a finding."""
    if args.cost:
        rows = measure_cost(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return _tell(args, "cost", rows, tables.cost(rows))
    if args.transfer:
        return _measure_transfer(args)
    if args.sizes:
        figures = sizes.measure(sizes.Plan(**given(args, *_SAMPLED)), sizes.SIZES, args.jobs)
        return _tell(args, "sizes", figures, transfer_tables.sizes(figures))
    if args.rivals:
        plan = rivalry.Plan(**given(args, "split", "ordinary", "seeds", "sensitivity", "memorized"))
        found = rivalry.measure(plan, args.jobs)
        return _tell(args, "rivals", found, tables.rivals(found))
    if args.rates:
        return _measure_rates(args)
    if args.provisional:
        return _measure_provisional(args)
    if args.learning:
        figures = contamination.measure(contamination.Plan(**given(args, "split", "ordinary", "seeds")), args.jobs)
        return _tell(args, "learning", figures, transfer_tables.learning(figures))
    small = Plan(**given(args, "split", "seeds", "ordinary", "sensitivity", "strength", "rule"))
    return _compare_rules(args, small) if args.rules else _measure_cells(args, small)


def _measure_transfer(args: argparse.Namespace) -> int:
    """The matrices; 1 if a cell has too many false alarms and the status line would not have warned."""
    axes = {axis: transfer.AXES[axis] for axis in args.axes or transfer.AXES}
    figures = transfer.measure(transfer.Plan(**given(args, *_SAMPLED)), axes, args.sensitivity, args.jobs)
    _tell(args, "transfer", figures, transfer_tables.matrices(figures))
    return 1 if transfer.unwarned(figures) else 0


def _measure_rates(args: argparse.Namespace) -> int:
    """Stated and observed rates of false alarms; with a folder, their plot too."""
    figures = rates.measure(rates.Plan(**given(args, "calibration", "ordinary")), args.jobs)
    if args.out is not None:
        own = [row for row in figures["rows"] if row["learned"] == row["judged"]]
        args.out.mkdir(parents=True, exist_ok=True)
        curves = {row["judged"]: row["curve"] for row in own}
        save_figure(rates_figure(curves, min(row["supported"] for row in own)), args.out / "rates.png")
    return _tell(args, "rates", figures, transfer_tables.rates(figures))


def _measure_provisional(args: argparse.Namespace) -> int:
    """One region for all models; 2 where there are not two models."""
    lacking = [str(one) for one in args.provisional if not (one / "training.json").is_file()]
    if lacking or len(args.provisional) < 2:
        found = f"there is no model in {', '.join(lacking)}" if lacking else "one was named"
        log.error("bench: --provisional takes two folders of models or more, and %s", found)
        return 2
    plan = transfer.Plan(**given(args, *_SAMPLED))
    figures = provisional.measure(args.provisional, plan, args.sensitivity, args.jobs)
    return _tell(args, "provisional", figures, transfer_tables.provisional(figures))


def _measure_cells(args: argparse.Namespace, small: Plan) -> int:
    """All cells; 1 if an untouched image was not bit-identical."""
    large = replace(small, seeds=small.seeds * 5, ordinary=small.ordinary * 5, hard=240)
    wanted = [cell for cell in CELLS if not args.cells or cell.name in args.cells]
    work = [(cell, large if cell == MAIN else small) for cell in wanted]
    results: list[dict[str, Any]] = []
    with workers(args.jobs) as pool:
        for (cell, plan), result in zip(work, pool.map(run_cell, *zip(*work, strict=True)), strict=True):
            log.info("%s, %s: done", cell.name, plan.rule)
            results.append({**result, "rule": plan.rule})
    _tell(args, "figures", results, tables.markdown(results))
    if args.out is not None:
        save_figure(similarities(results[0]), args.out / "similarity.png")
        curve = {"ordinary pictures flagged": results[0]["rate_curve"]}
        save_figure(rates_figure(curve, results[0]["supported"]), args.out / "rates.png")
    return 0 if all(result["identical"] for result in results) else 1


def _compare_rules(args: argparse.Namespace, plan: Plan) -> int:
    """All rules and strengths."""
    work = contenders(plan.split, plan.seeds, plan.ordinary, plan.sensitivity)
    with workers(args.jobs) as pool:
        results = list(pool.map(judge_contender, work))
    return _tell(args, "rules", results, tables.rules(results))


def _tell(args: argparse.Namespace, name: str, figures: Any, text: str) -> int:
    """Print figures or tables, and keep the figures as NAME.json where a folder is given."""
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{name}.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    sys.stdout.write((json.dumps(figures) if args.json else text) + "\n")
    return 0
