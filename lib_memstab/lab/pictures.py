"""Pictures for people: contact sheet, per-step curves against the region, histogram of similarities.

What they share with the region's own figure is in `plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lib_memstab.core.region import FloatArray
from lib_memstab.core.report import Trace
from lib_memstab.lab.statistics import rate_interval
from lib_memstab.plots import BLUE, GREEN, INK, PALE, PURPLE, VERMILLION, bare, blank, draw_path, draw_region, path_axes

STYLES = ((VERMILLION, "-", "o", "//"), (GREEN, "--", "s", "\\\\"), (BLUE, ":", "^", ""), (PURPLE, "-.", "D", "xx"))
"""Colour, line style, marker and hatch of the first, second, ... set of lines or bars."""

PAPER = "#FFFFFF"
TILE, FRAME = 192, 4
GAP, GROUP_GAP = 10, 34
NOTE_SIZE, TEXT_SIZE, HEAD_SIZE = 19, 21, 24


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet and a short note under it; a frame marks it when seen from afar."""

    picture: Image.Image
    note: str = ""
    framed: bool = False


@dataclass(frozen=True)
class Cells:
    """The tiles of one row under one heading; the caption below them runs on to the next cells that have one."""

    tiles: Sequence[Tile]
    caption: str = ""


def to_pictures(decoded: Tensor) -> list[Image.Image]:
    """RGB pictures from a decoder's output [B, 3, H, W] in 0..1."""
    values = (decoded.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(value)) for value in values]


