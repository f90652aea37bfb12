"""What the tab shows of an audit: how far it is, counts, the rows asked for, and files to keep."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_memstab.core.files import write_whole
from lib_memstab.evidence.audit import STATES, Row, State, audit, summary
from lib_memstab.evidence.audit_table import HEADS, cells, to_csv, to_jsonl
from lib_memstab.host.audit import ForbiddenError, read_audit
from lib_memstab.host.tab.markup import Link, sentence, table
from lib_memstab.host.wording import EVERYTHING, NO_FOLDERS, NO_PICTURES
from lib_memstab.settings import SettingsError

SHOWN = 500
"""Rows that the page shows; the files to keep have all."""

TOLD: tuple[State, ...] = ("flagged", "suppressed")
"""States that are listed at first."""

EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Found:
    """What there is to show: HTML, and the files to keep once it is done."""

    html: str
    files: Sequence[Path] = ()


def folders(allowed: Sequence[Path]) -> list[str]:
    """What can be chosen: all of the host's folders at once, or one that is there."""
    return [EVERYTHING, *dict.fromkeys(str(one) for one in allowed if one.is_dir())]


def look_through(
    chosen: str,
    recursive: bool,
    only: Sequence[str],
    allowed: Sequence[Path],
    to: Path,
    serve: Callable[[Sequence[Path]], None],
) -> Iterator[Found]:
    """Look through folders and say now and then how far it is; the last one has it all, and files written to `to`.

    `serve` makes the host give these pictures to the page.
    """
    body = {"recursive": recursive, "only": list(only), "folder": None if chosen in ("", EVERYTHING) else chosen}
    try:
        asked = read_audit(body, allowed)
    except (SettingsError, ForbiddenError, FileNotFoundError) as error:
        yield Found(sentence(str(error)))
        return
    if not asked.folders:
        yield Found(sentence(NO_FOLDERS))
        return
    progress, rows, told = [0, 0], [], time.monotonic()

    def advance(done: int, total: int) -> None:
        progress[:] = done, total

    for row in audit(asked.folders, advance, recursive=asked.recursive, links=False):
        rows.append(row)
        if time.monotonic() - told > EVERY_SECONDS:
            yield Found(_bar(*progress))
            told = time.monotonic()
    if not rows:
        yield Found(sentence(NO_PICTURES))
        return
    wanted = [row for row in rows if not asked.only or row.state in asked.only]
    wanted.sort(key=lambda row: STATES.index(row.state))
    files = [to / "audit.csv", to / "audit.jsonl"]
    try:
        write_whole(files[0], to_csv(wanted))
        write_whole(files[1], to_jsonl(wanted))
    except OSError as error:
        yield Found(sentence(f"{to} cannot be written: {error}") + _result(summary(rows), wanted))
        return
    serve([row.path for row in wanted[:SHOWN]])
    yield Found(_result(summary(rows), wanted), files)


def _bar(done: int, total: int) -> str:
    bar = f'<div class="memstab-bar"><div style="width: {done / max(1, total):.1%}"></div></div>'
    return sentence(f"{done:,} of {total:,} files") + bar


def _result(counts: Mapping[State, int], rows: Sequence[Row]) -> str:
    """Counts of all files, and the rows, each with a link that opens its picture."""
    found = [(state, count) for state, count in counts.items() if count]
    html = table([state for state, _ in found], [[f"{count:,}" for _, count in found]])
    if len(rows) > SHOWN:
        html += sentence(f"The first {SHOWN:,} of {len(rows):,}; the files below have all.")
    return html + table(HEADS, [_linked(row) for row in rows[:SHOWN]]) if rows else html


def _linked(row: Row) -> list[str | Link]:
    """A row's cells, as the command line has them; the file's name opens it."""
    place, told = HEADS.index("file"), cells(row)
    return [*told[:place], Link(told[place], row.path), *told[place + 1 :]]


def own_run(
    chosen: str,
    recursive: bool,
    only: Sequence[str],
    allowed: Sequence[Path],
    serve: Callable[[Sequence[Path]], None],
) -> Iterator[Found]:
    """As `look_through`, with files of this run's own: gone with it, as whoever shows them has taken them by then."""
    with tempfile.TemporaryDirectory(prefix="memstab-") as folder:
        yield from look_through(chosen, recursive, only, allowed, Path(folder), serve)
