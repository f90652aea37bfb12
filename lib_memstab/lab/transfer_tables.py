"""Figures of calibrations that are carried over, or that are small, as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib_memstab.lab.tables import share, table
from lib_memstab.lab.tools import STATED
from lib_memstab.lab.transfer import above_twice, unwarned

TOLD = {"exact": "no warning", "transfer": "warned", "none": "not judged"}
"""What a status line's state means to the user."""


def matrices(figures: Mapping[str, Any]) -> str:
    """Three tables for each matrix, what was sampled, and the cells above twice the stated rate by name."""
    parts = []
    stated = f"1 in {figures['sensitivity']:g}"
    for axis, cells in figures["matrices"].items():
        parts += [
            _matrix(f"{axis}: AUC", cells, lambda cell: "-" if cell["auc"] is None else f"{cell['auc']:.4f}"),
            _matrix(f"{axis}: copies flagged at {stated}", cells, lambda cell: _share(*cell["copies"])),
            _matrix(f"{axis}: false alarms at {stated}, status line", cells, _alarms),
        ]
    return "\n\n".join([*parts, _sampled(figures), _above(figures)])


def sizes(figures: Mapping[str, Any]) -> str:
    """One row for each size of a calibration: mean and range over its draws."""
    counts = figures["trajectories"]
    rows = [
        [
            str(row["size"]),
            str(row["draws"]),
            *(_range(row["alarms"][f"{stated:g}"], counts["ordinary"]) for stated in STATED),
            *(_range(row["copies"][f"{stated:g}"], counts["copies"]) for stated in STATED),
            _spread(row["auc"], 4),
        ]
        for row in figures["sizes"]
    ]
    head = [
        "calibration trajectories",
        "draws",
        *(f"false alarms, stated {100 / stated:g} %" for stated in STATED),
        *(f"copies flagged at 1 in {stated:g}" for stated in STATED),
        "AUC",
    ]
    note = (
        f"Mean [lowest, highest] of the draws, in per cent of {counts['ordinary']} ordinary trajectories and "
        f"{counts['copies']} copies, the same for every draw."
    )
    return f"{table(head, rows)}\n\n{note}"


def rates(figures: Mapping[str, Any]) -> str:
    """One row for each region and kind of prompts: what is stated, and what was observed."""
    rows = [
        [row["learned"], row["judged"], *(share(flagged, count) for _, flagged, count in row["stated"])]
        for row in figures["rows"]
    ]
    return table(["learned from", "held against", *(f"stated {100 / stated:g} %" for stated in STATED)], rows)


def learning(figures: Mapping[str, Any]) -> str:
    """One row for each kind of stream: mean and range over the streams."""
    rows = [
        [
            f"{100 * row['share']:g} %",
            "two seeds" if row["twice"] else "one seed",
            _spread(row["learned from"], 1),
            _range(row["alarms"], row["ordinary"]),
            _range(row["hits"], row["copies"]),
        ]
        for row in figures["rows"]
    ]
    head = ["memorized", "each prompt in", "their images learned from", "false alarms, stated 1 %", "copies flagged"]
    plain, copies = figures["rows"][0]["ordinary"], figures["rows"][0]["copies"]
    note = (
        f"Mean [lowest, highest] of {figures['draws']} streams of {figures['images']} images, in per cent of "
        f"{plain} ordinary trajectories and {copies} copies of other seeds."
    )
    return f"{table(head, rows)}\n\n{note}"


def provisional(figures: Mapping[str, Any]) -> str:
    """Two rows for each model: judged by its own region, and by that of the others."""
    rows = [
        [
            row["model"],
            name,
            "-" if found["auc"] is None else f"{found['auc']:.4f}",
            share(*found["alarms"]),
            share(*found["copies"]),
        ]
        for row in figures["rows"]
        for name, found in (("its own", row["own"]), ("the others'", row["others"]))
    ]
    stated = f"{100 / figures['sensitivity']:g} %"
    return table(["model", "judged by the region of", "AUC", f"false alarms, stated {stated}", "copies flagged"], rows)


def _matrix(title: str, cells: Sequence[Mapping[str, Any]], words: Callable[[Mapping[str, Any]], str]) -> str:
    rows = list(dict.fromkeys(cell["calibrated"] for cell in cells))
    columns = list(dict.fromkeys(cell["tested"] for cell in cells))
    said = {(cell["calibrated"], cell["tested"]): words(cell) for cell in cells}
    head = [f"{title} (calibrated on, used on)", *columns]
    return table(head, [[row, *(said[row, column] for column in columns)] for row in rows])


def _share(hits: int, trials: int) -> str:
    return f"{100 * hits / trials:.0f} % of {trials}" if trials else "-"


def _alarms(cell: Mapping[str, Any]) -> str:
    low, high = cell["interval"]
    hits, trials = cell["alarms"]
    return f"{100 * hits / trials:.1f} % [{100 * low:.1f}, {100 * high:.1f}] {TOLD[cell['status']]}"


def _sampled(figures: Mapping[str, Any]) -> str:
    head = ["sampled", "calibration trajectories kept", "memorized that became copies", "ordinary that are copies"]
    rows = [
        [
            row["way"],
            f"{row['calibration']} of {figures['calibration']}",
            *("{} of {}".format(*row[name]) for name in ("copies", "ordinary that are copies")),
        ]
        for row in figures["ways"]
    ]
    return table(head, rows)


def _above(figures: Mapping[str, Any]) -> str:
    """The cells above twice the stated rate, those without a warning first, and what that says of the statement."""
    limit, above = f"twice the stated rate ({200 / figures['sensitivity']:g} %)", above_twice(figures)
    if not above:
        return f"No cell is above {limit}."
    head = [f"above {limit}", "calibrated on", "used on", "false alarms [95 %]", "significant", "status line"]
    rows = [
        [
            cell["axis"],
            cell["calibrated"],
            cell["tested"],
            share(*cell["alarms"]),
            "yes" if cell["significant"] else "no",
            TOLD[cell["status"]],
        ]
        for cell in sorted(above, key=lambda cell: cell["warned"])
    ]
    names = "; ".join(f"{cell['axis']}, {cell['calibrated']} used on {cell['tested']}" for cell in unwarned(figures))
    verdict = f"Significantly above it without a warning: {names or 'none'}."
    return f"{table(head, rows)}\n\n{verdict}"


def _range(hits: Sequence[int], trials: int) -> str:
    return _spread([100 * one / trials for one in hits], 1) if trials else "-"


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    mean, low, high = sum(values) / len(values), min(values), max(values)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
