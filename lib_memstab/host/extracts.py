"""The extraction from folders as a page: which prompts of the WebUI's pictures give the same one again and again.

The attack of Carlini et al. 2023, see `evidence.extraction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_memstab.host.audit import chosen_folders, read_fields
from lib_memstab.settings import SettingsError

if TYPE_CHECKING:
    from lib_memstab.evidence.extract_folder import Group, Skipped
    from lib_memstab.evidence.progress import Progress

MAX_ROWS = 2_000
"""So many prompts, and so many files that were left out, are answered; the counts are of all."""

LARGEST_CLIQUE = 64


@dataclass(frozen=True)
class Extraction:
    """What is asked for: folders that are the host's, and what counts as a near-duplicate and as memorized."""

    folders: Sequence[Path]
    recursive: bool
    distance: float
    clique: int


def read_extraction(body: object, allowed: Sequence[Path]) -> Extraction:
    """The extraction that a page's JSON body asks for; without a folder all of the host's that are there.

    Raises:
        SettingsError: names a field that cannot be used.
        ForbiddenError: for a folder that is not, and is not inside, one of those allowed.
        FileNotFoundError: for one of these that is not there.
    """
    from lib_memstab.evidence.extraction import CLIQUE, DISTANCE

    folder, recursive, distance, clique = read_fields(body, distance=DISTANCE, clique=CLIQUE)
    if type(distance) not in (int, float) or not 0 < distance <= 1:
        raise SettingsError("distance", "a number above 0 and at most 1", distance)
    if type(clique) is not int or not 2 <= clique <= LARGEST_CLIQUE:
        raise SettingsError("clique", f"a whole number from 2 to {LARGEST_CLIQUE}", clique)
    return Extraction(chosen_folders(folder, allowed), recursive, float(distance), clique)


def look(asked: Extraction, progress: Progress = lambda done, total: None) -> tuple[list[Group], list[Skipped]]:
    """Every prompt with its pictures, the most telling first, and the files that were left out; links are not followed.

    Raises:
        SettingsError: where a prompt has more pictures than can be compared.
    """
    from lib_memstab.evidence.audit import pictures_in
    from lib_memstab.evidence.extract_folder import by_evidence, groups

    paths = pictures_in(asked.folders, recursive=asked.recursive, links=False)
    try:
        found, skipped = groups(paths, asked.distance, asked.clique, progress)
    except ValueError as error:
        places = ", ".join(map(str, asked.folders))
        raise SettingsError("folder", f"one with fewer pictures of a prompt ({error})", places) from error
    return list(by_evidence(found)), skipped


def answer(asked: Extraction) -> dict[str, Any]:
    """Counts, and at most `MAX_ROWS` prompts and left-out files; SettingsError as `look` has it."""
    from lib_memstab.evidence.extract_folder import to_plain

    found, skipped = look(asked)
    enough = [one for one in found if one.found.pictures >= asked.clique]
    return {
        "memorized": sum(one.found.memorized for one in enough),
        "prompts": len(enough),
        "too_few_pictures": len(found) - len(enough),
        **to_plain(found[:MAX_ROWS], skipped[:MAX_ROWS]),
        "truncated": max(len(found), len(skipped)) > MAX_ROWS,
    }
