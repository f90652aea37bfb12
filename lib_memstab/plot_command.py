"""`python -m lib_memstab plot`: a picture's path against the stability region, from the badge in its PNG file alone."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from lib_memstab import badge, plots
from lib_memstab.badge import BadgeError
from lib_memstab.cli import BAD_USE, UseError, picture_name

log = logging.getLogger("memstab")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab plot`."""
    parser.add_argument("picture", type=Path, metavar="FILE", help="PNG file with a badge")
    parser.add_argument("--out", type=Path, default=Path("curve.png"), help="figure to write, .png or .svg (curve.png)")


def run(args: argparse.Namespace) -> int:
    """Draw the badge; 2 where there is none that can be drawn."""
    try:
        out = picture_name(args.out)
        if out.exists() and out.samefile(args.picture):
            raise UseError(f"{out} is the picture itself: name another file with --out")
        report = badge.read_png(args.picture).report
        if report is None:
            raise UseError(f"{args.picture} has no badge: only a PNG that MemStab watched, and that was not saved anew")
        plots.save_figure(plots.badge_figure(report), out)
    except (UseError, BadgeError, plots.PlotError, OSError) as error:
        log.error("plot: %s", error)
        return BAD_USE
    if args.json:
        sys.stdout.write(json.dumps({"out": str(out), "verdict": report.verdict, "words": badge.words(report)}) + "\n")
    else:
        sys.stdout.write(f"{badge.words(report)}\n{out}\n")
    return 0
