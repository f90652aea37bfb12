"""`python -m lib_memstab audit`: which pictures in folders are flagged, suppressed, clear or without a badge.

Exit codes: 0 if nothing is flagged, 1 if something is, 2 for bad use.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lib_memstab.cli import BAD_USE, FINDING, UseError, columns
from lib_memstab.core.files import write_whole
from lib_memstab.evidence.audit import STATES, Row, State, audit, moment, summary
from lib_memstab.evidence.audit_table import HEADS, cells, shown, to_csv, to_jsonl
from lib_memstab.evidence.progress import bar

log = logging.getLogger("memstab")

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
