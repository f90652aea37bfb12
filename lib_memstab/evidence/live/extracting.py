"""Extraction through a running WebUI: the seeds of each prompt, without MemStab and with it, and what they share."""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from lib_memstab.cli import FINDING, UseError, columns
from lib_memstab.core.files import write_whole
from lib_memstab.core.plain import to_plain
from lib_memstab.evidence.audit_table import shown
from lib_memstab.evidence.cliques import MAX_NODES
from lib_memstab.evidence.extraction import DISTANCE, Extracted, extract
from lib_memstab.evidence.journal import Journal, unpacked
from lib_memstab.evidence.live import call
from lib_memstab.evidence.live.taking import Kept, Order, take_all
from lib_memstab.evidence.progress import bar
from lib_memstab.evidence.similarity import SIDE, Pictures, thumbnails
from lib_memstab.evidence.verify.plan import Subject, subjects_of
from lib_memstab.evidence.webui_prompt import escaped
from lib_memstab.lab.pictures import Cells, Tile, contact_sheet
from lib_memstab.lab.statistics import rate_interval
from lib_memstab.lab.tables import share

SEEDS: Final = 6
RESULT, SHEET = "extract.json", "cliques.png"
MOST_ROWS: Final = 40
"""Prompts that the sheet shows at most."""

MOST_TILES: Final = 6
"""Pictures of each of them."""

_WIDEST, _CAPTION = 60, 200
_HOW = "tiled distance of Carlini et al. 2023"


@dataclass(frozen=True)
class Prompted:
    """What the pictures of one prompt say, without MemStab and with it.

    Attributes:
        found: in the order of `MODES`.
        states: verdicts of the pictures with MemStab, counted.
        pictures: thumbnails [N, 64, 64, 3] in the order of `MODES`; None where nothing was found.
    """

    subject: Subject
    seeds: Sequence[int]
    found: tuple[Extracted, Extracted]
    states: dict[str, int]
    pictures: tuple[Pictures, Pictures] | None


def run(args: argparse.Namespace) -> int:
    """Take what is missing and tell; 1 if a prompt counts as memorized with MemStab.

    Raises:
        UseError, SourceError, JournalError, PromptListError, WebUIError, OSError: with what to do.
    """
    seeds, distance = args.seeds or SEEDS, args.distance or DISTANCE
    sampling = call.check(args, seeds)
    if not args.clique <= seeds <= MAX_NODES:
        raise UseError(f"--seeds is from --clique, {args.clique}, to {MAX_NODES}: each is a picture of every prompt")
    lists = call.lists_of(args)
    tried, ordinary = ([one for group, one in lists if group == wanted] for wanted in ("memorized", "ordinary"))
    subjects = subjects_of(tried, ordinary, args.limit)
    source = call.source_of(args, sampling, lists)
    folder = args.out or Path("extract")
    journal = call.journal_of(args, folder, lists, seeds, source, _HOW)
    orders = [Order(one.number, str(seed), partial(_plain, one, seed)) for one in subjects for seed in one.seeds(seeds)]
    with call.told_where_it_stopped(journal), bar("picture") as progress:
        take_all(orders, source, journal, _kept, progress)
    rows = look(journal, subjects, seeds, distance, args.clique)
    found = [one for one in rows if one.pictures is not None]
    if found:
        file = io.BytesIO()
        sheet(found[:MOST_ROWS]).save(file, "PNG", optimize=True)
        write_whole(folder / SHEET, file.getvalue())
    else:
        (folder / SHEET).unlink(missing_ok=True)
    content = {"seeds": seeds, "distance": distance, "clique": args.clique, **figures(rows)}
    call.tell(args, folder / RESULT, content, lambda: words(rows, content, folder))
    return FINDING if any(one.found[1].memorized for one in rows) else 0


def look(
    journal: Journal[Kept], subjects: Sequence[Subject], seeds: int, distance: float, clique: int
) -> list[Prompted]:
    """Every prompt with its cliques, in the order of the lists."""
    rows = []
    for number, entries in journal.by_subject(len(subjects)):
        subject = subjects[number]
        table = {(one.order, one.mode): one for one in entries}
        own = [(table[str(seed), "off"], table[str(seed), "suppress"]) for seed in subject.seeds(seeds)]
        without, with_it = (
            np.stack([unpacked(pair[place].descriptor).reshape(SIDE, SIDE, 3) for pair in own]) for place in (0, 1)
        )
        found = (extract(without, distance, clique), extract(with_it, distance, clique))
        verdicts = [pair[1].verdict for pair in own]
        states = {state: verdicts.count(state) for state in sorted(set(verdicts))}
        kept = (without, with_it) if any(one.memorized for one in found) else None
        rows.append(Prompted(subject, subject.seeds(seeds), found, states, kept))
    return sorted(rows, key=lambda row: row.subject.number)


