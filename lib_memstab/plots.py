"""Figures of regions, and what all of MemStab's figures share: colours, axes, the falling noise level, saving.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind eyes, and never speak alone: line style,
marker, hatch or words say the same. Nothing here keeps state, as `matplotlib.pyplot` would.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import get_args

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from lib_memstab.core.comparing import SENSITIVITY, BandBounds, reached
from lib_memstab.core.profile import Mode, Profile
from lib_memstab.core.region import Band, Conditions, Region

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, INK, PALE = "#E69F00", "#56B4E9", "#222222", "#5A5A5A"

_BANDS = tuple(zip((BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK), "os^DvPX", strict=True))
_SIGMA_TICKS = (14, 5, 2, 1, 0.5, 0.2, 0.1, 0.05)
_EVERY = 5
"""Of so many noise levels one has a marker; those of the bands are shifted against each other."""


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
    figure = Figure((10.0, 0.6 + 3.6 * len(ordered)), dpi=150, layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=11)
    places = dict(zip(ordered, figure.subplots(len(ordered), squeeze=False)[:, 0], strict=True))
    for axes in places.values():
        noise_axis(bare(axes))
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=20))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("path length of the update norm")
    return figure, places


def bare(axes: Axes) -> Axes:
    """The axes without a frame, with a pale grid behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def noise_axis(axes: Axes) -> None:
    """Noise level falls from left to right, as sampling goes."""
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_locator(FixedLocator(_SIGMA_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("noise level σ (sampling goes from left to right)")


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
    """Give the lines of one band its colour and its marker."""
    color, marker = _BANDS[index % len(_BANDS)]
    for line in lines:
        line.set(color=color, marker=marker, markersize=4, markevery=(2 * index % _EVERY, _EVERY), linewidth=1.3)


def _legend(axes: Axes, lines: Sequence[Line2D], solid: str, dashed: str) -> None:
    """What the bands are, and what solid and dashed lines; beside the axes, where it hides nothing."""
    styles = [
        Line2D([], [], color=PALE, linestyle="-", label=solid),
        Line2D([], [], color=PALE, linestyle="--", label=dashed),
    ]
    axes.legend(handles=[*lines, *styles], loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)


def _label(band: Band) -> str:
    return _conditions(band.conditions) + ("" if band.count is None else f" ({band.count})")


def _conditions(at: Conditions) -> str:
    return f"CFG {at.guidance:g}, from σ {at.start:.3g}" + (", negative prompt" if at.negative else "")
