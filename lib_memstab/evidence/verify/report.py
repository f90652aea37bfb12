"""The report of a verification: a page with plots, the figures as JSON, and every picture as CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any, Final

from lib_memstab.core.files import write_whole
from lib_memstab.evidence.audit_table import csv_table
from lib_memstab.evidence.prompt_lists import PromptList
from lib_memstab.evidence.verify.figures import contradicts
from lib_memstab.evidence.verify.outcomes import FIRST, Shown
from lib_memstab.evidence.verify.pictures import inline, plots
from lib_memstab.evidence.verify.plan import MODES, Group

HTML, JSON, CSV = "report.html", "report.json", "pictures.csv"
_BROKEN_SHOWN: Final = 50

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: left; vertical-align: top; }
th { background: #f5f5f5; } img { max-width: 100%; } caption { text-align: left; font-weight: 600; padding: .3rem 0; }
.finding { border-left: .3rem solid #D55E00; padding-left: .8rem; } .none { border-left: .3rem solid #009E73;
padding-left: .8rem; }
"""

_CANNOT = (
    "It tells of these prompts and seeds, on this checkpoint, with these settings, and of nothing else.",
    "A prompt that is not flagged is not shown to be original: MemStab sees how a picture is sampled, not what it is.",
    "A rate of copies depends on the list: the share of prompts that still work on this checkpoint is the rate before.",
    "Copies are told by the comparison named above. What it takes for different can still be a copy to a court, and "
    "what it takes for alike can be two pictures of one plain thing.",
)


@dataclass(frozen=True)
class Account:
    """What a report tells: settings, lists, figures, and how copies were told.

    Attributes:
        settings: as the journal has them.
        copies_by: in a sentence, how a picture was taken for a copy.
        notes: what else the reader has to know, such as training pictures that could not be read.
        planned: prompts and seeds that were asked for; as many as there are rows once the run is done.
    """

    settings: Mapping[str, Any]
    lists: Sequence[tuple[Group, PromptList]]
    figures: Mapping[str, Any]
    copies_by: str
    notes: Sequence[str]
    planned: int


def write_report(folder: Path, account: Account, rows: Sequence[Shown]) -> list[Path]:
    """Write the three files whole; OSError if one cannot be."""
    files = {
        JSON: json.dumps(to_json(account), indent=1, allow_nan=False).encode("utf-8"),
        CSV: csv_table(HEAD, [_cells(row) for row in rows]),
        HTML: to_html(account, rows).encode("utf-8"),
    }
    for name, data in files.items():
        write_whole(folder / name, data)
    return [folder / name for name in files]


def to_json(account: Account) -> dict[str, Any]:
    """The figures with what they rest on, as plain data."""
    return {
        "schema": 1,
        "settings": dict(account.settings),
        "lists": lists_told(account.lists),
        "copies_by": account.copies_by,
        "notes": list(account.notes),
        "planned": account.planned,
        "figures": dict(account.figures),
        "findings": contradicts(account.figures),
    }


def lists_told(lists: Sequence[tuple[Group, PromptList]]) -> list[dict[str, Any]]:
    """What a report says of its lists, as plain data."""
    return [
        {
            "group": group,
            "name": one.name,
            "shape": one.shape,
            "sha256": one.sha256,
            "prompts": len(one.prompts),
            "with_html_tags": sum(bool(prompt.tags) for prompt in one.prompts),
            "broken": [{"line": broken.line, "reason": broken.reason} for broken in one.broken],
        }
        for group, one in lists
    ]


HEAD = (
    *("group", "kind", "prompt", "html_tags", "list", "line", "index", "seed"),
    *("verdict_detect", "verdict_suppress", "reason", "score", "p_value", "first_outside"),
    *(f"excess_{name.replace(' ', '_')}" for _, name in FIRST),
    *("likeness_before", "likeness_after", "copy_before", "copy_after", "identical_detect", "identical_suppress"),
    *(f"seconds_{mode}" for mode in MODES),
    *("extra_evaluations", "profile", "match", "second_look_likeness"),
)


def _cells(row: Shown) -> list[Any]:
    """One prompt and seed."""
    prompt, seen = row.subject.prompt, row.detected
    return [
        *(row.subject.group, prompt.kind, prompt.text, " ".join(prompt.tags), row.subject.source, prompt.line),
        *(prompt.index, row.seed),
        *(row.verdict, row.suppressed, seen.reason, seen.score, seen.p_value, seen.first_outside),
        *(row.score.get(name) for _, name in FIRST),
        *row.likeness,
        *(row.copied or (None, None)),
        *row.identical,
        *row.seconds,
        *(row.after.extra, seen.profile, seen.match, seen.alike),
    ]


