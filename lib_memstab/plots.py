"""Figures of regions, and what all of MemStab's figures share: colours, axes, the falling noise level, saving.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind eyes, and never speak alone: line style,
marker, hatch or words say the same. Nothing here keeps state, as `matplotlib.pyplot` would.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from lib_memstab.core.profile import Mode, Profile
from lib_memstab.core.region import Band, Region

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, INK, PALE = "#E69F00", "#56B4E9", "#222222", "#5A5A5A"

SENSITIVITY = 100
"""About one false alarm in so many ordinary images: the bound that a region's figure shows."""

_BANDS = tuple(zip((BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK), "os^DvPX", strict=True))
_SIGMA_TICKS = (14, 5, 2, 1, 0.5, 0.2, 0.1, 0.05)
_EVERY = 5
"""Of so many noise levels one has a marker; those of the bands are shifted against each other."""


def region_figure(profile: Profile) -> Figure:
    """Centre and 1-in-100 bound of every band of a profile over falling noise level, one axes for each mode.

    A band is drawn from its first noise level on; the number after it is that of its trajectories.
    """
    modes = [mode for mode in get_args(Mode) if mode in profile.modes]
    figure = Figure((10.0, 0.6 + 3.6 * len(modes)), dpi=150, layout="constrained", facecolor="white")
    figure.suptitle(f"{profile.name}: where ordinary pictures of {profile.checkpoint.name} walk", fontsize=11)
    for axes, mode in zip(figure.subplots(len(modes), squeeze=False)[:, 0], modes, strict=True):
        region = profile.modes[mode].region
        _draw_bands(bare(axes), region)
        noise_axis(axes)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=20))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("path length of the update norm")
        axes.set_title(f"{mode}, {region.count} trajectories", loc="left", fontsize=10)
    return figure


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
        color, marker = _BANDS[index % len(_BANDS)]
        # Half a step of slack, as a trajectory has on the grid.
        came = region.log_sigma <= np.log(band.conditions.start) + np.diff(region.log_sigma).max() / 2
        sigma, centre, deviation = np.exp(region.log_sigma[came]), band.mean[came], band.deviation[came]
        drawn = axes.plot(sigma, np.exp(centre), label=_label(band))
        drawn += axes.plot(sigma, np.exp(centre + bound * deviation), linestyle="--")
        for line in drawn:
            line.set(color=color, marker=marker, markersize=4, markevery=(2 * index % _EVERY, _EVERY), linewidth=1.3)
        lines.append(drawn[0])
    lines.append(Line2D([], [], color=PALE, linestyle="-", label="centre"))
    lines.append(Line2D([], [], color=PALE, linestyle="--", label=f"bound, 1 in {SENSITIVITY}"))
    # Beside the axes, where it hides nothing.
    axes.legend(handles=lines, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)


def _label(band: Band) -> str:
    at = band.conditions
    negative = ", negative prompt" if at.negative else ""
    count = "" if band.count is None else f" ({band.count})"
    return f"CFG {at.guidance:g}, from σ {at.start:.3g}{negative}{count}"
