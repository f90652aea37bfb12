"""The figures of the core's bench beside the same figures through a real WebUI, same prompts and seeds, as a table.

python -m tests.e2e.parity --webui FOLDER [--seeds 5] [--ordinary 400] [--out FILE.json]

FOLDER or an address as for the tests of this folder. Both sides judge by the shipped profile, Euler 20 steps, CFG 7.5,
prompts of the tuning split. The lab compares latents with the training pictures' latents; of the WebUI there are only
its PNGs, encoded again. Memorized prompts run in detect and in suppress mode, ordinary ones without MemStab and in
suppress mode.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib_memstab.core.monitor import Settings
from lib_memstab.core.suppression import Windows
from lib_memstab.evidence.verify.run import excesses
from lib_memstab.evidence.webui_prompt import escaped
from lib_memstab.lab import truth
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.figures import detect, suppress
from lib_memstab.lab.statistics import auc
from lib_memstab.lab.tables import share, table
from lib_memstab.lab.tools import SEED_BASES, load_tools
from lib_memstab.lab.trials import MAIN, memorized_trials, plain_trials, run_trials
from tests.e2e.conftest import Client, Truth, running

FIRST = 3
"""Evaluations of the early ranking."""
BATCH = 8


@dataclass
class Side:
    """What one host did: scores [N] over all and over the first evaluations, what it flagged, and the likenesses."""

    name: str
    copies: np.ndarray
    after: np.ndarray
    flagged: np.ndarray
    scores: np.ndarray
    early: np.ndarray
    ordinary_flagged: np.ndarray
    ordinary_scores: np.ndarray
    ordinary_early: np.ndarray
    identical: np.ndarray

    def rows(self):
        """Figures of the table, in order."""
        copied = self.copies > truth.COPY_THRESHOLD
        left = self.after > truth.COPY_THRESHOLD
        clear = ~self.ordinary_flagged
        return {
            "memorized prompts that became copies": share(int(copied.sum()), len(copied)),
            "AUC over all evaluations": f"{auc(self.scores[copied], self.ordinary_scores):.4f}",
            f"AUC over the first {FIRST}": f"{auc(self.early[copied], self.ordinary_early):.4f}",
            "copies flagged": share(int((copied & self.flagged).sum()), int(copied.sum())),
            "ordinary pictures flagged": share(int(self.ordinary_flagged.sum()), len(self.ordinary_flagged)),
            "copies after suppression": share(int((copied & left).sum()), int(copied.sum())),
            "ordinary pictures not flagged, bit-identical to those without MemStab": (
                f"{int((self.identical & clear).sum())} of {int(clear.sum())}"
            ),
        }


def of_the_lab(memorized, ordinary):
    """The lab's own sampler."""
    model, judge, regions = load_tools()
    region, settings = regions["txt2img"], Settings("suppress")
    watched = suppress(model, MAIN, detect(model, MAIN, memorized, region, settings), region, settings, Windows.name)
    plain = run_trials(model, MAIN, ordinary, None, settings)
    touched = run_trials(model, MAIN, ordinary, region, settings, Windows.name)
    return Side(
        "lab",
        judge.similarities(watched.plain.latents, memorized)[0],
        judge.similarities(watched.after, memorized)[0],
        watched.flagged,
        watched.plain.excess.max(axis=0),
        np.array([early(report) for report in watched.plain.reports]),
        np.array([report.verdict == "suppressed" for report in touched.reports]),
        touched.excess.max(axis=0),
        np.array([early(report) for report in touched.reports]),
        (plain.latents == touched.latents).flatten(1).all(1).numpy(),
    )


