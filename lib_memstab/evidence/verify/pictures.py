"""The plots of a verification's report: scores of both groups, the ranking they give, copies before and after."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lib_memstab.evidence.verify.outcomes import FIRST, Shown
from lib_memstab.plots import BLUE, INK, ORANGE, PALE, VERMILLION, bare, blank


def plots(figures: Mapping[str, Any], rows: Sequence[Shown]) -> list[tuple[str, Figure]]:
    """Scores of both groups, the ranking they give, and copies before and after."""
    mine, theirs = (
        np.array([row.score["all"] for row in rows if row.subject.group == group and "all" in row.score])
        for group in ("memorized", "ordinary")
    )
    found = []
    if len(mine) and len(theirs):
        found += [("highest excess of every picture", _scores(mine, theirs)), ("ranking", _ranking(rows))]
    copies = {kind: one for kind, one in figures["memorization"].items() if one["before"]["of"]}
    if copies:
        found.append(("copies before and after", _copies(copies)))
    return found


def _scores(mine: np.ndarray, theirs: np.ndarray) -> Figure:
    figure = blank(8.0, 3.2)
    axes = bare(figure.subplots())
    edges = np.linspace(min(mine.min(), theirs.min()), max(mine.max(), theirs.max()) + 1e-6, 41).tolist()
    axes.hist(theirs, edges, color=BLUE, alpha=0.6, label="ordinary prompts")
    axes.hist(mine, edges, color=VERMILLION, alpha=0.6, hatch="//", label="memorized prompts")
    axes.axvline(1.0, color=INK, linestyle="--", linewidth=1.2, label="bound of this run's sensitivity")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_xlabel("highest excess, 0 at the region's centre, 1 at its bound")
    axes.set_ylabel("pictures")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _ranking(rows: Sequence[Shown]) -> Figure:
    """Share of memorized pictures found over the share of ordinary ones that are flagged with them."""
    figure = blank(8.0, 3.6)
    axes = bare(figure.subplots())
    for (_, name), color, style in zip(FIRST, (PALE, ORANGE, VERMILLION, BLUE), (":", "-.", "--", "-"), strict=True):
        mine, theirs = (
            np.sort([row.score[name] for row in rows if row.subject.group == group and name in row.score])
            for group in ("memorized", "ordinary")
        )
        bounds = np.concatenate([[np.inf], np.sort(np.concatenate([mine, theirs]))[::-1]])
        hit, alarm = (1 - np.searchsorted(one, bounds, side="left") / len(one) for one in (mine, theirs))
        axes.plot(alarm, hit, color=color, linestyle=style, linewidth=1.5, drawstyle="steps-post", label=name)
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("share of ordinary pictures above a bound")
    axes.set_ylabel("share of memorized pictures above it")
    axes.legend(frameon=False, fontsize=8, title="evaluations", loc="lower right")
    return figure


def _copies(copies: Mapping[str, Any]) -> Figure:
    figure = blank(8.0, 1.2 + 0.6 * len(copies))
    axes = bare(figure.subplots())
    for place, found in enumerate(copies.values()):
        for shift, when, color, hatch in ((-0.18, "before", VERMILLION, "//"), (0.18, "after", BLUE, "")):
            low, high = found[when]["interval"]
            height = 100 * found[when]["rate"]
            axes.barh(
                place + shift, height, 0.34, color=color, hatch=hatch, alpha=0.75, label=when if not place else None
            )
            axes.plot([100 * low, 100 * high], [place + shift] * 2, color=INK, linewidth=1.2)
    axes.set_yticks(range(len(copies)), [kind.replace("$", r"\$") for kind in copies])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("pictures that are copies, per cent")
    axes.legend(frameon=False, fontsize=8)
    return figure


def inline(figure: Figure) -> str:
    """A figure as an address that holds it."""
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "memstab"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
