"""Figures of regions and of badges, and what all of MemStab's figures share: colours, axes, curves, saving.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind eyes, and never speak alone: line style,
marker, hatch or words say the same. Nothing here keeps state, as `matplotlib.pyplot` would.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import get_args

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from lib_memstab import badge
from lib_memstab.core.comparing import SENSITIVITY, BandBounds, reached
from lib_memstab.core.profile import Mode, Profile
from lib_memstab.core.region import Band, Conditions, FloatArray, Region
from lib_memstab.core.report import ImageReport, PassReport, Trace

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, INK, PALE = "#E69F00", "#56B4E9", "#222222", "#5A5A5A"

_COLORS, _MARKERS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK), "os^DvPX"
_SIGMA_TICKS = (14, 5, 2, 1, 0.5, 0.2, 0.1, 0.05)
_EVERY = 5
"""Of so many noise levels one has a marker; those of the bands are shifted against each other."""

_LINE, _LINES = 120, 4
"""Signs in a line of a figure's heading, and lines of it."""

_MOST_PASSES = 8


class PlotError(ValueError):
    """A badge that has nothing to draw; the message says why."""


def region_figure(profile: Profile) -> Figure:
    """Centre and 1-in-100 bound of every band of a profile; see `regions_figure`."""
    regions = {mode: one.region for mode, one in profile.modes.items()}
    return regions_figure(regions, f"{profile.name}: where ordinary pictures of {profile.checkpoint.name} walk")


def regions_figure(regions: Mapping[Mode, Region], title: str) -> Figure:
    """Centre and 1-in-100 bound of every band over falling noise level, one axes for each mode.

    A band is drawn from its first noise level on; the number after it is that of its trajectories.
    """
    figure, places = _modes_figure(regions, title)
    for mode, axes in places.items():
        _draw_bands(axes, regions[mode])
        axes.set_title(f"{mode}, {regions[mode].count} trajectories", loc="left", fontsize=10)
    return figure


def comparison_figure(compared: Mapping[Mode, Sequence[BandBounds]], names: tuple[str, str]) -> Figure:
    """The 1-in-100 bounds of two profiles over each other, for the bands of the first, one axes for each mode."""
    figure, places = _modes_figure(compared, f"{names[0]} and {names[1]}: the bounds of ordinary pictures")
    for mode, axes in places.items():
        lines = []
        for index, band in enumerate(compared[mode]):
            drawn = axes.plot(band.sigma, np.exp(band.one), label=_conditions(band.conditions))
            drawn += axes.plot(band.sigma, np.exp(band.other), linestyle="--")
            _mark(drawn, index)
            lines.append(drawn[0])
        _legend(axes, lines, *names)
        axes.set_title(mode, loc="left", fontsize=10)
    return figure


def _modes_figure(modes: Collection[Mode], title: str) -> tuple[Figure, dict[Mode, Axes]]:
    """A figure with axes for path lengths over falling noise level, one for each mode, in their usual order."""
    ordered = [mode for mode in get_args(Mode) if mode in modes]
    figure = blank(10.0, 0.6 + 3.6 * len(ordered))
    figure.suptitle(title, fontsize=11)
    places = dict(zip(ordered, figure.subplots(len(ordered), squeeze=False)[:, 0], strict=True))
    for axes in places.values():
        path_axes(bare(axes))
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=20))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    return figure, places


def badge_figure(report: ImageReport) -> Figure:
    """What a badge has to show: the path of every pass against the region, one axes a pass, and the verdict in words.

    Raises:
        PlotError: if nothing was measured, so that there is no path, and for more than `_MOST_PASSES` passes.
    """
    passes: list[tuple[str, ImageReport | PassReport]] = [(one.name, one) for one in report.passes] or [("", report)]
    drawn = [(name, one) for name, one in passes if one.trace.sigma]
    if not drawn:
        raise PlotError(f"nothing was measured, so there is no path to draw: {report.reason or 'no reason is given'}")
    if len(drawn) > _MOST_PASSES:
        raise PlotError(f"the badge has {len(drawn)} passes, and no host makes more than {_MOST_PASSES}")
    figure = blank(9.0, 1.2 + 3.8 * len(drawn))
    told = [textwrap.fill(badge.words(report), _LINE, max_lines=_LINES), _origin(report)]
    # What comes from a file is no formula, whatever signs it holds.
    figure.suptitle("\n".join(told), fontsize=10, parse_math=False)
    for axes, (name, one) in zip(figure.subplots(len(drawn), squeeze=False)[:, 0], drawn, strict=True):
        draw_region(bare(axes), one.trace, f"its bound: about 1 in {report.sensitivity:g} ordinary pictures crosses it")
        draw_path(axes, one.trace, BLUE, "this picture")
        _mark_outside(axes, one.trace)
        path_axes(axes)
        axes.set_title(_heading(name, one), loc="left", fontsize=9, parse_math=False)
        axes.legend(frameon=False, fontsize=8)
    return figure