def of_the_webui(webui, known, memorized, ordinary):
    """The WebUI, over its API."""
    seen, after = (pictures_of(webui, memorized, {"mode": mode}) for mode in ("detect", "suppress"))
    off, on = pictures_of(webui, ordinary, None), pictures_of(webui, ordinary, {"mode": "suppress"})
    reports, others = [picture.report for picture in seen], [picture.report for picture in on]
    for report in (*reports, *others):
        assert report.profile is not None, report.reason
        assert report.profile.match == "exact", report.profile
    return Side(
        "WebUI",
        np.array([known.similarity(picture, trial.text) for picture, trial in zip(seen, memorized, strict=True)]),
        np.array([known.similarity(picture, trial.text) for picture, trial in zip(after, memorized, strict=True)]),
        np.array([report.verdict == "flagged" for report in reports]),
        np.array([report.score for report in reports]),
        np.array([early(report) for report in reports]),
        np.array([report.verdict == "suppressed" for report in others]),
        np.array([report.score for report in others]),
        np.array([early(report) for report in others]),
        np.array([one.equals(other) for one, other in zip(on, off, strict=True)]),
    )


def pictures_of(webui, trials, memstab, **how):
    """A picture of each trial, in batches of prompts of their own; seeds rise by one, as the WebUI's do."""
    found = []
    for start in range(0, len(trials), BATCH):
        part = trials[start : start + BATCH]
        probe = {"prompts": [escaped(trial.text) for trial in part]}
        assert [trial.seed for trial in part] == list(range(part[0].seed, part[0].seed + len(part)))
        found += webui.sample("", memstab, probe=probe, seed=part[0].seed, batch_size=len(part), **how)
        tell(memstab, len(found), len(trials))
    return found


def early(report):
    """Highest excess of the first evaluations, in shares of the bound, read from the badge's curve."""
    return max(excesses(report)[:FIRST])


def tell(memstab, done, total):
    """Progress."""
    sys.stderr.write(f"{memstab or 'without MemStab'}: {done} of {total}\n")


def compare(lab, webui):
    """The table, and what no figure of one side alone tells."""
    ours, theirs = lab.rows(), webui.rows()
    rows = [[name, value, theirs[name]] for name, value in ours.items()]
    pairs = (
        (lab.flagged, webui.flagged),
        (lab.ordinary_flagged, webui.ordinary_flagged),
    )
    same = sum(int((one == other).sum()) for one, other in pairs)
    scores = np.concatenate([abs(lab.scores - webui.scores), abs(lab.ordinary_scores - webui.ordinary_scores)])
    rows += [
        ["same verdict on both sides", "", f"{same} of {len(scores)}"],
        ["difference of scores, in deviations: median, largest", "", f"{np.median(scores):.4f}, {scores.max():.3f}"],
    ]
    return table(["Euler 20, CFG 7.5, tuning split", "bench's sampler", "through the WebUI"], rows)


def main():
    parser = argparse.ArgumentParser(description="Compare the lab's bench with the same through a real WebUI.")
    parser.add_argument("--webui", default=os.environ.get("MEMSTAB_WEBUI"), help="the WebUI's folder, or its address")
    parser.add_argument("--seeds", type=int, default=5, help="pictures of each memorized prompt")
    parser.add_argument("--ordinary", type=int, default=400, help="pictures of ordinary prompts")
    parser.add_argument("--out", type=Path, help="file for scores and likenesses, as JSON")
    args = parser.parse_args()
    if not args.webui:
        parser.error("no WebUI: say where with --webui FOLDER or MEMSTAB_WEBUI=FOLDER")
    torch.set_num_threads(1)
    split = load_splits()["tuning"]
    memorized = memorized_trials(split, args.seeds, SEED_BASES["memorized"], ("heavy", "medium"))
    ordinary = plain_trials(split["ordinary"][: args.ordinary], SEED_BASES["ordinary"])
    known = Truth(load_tools()[0], split["memorized"])
    if args.webui.startswith("http"):
        webui = of_the_webui(Client(args.webui), known, memorized, ordinary)
    else:
        with tempfile.TemporaryDirectory() as data, running(args.webui, Path(data), "--api") as client:
            webui = of_the_webui(client, known, memorized, ordinary)
    lab = of_the_lab(memorized, ordinary)
    if args.out is not None:
        sides = [
            {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(side).items()}
            for side in (lab, webui)
        ]
        args.out.write_text(json.dumps(sides), encoding="utf-8")
    print(compare(lab, webui))


if __name__ == "__main__":
    main()