def tables(figures: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Caption, head and rows of each table, for the page and for a terminal."""
    detection = [
        [kind, name, *(_interval(found, figure) for figure in ("auc", "tpr_at_1", "tpr_at_3")), _counts(found)]
        for kind, by_steps in figures["detection"].items()
        for name, found in by_steps.items()
        if found is not None
    ]
    copies = [
        [kind, *(rate(found[when]) for when in ("before", "after", "after, of those before"))]
        for kind, found in figures["memorization"].items()
        if found["before"]["of"]
    ]
    identical = [
        [group, what, f"{same} of {total}"]
        for group, counts in figures["identical"].items()
        for what, (same, total) in counts.items()
        if total
    ]
    seconds = [
        [mode, f"{found['mean']:.2f}", f"{found['median']:.2f}"]
        for mode, found in figures["seconds"].items()
        if found is not None
    ]
    flagged = [[kind, rate(found)] for kind, found in figures["flagged"].items() if found["of"]]
    return [
        (
            "Memorized against ordinary prompts, by the highest excess of the first denoiser evaluations",
            ["prompts", "evaluations", "AUC", "TPR at 1 % false alarms", "TPR at 3 %", "pictures"],
            detection,
        ),
        ("Flagged at the sensitivity of this run", ["prompts", "pictures flagged"], flagged),
        ("Copies", ["prompts", "without MemStab", "with suppression", "of the copies, still copies"], copies),
        ("Pixels equal to those without MemStab", ["prompts", "pictures", "identical"], identical),
        ("Seconds per picture", ["MemStab", "mean", "median"], seconds),
    ]


def rate(found: Mapping[str, Any]) -> str:
    """A share in per cent with its interval and its count."""
    if not found["of"]:
        return "-"
    low, high = found["interval"]
    return f"{100 * found['rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}], {found['hits']} of {found['of']}"


def _interval(found: Mapping[str, Any], figure: str) -> str:
    low, high = found[f"{figure}_interval"]
    return f"{found[figure]:.4f} [{low:.4f}, {high:.4f}]"


def _counts(found: Mapping[str, Any]) -> str:
    mine, theirs = found["pictures"]
    return f"{mine} against {theirs}"


def to_html(account: Account, rows: Sequence[Shown]) -> str:
    """One page that needs nothing else: no script, no address, every word of a list as text."""
    findings = contradicts(account.figures)
    done = "" if len(rows) == account.planned else f" Unfinished: {len(rows)} of {account.planned} prompts and seeds."
    told = (
        '<div class="finding"><p>What speaks against the claims:</p><ul>'
        + "".join(f"<li>{escape(one)}</li>" for one in findings)
        + "</ul></div>"
        if findings
        else '<p class="none">Nothing in this run speaks against the claims.</p>'
    )
    judged = account.figures["profiles"]
    notes = [
        *([f"Judged by the profile {', '.join(judged)}."] if judged else []),
        *account.notes,
        *(f"{account.figures[name]} pictures: {name}" for name in _COUNTED if account.figures[name]),
    ]
    parts = [
        "<h1>MemStab: verification</h1>",
        f"<p>{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC.{escape(done)}</p>",
        told,
        f"<p>{escape(account.copies_by)} Intervals are of 95 % and resample prompts, not pictures.</p>",
        *(_table(*one) for one in tables(account.figures) if one[2]),
        *(f'<p><img alt="{escape(name)}" src="{inline(figure)}"></p>' for name, figure in plots(account.figures, rows)),
        "<h2>What it rests on</h2>",
        _table("Settings", ["setting", "value"], [[name, _plain(value)] for name, value in account.settings.items()]),
        _table(
            "Lists",
            ["prompts", "list", "read as", "usable", "with HTML tags", "broken lines"],
            [
                [
                    group,
                    one.name,
                    one.shape,
                    str(len(one.prompts)),
                    str(sum(bool(prompt.tags) for prompt in one.prompts)),
                    "; ".join(f"{broken.line}: {broken.reason}" for broken in one.broken[:_BROKEN_SHOWN])
                    + (f"; and {len(one.broken) - _BROKEN_SHOWN} more" if len(one.broken) > _BROKEN_SHOWN else ""),
                ]
                for group, one in account.lists
            ],
        ),
        "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>" if notes else "",
        "<h2>What this cannot tell</h2>",
        "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in _CANNOT) + "</ul>",
    ]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>MemStab: verification</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


_COUNTED = ("not measured", "without figures of the first evaluations")


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><caption>{escape(caption)}</caption><tr>{names}</tr>{lines}</table>"


def _plain(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else "-" if value is None else str(value)
