"""`python -m lib_memstab audit`: which pictures in folders are flagged, suppressed, clear or without a badge.

Exit codes: 0 if nothing is flagged, 1 if something is, 2 for bad use.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from lib_memstab.cli import BAD_USE, FINDING, UseError, columns
from lib_memstab.core.files import write_whole
from lib_memstab.evidence.audit import STATES, Row, State, audit, moment, summary
from lib_memstab.evidence.progress import bar

log = logging.getLogger("memstab")

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet program takes for the beginning of a formula."""

HEADS = ("state", "score", "p", "from step", "profile", "file", "remark")
"""What a table of rows has above it."""

_TOLD: tuple[State, ...] = ("flagged", "suppressed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab audit`."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="DIR", help="folders, or pictures, to look through")
    parser.add_argument("--flat", action="store_true", help="leave out folders in folders")
    parser.add_argument("--all", action="store_true", help="list every file, not only the flagged and suppressed ones")
    parser.add_argument(
        "--only",
        nargs="+",
        type=lambda text: text.replace("-", " "),
        choices=STATES,
        default=[],
        metavar="STATE",
        help=f"list and write only these: {', '.join(state.replace(' ', '-') for state in STATES)}",
    )
    parser.add_argument(
        "--since", type=_date, metavar="DATE", help="only files modified then or later, such as 2026-11-25 (local time)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows for spreadsheet programs")
    parser.add_argument("--jsonl", type=Path, metavar="FILE", help="write the rows as JSON, one a line")


def run(args: argparse.Namespace) -> int:
    """Look through, tell and write; 1 if a picture is flagged, 2 for bad use."""
    try:
        _check(args)
        with bar("file") as progress:
            everything = list(audit(args.paths, progress, recursive=not args.flat, since=args.since))
        counts = summary(everything)
        rows = [row for row in everything if not args.only or row.state in args.only]
        if args.csv:
            write_whole(args.csv, to_csv(rows))
        if args.jsonl:
            write_whole(args.jsonl, to_jsonl(rows))
    except (UseError, OSError) as error:
        log.error("audit: %s", error)
        return BAD_USE
    if args.json:
        sys.stdout.write(json.dumps({"counts": counts, "rows": [row.to_dict() for row in rows]}, indent=1) + "\n")
    else:
        listed = [row for row in rows if args.all or args.only or row.state in _TOLD or row.contradiction]
        sys.stdout.write(words(counts, sorted(listed, key=lambda row: STATES.index(row.state))))
    return FINDING if counts["flagged"] else 0


def words(counts: dict[State, int], rows: Sequence[Row]) -> str:
    """How many files there are of every state, and these rows in columns for a terminal."""
    total = sum(counts.values())
    lines = [(state, str(count)) for state, count in counts.items() if count]
    told = f"{total} {'file' if total == 1 else 'files'}\n"
    told += f"{columns(lines)}\n" if lines else ""
    if rows:
        told += f"\n{columns([HEADS, *map(cells, rows)])}\n"
    return told


def to_csv(rows: Sequence[Row]) -> bytes:
    """The rows as `csv_table` writes them."""
    return csv_table([one.name for one in fields(Row)], [list(row.to_dict().values()) for row in rows])


def csv_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """A table as CSV in UTF-8 with the mark that spreadsheet programs know it by; no cell is taken for a formula."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(head)
    table.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8-sig")


def to_jsonl(rows: Sequence[Row]) -> bytes:
    """The rows as JSON, one a line, in ASCII."""
    return "".join(f"{json.dumps(row.to_dict())}\n" for row in rows).encode("ascii")


def shown(text: str) -> str:
    r"""Text on one line that any file may hold and no terminal obeys: `\n` and the like for what has no shape."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return " of ".join(map(str, value))
    if not isinstance(value, str):
        return value
    return f"'{shown(value)}" if value.startswith(FORMULA) else shown(value)


def cells(row: Row) -> Sequence[str]:
    """The row under `HEADS`, as people read it."""
    return (
        row.state,
        "-" if row.score is None else f"{row.score:.3g}",
        "-" if row.p_value is None else "<0.0001" if row.p_value < 1e-4 else f"{row.p_value:.2g}",
        str(row.first_outside or "-"),
        shown(row.profile or "-") + (" (transfer)" if row.match == "transfer" else ""),
        shown(str(row.path)),
        shown("; ".join(filter(None, (row.contradiction, row.reason)))),
    )


def _check(args: argparse.Namespace) -> None:
    """Refuse what would only fail after a long walk."""
    for path in args.paths:
        if not path.exists():
            raise UseError(f"there is no folder {shown(str(path))}: check the path")
    for path in filter(None, (args.csv, args.jsonl)):
        if not path.parent.is_dir():
            raise UseError(f"there is no folder {shown(str(path.parent))} to write {shown(path.name)} to: make it")


def _date(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2026-11-25 or 2026-11-25T18:00") from None