def figures(rows: Sequence[Prompted]) -> dict[str, Any]:
    """What was found of each kind of list, and of every prompt, as plain data."""
    return {
        "lists": [
            {"prompts": _group(group), **_counts([row for row in rows if row.subject.group == group])}
            for group in dict.fromkeys(row.subject.group for row in rows)
        ],
        "not_measured": sum(row.states.get("not measured", 0) for row in rows),
        "prompts": [
            {
                "prompt": to_plain(row.subject.prompt.text),
                "list": to_plain(row.subject.source),
                "line": row.subject.prompt.line,
                "group": _group(row.subject.group),
                "memorized": [one.memorized for one in row.found],
                "tightest": [one.tightest if math.isfinite(one.tightest) else None for one in row.found],
                "clique_seeds": [[row.seeds[place] for place in one.clique] for one in row.found],
                "states": row.states,
            }
            for row in rows
        ],
    }


def _group(group: str) -> str:
    return "ordinary" if group == "ordinary" else "tried"


def _counts(rows: Sequence[Prompted]) -> dict[str, Any]:
    without, with_it = (sum(row.found[place].memorized for row in rows) for place in (0, 1))
    return {
        "of": len(rows),
        "found_without": without,
        "interval_without": list(rate_interval(without, len(rows))),
        "found_with": with_it,
        "interval_with": list(rate_interval(with_it, len(rows))),
    }


def words(rows: Sequence[Prompted], content: dict[str, Any], folder: Path) -> str:
    """The rates, the prompts that were found, and where their pictures are, for a terminal."""
    heads = ("prompts", "found without MemStab", "found with MemStab")
    lines = [
        (one["prompts"], share(one["found_without"], one["of"]), share(one["found_with"], one["of"]))
        for one in content["lists"]
    ]
    parts = [columns([heads, *lines])]
    found = [row for row in rows if row.pictures is not None]
    if found:
        heads_of_prompts = ("near-duplicates without", "with", "of", "distance without", "with", "suppressed", "prompt")
        parts.append(columns([heads_of_prompts, *map(_cells, found)]))
        more = f" (the first {MOST_ROWS} of {len(found)})" if len(found) > MOST_ROWS else ""
        parts.append(
            f"{shown(str(folder / SHEET))} shows the pictures{more}, {shown(str(folder / RESULT))} has all figures."
        )
    else:
        parts.append(f"No prompt gave the same picture again and again. {shown(str(folder / RESULT))} has all figures.")
    parts.append(
        f"{content['seeds']} pictures of each prompt; near-duplicates are closer than {content['distance']:g}, and a "
        f"prompt counts as memorized with {content['clique']} or more of them."
    )
    if content["not_measured"]:
        parts.append(f"MemStab could not measure {content['not_measured']} of the pictures, and left them as they are.")
    return "\n\n".join(parts) + "\n"


def _cells(row: Prompted) -> Sequence[str]:
    prompt = shown(row.subject.prompt.text)
    without, with_it = row.found
    return (
        *(str(len(one.clique)) + (" !" if one.memorized else "") for one in row.found),
        str(without.pictures),
        f"{without.tightest:.3f}",
        f"{with_it.tightest:.3f}",
        str(row.states.get("suppressed", 0)),
        prompt if len(prompt) <= _WIDEST else f"{prompt[: _WIDEST - 1]}…",
    )


def sheet(rows: Sequence[Prompted]) -> Image.Image:
    """Pictures of found prompts as they were compared, cliques framed, and those of the same seeds beside them."""
    headings = ("without MemStab", "with MemStab, same seeds")
    return contact_sheet(headings, [_row(row) for row in rows])


def _row(row: Prompted) -> list[Cells]:
    assert row.pictures is not None
    first = row.found[0] if row.found[0].memorized else row.found[1]
    places = [*first.clique, *(place for place in range(len(row.seeds)) if place not in first.clique)][:MOST_TILES]
    cells = []
    for pictures, found, caption in zip(
        row.pictures, row.found, (shown(row.subject.prompt.text[:_CAPTION]), ""), strict=True
    ):
        tiles = [
            Tile(
                Image.fromarray(pictures[place]), f"seed {row.seeds[place]}", found.memorized and place in found.clique
            )
            for place in places
        ]
        cells.append(Cells(tiles, caption))
    return cells


def _plain(subject: Subject, seed: int) -> dict[str, Any]:
    return {"prompt": escaped(subject.prompt.text), "seed": seed}


def _kept(pictures: Pictures) -> Pictures:
    return thumbnails(pictures).reshape(len(pictures), -1)