def blank(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    return Figure((width, height), dpi=150, layout="constrained", facecolor="white")


def bare(axes: Axes) -> Axes:
    """The axes without a frame, with a pale grid behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def path_axes(axes: Axes) -> None:
    """Path length over noise level, which falls from left to right, as sampling goes."""
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_locator(FixedLocator(_SIGMA_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("noise level σ (sampling goes from left to right)")
    axes.set_ylabel("path length of the update norm")


def draw_region(axes: Axes, trace: Trace, bound: str) -> None:
    """The region that a trace was judged by, as a band, and its bound as a line of that name."""
    sigma, low, high = (_finite(values) for values in (trace.sigma, trace.low, trace.high))
    axes.fill_between(sigma, low, high, color=PALE, alpha=0.22, linewidth=0, label="stability region")
    axes.plot(sigma, high, color=PALE, linewidth=1.6, label=bound)


def draw_path(axes: Axes, trace: Trace, color: str, label: str) -> Line2D:
    """The path of one pass; values that were not finite leave gaps."""
    (line,) = axes.plot(
        _finite(trace.sigma), _finite(trace.norm), color=color, marker="o", markersize=3.5, linewidth=1.3, label=label
    )
    return line


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, or as SVG if the path ends so: the same bytes for the same figure.

    Raises:
        OSError: if the file cannot be written.
    """
    if path.suffix.lower() == ".svg":
        with matplotlib.rc_context({"svg.hashsalt": "memstab"}):
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    else:
        figure.savefig(path, format="png", metadata={"Software": None})


def _draw_bands(axes: Axes, region: Region) -> None:
    bound = region.threshold(SENSITIVITY)
    lines = []
    for index, band in enumerate(region.bands):
        came = reached(region, band)
        sigma, centre, deviation = np.exp(region.log_sigma[came]), band.mean[came], band.deviation[came]
        drawn = axes.plot(sigma, np.exp(centre), label=_label(band))
        drawn += axes.plot(sigma, np.exp(centre + bound * deviation), linestyle="--")
        _mark(drawn, index)
        lines.append(drawn[0])
    _legend(axes, lines, "centre", f"bound, 1 in {SENSITIVITY}")


def _mark(lines: Sequence[Line2D], index: int) -> None:
    """Give the lines of one band its colour and its marker; the colours come again with other markers."""
    color = _COLORS[index % len(_COLORS)]
    marker = _MARKERS[(index + index // len(_COLORS)) % len(_MARKERS)]
    for line in lines:
        line.set(color=color, marker=marker, markersize=4, markevery=(2 * index % _EVERY, _EVERY), linewidth=1.3)


def _legend(axes: Axes, lines: Sequence[Line2D], solid: str, dashed: str) -> None:
    """What the bands are, and what solid and dashed lines; beside the axes, where it hides nothing."""
    styles = [
        Line2D([], [], color=PALE, linestyle="-", label=solid),
        Line2D([], [], color=PALE, linestyle="--", label=dashed),
    ]
    axes.legend(handles=[*lines, *styles], loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)


def _mark_outside(axes: Axes, trace: Trace) -> None:
    sigma, norm, high = (_finite(values) for values in (trace.sigma, trace.norm, trace.high))
    outside = norm > high
    if outside.any():
        axes.plot(sigma[outside], norm[outside], "X", color=VERMILLION, markersize=7, label="step outside")


def _heading(name: str, one: ImageReport | PassReport) -> str:
    """What is to be said of one pass."""
    parts = [f"{name}: {one.verdict}" if name else one.verdict]
    if one.steps.first_outside is not None:
        parts.append(f"from step {one.steps.first_outside} on")
    if one.score is not None:
        parts.append(f"score {one.score:.3g}")
    if one.p_value is not None:
        parts.append(f"p {one.p_value:.2g}")
    parts.append(f"profile {one.profile.name} ({one.profile.match})" if one.profile else "no profile")
    return ", ".join(parts)


def _origin(report: ImageReport) -> str:
    told = f"{report.host}, MemStab {report.version}, {report.mode}, strength {report.strength:g}"
    return textwrap.shorten(told, _LINE)


def _finite(values: Sequence[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _label(band: Band) -> str:
    return _conditions(band.conditions) + ("" if band.count is None else f" ({band.count})")


def _conditions(at: Conditions) -> str:
    return f"CFG {at.guidance:g}, from σ {at.start:.3g}" + (", negative prompt" if at.negative else "")
