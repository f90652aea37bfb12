"""What the tab shows of an extraction from folders: prompts whose pictures are one picture, whatever the seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from lib_memstab.host.audit import ForbiddenError
from lib_memstab.host.extracts import look, read_extraction
from lib_memstab.host.tab.markup import sentence
from lib_memstab.settings import SettingsError

if TYPE_CHECKING:
    from lib_memstab.evidence.extract_folder import Group

HEADS = ("near-duplicates", "of pictures", "state", "prompt", "one of them")
SHOWN = 200
"""Prompts that the page shows; the API has more."""

WIDEST = 160
NO_REPLAYS = "No prompt gives the same picture again and again. That does not show that the pictures are original."


def replays(chosen: str, everything: str, allowed: Sequence[Path], serve: Callable[[Sequence[Path]], None]) -> str:
    """What is found in a folder, or in all of them with `everything`, as HTML; `serve` makes the host give pictures."""
    try:
        asked = read_extraction({"folder": None if chosen in ("", everything) else chosen}, allowed)
        found, skipped = look(asked)
    except (SettingsError, ForbiddenError, FileNotFoundError) as error:
        return sentence(str(error))
    enough = [one for one in found if one.found.pictures >= asked.clique]
    memorized = [one for one in enough if one.found.memorized]
    told = f"{len(memorized):,} of {len(enough):,} prompts give the same picture again and again."
    few, left_out = len(found) - len(enough), len(skipped)
    if few:
        told += f" {few:,} more had fewer than {asked.clique} pictures, so nothing is known about them."
    if left_out:
        told += f" {left_out:,} files were left out, such as {skipped[0].path.name}: {skipped[0].reason}."
    shown = memorized[:SHOWN]
    serve([_one(group) for group in shown])
    if shown:
        return sentence(told) + _table(shown)
    return sentence(told) + (sentence(NO_REPLAYS) if enough else "")


def _one(group: Group) -> Path:
    return group.paths[group.found.clique[0]]


def _table(found: Sequence[Group]) -> str:
    lines = ["".join(f"<th>{escape(head)}</th>" for head in HEADS)]
    for group in found:
        states = ", ".join(f"{count} {state}" for state, count in group.states.items())
        prompt = group.prompt if len(group.prompt) <= WIDEST else f"{group.prompt[: WIDEST - 1]}…"
        cells = [escape(one) for one in (str(len(group.found.clique)), str(group.found.pictures), states, prompt)]
        path = _one(group)
        name = escape(ascii(path.name)[1:-1])
        # A name that is not Unicode, or breaks a line, cannot be asked for by a page.
        link = f'<a href="file={escape(quote(str(path)))}" target="_blank">{name}</a>'
        cells.append(link if str(path).isprintable() else name)
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    return f'<table class="memstab-table">{"".join(f"<tr>{row}</tr>" for row in lines)}</table>'
