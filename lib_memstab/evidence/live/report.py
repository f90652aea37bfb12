"""The files of an attack's report: all figures as JSON, and a line for each attempt as CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lib_memstab.core.files import write_whole
from lib_memstab.evidence.audit_table import csv_table
from lib_memstab.evidence.prompt_lists import PromptList
from lib_memstab.evidence.verify.plan import Group
from lib_memstab.evidence.verify.report import lists_told

SCHEMA: Final = 1
HEAD: Final = (
    *("attack", "prompt", "kind", "seed"),
    *("likeness_without", "likeness_with", "copy_without", "copy_with", "flagged", "score"),
)


def to_json(
    settings: Mapping[str, Any],
    lists: Sequence[tuple[Group, PromptList]],
    notes: Sequence[str],
    content: Mapping[str, Any],
) -> dict[str, Any]:
    """What `Campaign.attempt` tells, with what it rests on, as plain data."""
    return {
        "schema": SCHEMA,
        "settings": dict(settings),
        "lists": lists_told(lists),
        "notes": list(notes),
        **content,
    }


def write_report(folder: Path, report: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Write what `to_json` tells; `names` are the files', by format.

    Raises:
        OSError: if they cannot be written.
    """
    rows = [_cells(one, report["threshold"]) for one in report["attempts"]]
    write_whole(folder / names["csv"], csv_table(HEAD, rows))
    write_whole(folder / names["json"], json.dumps(report, indent=1, allow_nan=False).encode("ascii"))


def _cells(one: Mapping[str, Any], threshold: float) -> list[Any]:
    return [
        *(one[name] for name in ("attack", "prompt", "kind", "seed", "without", "suppressed")),
        *(one[name] >= threshold for name in ("without", "suppressed")),
        *(one["flagged"], one["score"]),
    ]
