"""The bench's figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib_memstab.lab.statistics import rate_interval

KINDS = ("all", "title", "caption", "template")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def share(hits: int, trials: int) -> str:
    """A rate in per cent with its 95 % interval and its count."""
    if trials == 0:
        return "-"
    low, high = rate_interval(hits, trials)
    return f"{100 * hits / trials:.1f} % [{100 * low:.2f}, {100 * high:.2f}] of {trials}"


def rules(results: Sequence[dict[str, Any]]) -> str:
    """One row for each rule and strength."""
    head = [
        "rule",
        "strength",
        *(f"{kind}s left" for kind in KINDS[1:]),
        "like another memorized",
        "captions that fit (of ordinary's)",
        "false alarm: likeness to untouched",
        "false alarm: fits (untouched)",
        "extra evaluations",
    ]
    rows = []
    for result in results:
        alarms, fits = result["false_alarms"], result["fits"]["caption"]
        rows.append(
            [
                result["rule"],
                f"{result['strength']:g}",
                *(f"{left} of {total}" for left, total in (result["copies"][kind] for kind in KINDS[1:])),
                f"{result['other'][0]} of {result['other'][1]}",
                f"{fits:.2f} ({fits / max(result['fits_ordinary'], 1e-9):.2f})",
                "-" if alarms["likeness"] is None else f"{alarms['likeness']:.2f} of {alarms['count']}",
                "-" if alarms["fits"] is None else f"{alarms['fits']:.2f} ({alarms['fits_untouched']:.2f})",
                f"{result['extra']:.1f}",
            ]
        )
    return table(head, rows)


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """All tables of a bench run."""
    return "\n\n".join([_detection(results[0]), _suppression(results), _false_alarms(results), _rates(results[0])])


def rivals(figures: Mapping[str, Any]) -> str:
    """One row for each method; a detector that does not mitigate, or a mitigation without a detector, has gaps."""
    head = [
        "method, same trajectories",
        "AUC, first step",
        "first 3",
        "all",
        "TPR at 1 %, all",
        "copies left",
        "captions that fit",
        "ordinary pictures changed",
        "extra evaluations",
    ]
    rows = []
    for row in figures["rows"]:
        seen, made = row["detection"], row["mitigation"]
        ranks = ["-"] * 4 if seen is None else [*(f"{auc:.4f}" for auc in seen["auc"]), f"{seen['tpr_at_1']:.3f}"]
        counts = ["-"] * 3 if made is None else [share(*made[name]) for name in ("copies", "fits", "changed")]
        extra = sum(part["extra"] for part in (seen, made) if part is not None)
        rows.append([row["method"], *ranks, *counts, f"{extra:.1f}"])
    return table(head, rows)


def cost(rows: Sequence[dict[str, Any]]) -> str:
    """Seconds of sampling with UNets of real size, without the method and with it, and how often the host waited."""
    head = [
        "UNet",
        "images at once",
        "evaluations",
        "without MemStab",
        "clear",
        "suppressed",
        "hooks alone, an evaluation",
        "waits",
    ]
    lines = [
        [
            row["model"],
            str(row["images"]),
            str(row["evaluations"]),
            f"{row['without']:.3f} s",
            *(
                f"{100 * (row[way] / row['without'] - 1):+.2f} %" if way in row else "-"
                for way in ("clear", "suppressed")
            ),
            f"{1000 * row['hooks']:.2f} ms ({100 * row['hooks'] * row['evaluations'] / row['without']:.3f} %)",
            str(row["host_waits"]),
        ]
        for row in rows
    ]
    return f"{rows[0]['device']}, bfloat16\n\n{table(head, lines)}"


def _detection(result: dict[str, Any]) -> str:
    rows = []
    for name, figures in result["detection"].items():
        auc, tpr = figures["auc_interval"], figures["tpr_at_1_interval"]
        rows.append(
            [
                name,
                f"{figures['auc']:.4f} [{auc[0]:.4f}, {auc[1]:.4f}]",
                f"{figures['tpr_at_1']:.3f} [{tpr[0]:.3f}, {tpr[1]:.3f}]",
            ]
        )
    steps = ", ".join(f"{count} at step {step}" for step, count in enumerate(result["step_of_flag"]) if count)
    head = [f"detection, {result['cell']} (steps, against)", "AUC [95 %]", "TPR at 1 % false alarms [95 %]"]
    found, copies = result["other_hard"]
    note = (
        f"{result['other_ordinary']} of the ordinary pictures and {copies} of the hard negatives are copies of a "
        f"memorized one; of the latter {found} were flagged."
    )
    return f"{table(head, rows)}\n\nReproduced pictures were flagged: {steps or 'none'}. {note}"


def _suppression(results: Sequence[dict[str, Any]]) -> str:
    head = [
        "cell",
        "kind",
        "copies without",
        "copies with MemStab",
        "like another memorized",
        "fits its caption",
        "of ordinary's",
        "extra evaluations",
    ]
    rows = []
    for result in results:
        for kind in KINDS:
            figures = result["suppression"][kind]
            fits = figures["fits_after"] if kind in ("caption", "template") else None
            rows.append(
                [
                    result["cell"] if kind == "all" else "",
                    kind,
                    share(figures["copied_before"], figures["trajectories"]),
                    share(figures["copied_after"], figures["trajectories"]),
                    share(figures["other_after"], figures["trajectories"]),
                    "-" if fits is None else f"{fits:.2f}",
                    "-" if fits is None else f"{fits / max(result['fits_ordinary'], 1e-9):.2f}",
                    f"{figures['extra']:.1f}",
                ]
            )
    return table(head, rows)


def _false_alarms(results: Sequence[dict[str, Any]]) -> str:
    head = [
        "cell",
        "copies flagged",
        "ordinary touched",
        "hard negatives flagged",
        "ordinary fit",
        "AUC, all steps",
        "distance (ordinary halves)",
        "untouched identical",
    ]
    rows = []
    for result in results:
        flagged, distance = result["flagged"], result["distance"]
        ranking = result["detection"].get("all, ordinary")
        rows.append(
            [
                result["cell"],
                share(*flagged["copies"]),
                share(*flagged["ordinary"]),
                share(*flagged["hard"]),
                f"{result['fits_ordinary']:.2f}",
                "-" if ranking is None else f"{ranking['auc']:.4f}",
                "-" if distance is None else f"{distance['suppressed']:.2f} ({distance['ordinary halves']:.2f})",
                "yes" if result["identical"] else "NO",
            ]
        )
    return table(head, rows)


def _rates(result: dict[str, Any]) -> str:
    """Stated rates of false alarms beside the observed ones."""
    head = [f"one false alarm in N, {result['cell']}", "stated", "ordinary flagged", "hard negatives flagged"]
    rows = [
        [name, f"{100 / float(name):g} %", *(share(*counts) for counts in pair)]
        for name, pair in result["rates"].items()
    ]
    return table(head, rows)
