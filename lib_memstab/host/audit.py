"""The audit as a page: which folders of the WebUI may be looked through, and what it answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lib_memstab.evidence.audit import STATES, State, audit, moment, summary
from lib_memstab.settings import SettingsError

MAX_ROWS = 10_000
"""So many rows are answered; the counts are of all files."""


class ForbiddenError(ValueError):
    """A folder that is none of the host's; `allowed` are those that are."""

    def __init__(self, folder: str, allowed: Sequence[Path]) -> None:
        self.allowed = [str(one) for one in allowed]
        places = ", ".join(self.allowed) or "none, as the WebUI has no output folders"
        super().__init__(f"only the WebUI's output folders can be looked through, not {ascii(folder)[:200]}: {places}")


@dataclass(frozen=True)
class Audit:
    """What is asked for: folders that are the host's, whether with folders in them, of which states, and since when."""

    folders: Sequence[Path]
    recursive: bool
    only: Sequence[State]
    since: datetime | None


def read_fields(body: object, **others: Any) -> tuple[Any, ...]:
    """Folder (None: all), whether with folders in it, and `others` by name, with their defaults, of a JSON body.

    Raises:
        SettingsError: names a field that cannot be used.
    """
    fields: dict[str, Any] = {"folder": None, "recursive": True, **others}
    *names, last = fields
    if not isinstance(body, Mapping):
        raise SettingsError("body", f"an object of {', '.join(names)} and {last}", body)
    for name in body:
        if name not in fields:
            raise SettingsError(str(name)[:40], f"one of {', '.join(fields)}", name)
    folder, recursive, *values = (body.get(name, default) for name, default in fields.items())
    if not (folder is None or isinstance(folder, str)):
        raise SettingsError("folder", "a path, or left out for all output folders", folder)
    if not isinstance(recursive, bool):
        raise SettingsError("recursive", "true or false", recursive)
    return folder, recursive, *values


def chosen_folders(folder: str | None, allowed: Sequence[Path]) -> list[Path]:
    """The folder, which must be one of those allowed or inside one (see `permitted`); None: all of them."""
    return [one for one in allowed if one.is_dir()] if folder is None else [permitted(folder, allowed)]


def read_audit(body: object, allowed: Sequence[Path]) -> Audit:
    """The audit that a page's JSON body asks for; without a folder all of the host's that are there.

    Raises:
        SettingsError: names a field that cannot be used.
        ForbiddenError: for a folder that is not, and is not inside, one of those allowed.
        FileNotFoundError: for one of these that is not there.
    """
    folder, recursive, only, since = read_fields(body, only=[], since=None)
    if not (isinstance(only, list) and all(one in STATES for one in only)):
        raise SettingsError("only", f"a list of {', '.join(map(repr, STATES))}", only)
    return Audit(chosen_folders(folder, allowed), recursive, only, _since(since))


def answer(asked: Audit) -> dict[str, Any]:
    """Counts of every state, and at most `MAX_ROWS` rows of those asked for; links inside the folders are left out."""
    everything = list(audit(asked.folders, recursive=asked.recursive, since=asked.since, links=False))
    rows = [row for row in everything if not asked.only or row.state in asked.only]
    return {
        "counts": summary(everything),
        "rows": [row.to_dict() for row in rows[:MAX_ROWS]],
        "truncated": len(rows) > MAX_ROWS,
    }


def permitted(folder: str, allowed: Sequence[Path]) -> Path:
    """The folder, if it is the host's both by its words, before anything is looked up, and where links lead.

    Raises:
        ForbiddenError: for one that is not, and is not inside, one of those allowed.
        FileNotFoundError: for one of these that is not there.
    """
    path = _spelled_out(folder)
    try:
        inside = any(
            path.is_relative_to(_spelled_out(one)) and path.resolve().is_relative_to(one.resolve()) for one in allowed
        )
        is_there = inside and path.is_dir()
    except (OSError, ValueError, RuntimeError):
        # No path at all, or one that links lead round in a circle.
        inside = is_there = False
    if not inside:
        raise ForbiddenError(folder, allowed)
    if not is_there:
        raise FileNotFoundError(f"there is no folder {ascii(folder)[:200]}")
    return path


def _spelled_out(path: str | Path) -> Path:
    """The whole path without `..`; nothing is looked up, as another machine's folder would tell it who asks."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` looks up


def _since(text: object) -> datetime | None:
    try:
        return None if text is None else moment(str(text))
    except ValueError as error:
        raise SettingsError("since", "a day or time such as 2026-11-25 or 2026-11-25T18:00", text) from error
