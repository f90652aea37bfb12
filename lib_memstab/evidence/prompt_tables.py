"""Prompt lists that are tables: CSV, as it is found and not only as it should be, and parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MOST_LINES: Final = 20
"""So many lines of a file can one row of a table take, by line breaks within quotes."""


@dataclass(frozen=True)
class Record:
    """The values of one line of a list, by name in lower case; of a table's row its first line."""

    line: int
    values: Mapping[str, object]


@dataclass(frozen=True)
class Broken:
    """A line that cannot be used, and why."""

    line: int
    reason: str


def heading(lines: Sequence[str], delimiter: str) -> list[str]:
    """The names in a table's first line, in lower case; one name where it is no table's."""
    row = _row(lines[0], delimiter, strict=True) if lines else None
    return [name.strip().lower() for name in row or [""]]


def read_table(lines: Sequence[str], delimiter: str) -> Iterator[Record | Broken]:
    """The rows of a table with a heading.

    A quote that is never closed, or that only stands for inches, costs its own line at most.
    """
    names = heading(lines, delimiter)
    place = 1
    while place < len(lines):
        if not lines[place].strip():
            place += 1
            continue
        row, taken = _next_row(lines, place, delimiter, len(names))
        if row is None:
            yield Broken(place + 1, f"not {len(names)} columns parted by {delimiter!r}, or a quote that is not closed")
        else:
            yield Record(place + 1, dict(zip(names, row, strict=True)))
        place += taken


def _next_row(lines: Sequence[str], place: int, delimiter: str, width: int) -> tuple[list[str] | None, int]:
    """The row that begins there, None if it is none, and how many lines it takes."""
    quotes = 0
    for taken in range(1, min(MOST_LINES, len(lines) - place) + 1):
        quotes += lines[place + taken - 1].count('"')
        if quotes % 2 == 0:
            row = _row("\n".join(lines[place : place + taken]), delimiter, strict=True)
            if row is not None and len(row) == width:
                return row, taken
            break
    alone = _row(lines[place], delimiter, strict=False)
    return (alone if alone is not None and len(alone) == width else None), 1


def _row(text: str, delimiter: str, strict: bool) -> list[str] | None:
    """The cells of one row, None if the text is not exactly one."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def read_parquet(data: bytes, wanted: Sequence[str]) -> Iterator[Record | Broken]:
    """The rows of a parquet file, of the columns that are wanted.

    Raises:
        ImportError: without the package pyarrow.
        ValueError: if it is no such file.
    """
    from pyarrow import ArrowException, BufferReader, parquet

    try:
        file = parquet.ParquetFile(BufferReader(data))
        columns = [name for name in file.schema_arrow.names if name.lower() in wanted]
        rows = [row for batch in file.iter_batches(columns=columns) for row in batch.to_pylist()]
    except (ArrowException, OSError) as error:
        raise ValueError(str(error)) from error
    return (
        Record(number, {name.lower(): value for name, value in row.items()}) for number, row in enumerate(rows, start=1)
    )
