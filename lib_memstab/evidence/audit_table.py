"""An audit's rows for people and programs: cells of a table, CSV, and JSON lines. Names may be hostile."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from lib_memstab.evidence.audit import Row

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet program takes for the beginning of a formula."""

HEADS = ("state", "score", "p", "from step", "profile", "file", "remark")
"""What a table of rows has above it."""


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