def contact_sheet(headings: Sequence[str], rows: Sequence[Sequence[Cells]]) -> Image.Image:
    """Rows of pictures under headings, one `Cells` per heading; every row has as many tiles in the same place."""
    lefts, widths = _columns([len(cells.tiles) for cells in rows[0]])
    width = lefts[-1] + widths[-1] + GROUP_GAP
    titles = [_wrapped(heading, _font(HEAD_SIZE), room) for heading, room in zip(headings, widths, strict=True)]
    captions = [_captions(cells, lefts, width) for cells in rows]
    head = GROUP_GAP + max(map(len, titles)) * _line(HEAD_SIZE) + GAP
    body = TILE + _line(NOTE_SIZE) + GAP
    heights = [body + max(map(len, lines)) * _line(TEXT_SIZE) + GROUP_GAP for lines in captions]
    sheet = Image.new("RGB", (width, head + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for left, lines in zip(lefts, titles, strict=True):
        _write(draw, lines, (left, GROUP_GAP), HEAD_SIZE, INK)
    tops = [head + sum(heights[:index]) for index in range(len(rows))]
    for cells, lines_of_row, top in zip(rows, captions, tops, strict=True):
        for group, lines, left in zip(cells, lines_of_row, lefts, strict=True):
            for place, tile in enumerate(group.tiles):
                x = left + place * (TILE + GAP)
                if tile.framed:
                    draw.rectangle((x - FRAME, top - FRAME, x + TILE + FRAME - 1, top + TILE + FRAME - 1), VERMILLION)
                sheet.paste(tile.picture.resize((TILE, TILE), Image.Resampling.BICUBIC), (x, top))
                _write(draw, [tile.note], (x, top + TILE + 4), NOTE_SIZE, PALE)
            _write(draw, lines, (left, top + body), TEXT_SIZE, INK)
    return sheet


def curve_figure(sets: Mapping[str, Sequence[Trace]], region: Trace) -> Figure:
    """Path length over falling noise level, one line per trace and one style per set, against a region's bounds.

    `region` has the bounds, whatever its path is: those of a trace are of one image, for which a second look may have
    moved them. Values that were not finite leave gaps.
    """
    figure, axes = _axes(9.0, 4.6)
    draw_region(axes, region, "its bound")
    for (name, traces), (color, line, marker, _) in zip(sets.items(), STYLES, strict=False):
        for index, trace in enumerate(traces):
            path = draw_path(axes, trace, color, name if index == 0 else "_")
            path.set(linestyle=line, marker=marker, alpha=0.85)
    path_axes(axes)
    return _with_legend(figure)


def rates_figure(series: Mapping[str, Sequence[tuple[float, int, int]]], supported: float) -> Figure:
    """Stated rates of false alarms against observed ones, both on log axes: (1 in N, flagged, of how many) each.

    Bars are 95 % intervals; right of the line at 1 in `supported` bounds lie in the calibration's data, left of it they
    rest on the model of the tail.
    """
    figure, axes = _axes(6.4, 4.8)
    floor = 0.3 * min(1 / sensitivity for rates in series.values() for sensitivity, _, _ in rates)
    axes.plot([floor, 1], [floor, 1], color=INK, linewidth=1, linestyle=":", label="as stated")
    for (name, rates), (color, _, marker, _) in zip(series.items(), STYLES, strict=False):
        stated = np.array([1 / sensitivity for sensitivity, _, _ in rates])
        observed = np.array([flagged / count for _, flagged, count in rates])
        bounds = np.array([rate_interval(flagged, count) for _, flagged, count in rates])
        axes.vlines(stated, np.maximum(bounds[:, 0], floor), bounds[:, 1], color=color, linewidth=1.4)
        axes.plot(stated, np.maximum(observed, floor), marker, color=color, label=name)
    axes.axvline(
        1 / supported,
        color=INK,
        linewidth=1.2,
        linestyle="--",
        label=f"1 in {supported:g}",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
    axes.set_xlabel("stated rate of false alarms")
    axes.set_ylabel("observed rate")
    return _with_legend(figure)


def similarity_figure(kinds: Mapping[str, FloatArray], threshold: float) -> Figure:
    """Histogram of similarities [-1, 1] with counts on a log axis: bars by kind, and the line that makes a copy."""
    figure, axes = _axes(9.0, 4.6)
    edges = np.linspace(min(-0.2, *(float(values.min()) for values in kinds.values() if len(values))), 1, 25)
    width = (edges[1] - edges[0]) / (len(kinds) + 0.6)
    for index, ((name, values), style) in enumerate(zip(kinds.items(), STYLES, strict=False)):
        counts, _ = np.histogram(values, edges)
        axes.bar(
            edges[:-1] + (index + 0.8) * width,
            counts,
            width,
            color=style[0],
            hatch=style[3],
            edgecolor="white",
            linewidth=0.4,
            label=f"{name} ({len(values)})",
        )
    axes.axvline(threshold, color=INK, linewidth=1.4, linestyle="--")
    axes.annotate(
        f"copy from {threshold:g} on",
        (threshold, 1),
        xycoords=("data", "axes fraction"),
        xytext=(5, -4),
        textcoords="offset points",
        va="top",
    )
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("similarity to the training picture")
    axes.set_ylabel("pictures (log)")
    return _with_legend(figure)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = blank(width, height)
    return figure, bare(figure.add_subplot())


def _with_legend(figure: Figure) -> Figure:
    """The figure with its legend above the axes, where it hides nothing."""
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9, columnspacing=1.4)
    return figure


def _columns(counts: Sequence[int]) -> tuple[list[int], list[int]]:
    """Left edge and width of each group of so many tiles, in pixels."""
    widths = [count * TILE + (count - 1) * GAP for count in counts]
    return [GROUP_GAP + sum(widths[:index]) + index * GROUP_GAP for index in range(len(widths))], widths


def _captions(cells: Sequence[Cells], lefts: Sequence[int], width: int) -> list[list[str]]:
    """The lines of every caption of a row, each as wide as the way to the next one."""
    lines = []
    for index, group in enumerate(cells):
        after = (left for left, later in zip(lefts[index + 1 :], cells[index + 1 :], strict=True) if later.caption)
        lines.append(_wrapped(group.caption, _font(TEXT_SIZE), next(after, width) - GROUP_GAP - lefts[index]))
    return lines


def _wrapped(text: str, font: ImageFont.FreeTypeFont, room: int) -> list[str]:
    """Text in lines of at most `room` pixels, broken between words; nothing for no text."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[str], corner: tuple[int, int], size: int, color: str) -> None:
    for index, line in enumerate(lines):
        draw.text((corner[0], corner[1] + index * _line(size)), line, fill=color, font=_font(size))


def _line(size: int) -> int:
    """Height of a line of text, in pixels."""
    return round(size * 1.35)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """A font that matplotlib brings along, so that it is the same on every machine; headings are bold."""
    name = "DejaVuSans-Bold.ttf" if size == HEAD_SIZE else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
