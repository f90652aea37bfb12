"""What the pictures in folders say of themselves: one row a file, out of badges and infotexts alone.

No pixel is decoded and no torch needed. Names and contents may be hostile: nothing but a row comes of them.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, get_args

from lib_memstab import badge
from lib_memstab.badge import BadgeError
from lib_memstab.core.report import AUTOMATIC
from lib_memstab.evidence.progress import Progress
from lib_memstab.metadata import BADGE, PARAMETERS, PictureTexts, read_texts

State = Literal["flagged", "suppressed", "damaged badge", "not measured", "partial", "clear", "unreadable", "no badge"]
"""What becomes of a file, gravest first; partial: stopped early, and nothing found until then."""

STATES: tuple[State, ...] = get_args(State)
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif")
"""Names that are looked at in a folder; what is in the file decides how it is read."""

_ENTRY = re.compile(r'([^:,"\s][^:,"]{0,60}):[ \t]*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
_ROUNDING = {"score": 0.006, "p_value": 0.06, "likeness": 0.06}
"""How far an infotext's numbers may be from the badge's, which are rounded there: relatively, or by `_SMALLEST`."""

_SMALLEST = 1e-4
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Row:
    """One file. None, or nothing, stands for what its badge does not say.

    Attributes:
        path: as it was found; it may hold anything a file name may.
        state: where a PNG's badge and infotext contradict each other, the graver one.
        source: which text the row tells of, "badge" or "infotext"; an infotext has numbers of three digits.
        mode, sensitivity: settings of the job.
        score, p_value: as in the badge; from an infotext a p-value of .0001 is "at most".
        first_outside: first step outside the region, from 1.
        profile, match: the profile it was judged by, and how well that fitted; an infotext knows a profile only if the
            user chose it, and the match only if it is "transfer".
        partial: steps done and planned of a picture that was stopped.
        reason: why it is so, where that is known.
        contradiction: how the two texts of the file differ; empty if they agree, or if there is one.
        size: in bytes.
        modified: in UTC.
        likeness: of a second look; an infotext has it of flagged and suppressed pictures only.
    """

    path: Path
    state: State
    source: Literal["badge", "infotext", ""] = ""
    mode: str | None = None
    sensitivity: float | None = None
    score: float | None = None
    p_value: float | None = None
    first_outside: int | None = None
    profile: str | None = None
    match: str | None = None
    partial: tuple[int, int] | None = None
    reason: str = ""
    contradiction: str = ""
    size: int | None = None
    modified: datetime | None = None
    likeness: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON data; a path that is not Unicode has lone surrogates, as Python's own have."""
        modified = self.modified and self.modified.isoformat(timespec="seconds")
        return {**asdict(self), "path": str(self.path), "modified": modified}


def audit(
    paths: Iterable[Path],
    progress: Progress = lambda done, total: None,
    *,
    recursive: bool = True,
    since: datetime | None = None,
    links: bool = True,
) -> Iterator[Row]:
    """A row of every picture in these folders, of every folder that cannot be read, and of every file that is named.

    Args:
        progress: told how many files of how many are read.
        recursive: look into folders in folders.
        since: leave out files modified before; with a time zone.
        links: follow symbolic links inside the folders; a folder is looked at once all the same.
    """
    files = list(_files(paths, recursive, links))
    for done, (path, trouble) in enumerate(files, start=1):
        row = Row(path, "unreadable", reason=trouble) if trouble else _row(path, since)
        progress(done, len(files))
        if row is not None:
            yield row


def pictures_in(paths: Iterable[Path], *, recursive: bool = True, links: bool = True) -> list[Path]:
    """Every file that `audit` would read, once; what cannot be listed or read is among them, for its reader to tell."""
    return [path for path, _ in _files(paths, recursive=recursive, links=links)]


def summary(rows: Iterable[Row]) -> dict[State, int]:
    """How many rows there are of every state, gravest first."""
    counts = Counter(row.state for row in rows)
    return {state: counts[state] for state in STATES}


def moment(text: str) -> datetime:
    """A local day or time such as 2026-11-25 or 2026-11-25T18:00; ValueError if it is none."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (OverflowError, OSError) as error:
        raise ValueError(str(error)) from error


def _files(paths: Iterable[Path], recursive: bool, links: bool) -> Iterator[tuple[Path, str]]:
    """Every file to read, once, and every folder that cannot be listed with the reason, in the order of names."""
    seen: set[object] = set()
    waiting = list(paths)[::-1]
    while waiting:
        path = waiting.pop()
        try:
            about = path.stat()
        except (OSError, ValueError):
            # Whoever reads the file is told why it cannot be.
            yield path, ""
            continue
        is_folder = stat.S_ISDIR(about.st_mode)
        identity = (about.st_dev, about.st_ino) if is_folder and about.st_ino else path
        if identity in seen:
            continue
        seen.add(identity)
        if not is_folder:
            yield path, ""
            continue
        try:
            with os.scandir(path) as entries:
                inside = [path / entry.name for entry in entries if _is_wanted(entry, recursive, links)]
        except OSError as error:
            yield path, f"the folder cannot be read: {_words(error)}"
        else:
            waiting += sorted(inside, reverse=True)


def _is_wanted(entry: os.DirEntry[str], recursive: bool, links: bool) -> bool:
    if entry.is_symlink() and not links:
        return False
    try:
        if entry.is_dir():
            return recursive
    except OSError:
        # Such as a link to itself.
        pass
    return _has_suffix(entry.name)


def _has_suffix(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _row(path: Path, since: datetime | None) -> Row | None:
    """The row of a file; None if it is older than `since`."""
    size = modified = None
    try:
        about = path.stat()
        size, modified = about.st_size, _time(about.st_mtime)
        if since is not None and (modified is None or modified < since):
            return None
        row = told(path, read_texts(path))
    except (OSError, ValueError) as error:
        row = Row(path, "unreadable", reason=_words(error))
    return replace(row, size=size, modified=modified)


def _time(seconds: float) -> datetime | None:
    """A file's time; None for one that no calendar has."""
    try:
        return _EPOCH + timedelta(seconds=int(seconds))
    except OverflowError:
        return None


def _words(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def told(path: Path, texts: PictureTexts) -> Row:
    """The row of a file with these texts: of the badge or, where that is less grave or missing, of the infotext."""
    sources = [row for row in (_of_badge(path, texts), _of_infotext(path, texts)) if row is not None]
    if not sources:
        return Row(path, "no badge")
    # Of equals the badge, which comes first and says more.
    gravest = min(sources, key=lambda row: STATES.index(row.state))
    return replace(gravest, contradiction=_contradiction(*sources) if len(sources) == 2 else "")


def _of_badge(path: Path, texts: PictureTexts) -> Row | None:
    """What the PNG's chunk says."""
    if BADGE in texts.damaged:
        return Row(path, "damaged badge", "badge", reason=f"the badge cannot be read: {texts.damaged[BADGE]}")
    if BADGE not in texts.found:
        return None
    try:
        report = badge.from_chunk(texts.found[BADGE])
    except BadgeError as error:
        return Row(path, "damaged badge", "badge", reason=str(error))
    return Row(
        path,
        "partial" if report.verdict == "clear" and report.partial else report.verdict,
        "badge",
        report.mode,
        report.sensitivity,
        report.score,
        report.p_value,
        report.steps.first_outside,
        report.profile.name if report.profile else None,
        report.profile.match if report.profile else None,
        report.partial,
        report.reason,
        likeness=None if report.second_look is None else report.second_look.likeness,
    )


def _of_infotext(path: Path, texts: PictureTexts) -> Row | None:
    """What the generation parameters say; None if they say nothing of MemStab."""
    if PARAMETERS in texts.damaged:
        return Row(path, "unreadable", "infotext", reason=f"its parameters: {texts.damaged[PARAMETERS]}")
    entries = _entries(texts.found.get(PARAMETERS, ""))
    text, chosen = entries.get(badge.VERDICT_KEY), entries.get(badge.SETTINGS_KEY)
    if text is None:
        return None if chosen is None else Row(path, "no badge", "infotext", reason="it has settings but no verdict")
    try:
        settings = None if chosen is None else badge.settings_from_infotext(chosen)
        row = _of_grid(path, text) or _of_verdict(path, badge.verdict_from_infotext(text))
    except BadgeError as error:
        return Row(path, "damaged badge", "infotext", reason=f"the infotext: {error}")
    if settings is None:
        return row
    profile = None if settings.profile == AUTOMATIC else settings.profile
    return replace(row, mode=settings.mode, sensitivity=settings.sensitivity, profile=profile)


def _of_verdict(path: Path, said: badge.VerdictText) -> Row:
    return Row(
        path,
        "partial" if said.verdict == "clear" and said.partial else said.verdict,
        "infotext",
        score=said.score,
        p_value=said.p_value,
        first_outside=said.first_outside,
        match="transfer" if said.transfer else None,
        partial=said.partial,
        reason=said.reason,
        likeness=said.alike,
    )


def _of_grid(path: Path, text: str) -> Row | None:
    """The gravest of a grid's pictures."""
    counts = badge.grid_from_infotext(text)
    return Row(path, min(counts, key=STATES.index), "infotext", reason=f"a grid of {text}") if counts else None


def _entries(infotext: str) -> dict[str, str]:
    """The entries of an infotext's last line as the WebUI writes it; none if that line is part of a prompt."""
    entries = {key: value.strip() for key, value in _ENTRY.findall(infotext.strip().rpartition("\n")[2])}
    return entries if "Steps" in entries else {}


def _contradiction(written: Row, said: Row) -> str:
    """How a file's badge and infotext differ, as far as an infotext tells."""
    if written.state != said.state:
        return f"the badge says {written.state}, the infotext {said.state}"
    numbers = () if said.state in ("not measured", "damaged badge") else ("score", "p_value", "first_outside")
    looked = ("likeness",) if said.state in ("flagged", "suppressed") else ()
    settings = () if said.mode is None else ("mode", "sensitivity")
    return "; ".join(
        f"the badge says {name} {getattr(written, name)}, the infotext {getattr(said, name)}"
        for name in (*settings, *numbers, *looked, "partial")
        if not _agree(getattr(written, name), getattr(said, name), _ROUNDING.get(name, 0.0))
    )


def _agree(one: object, other: object, rounding: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=rounding, abs_tol=rounding and _SMALLEST)
    return one == other
