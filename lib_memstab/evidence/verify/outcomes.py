"""What came of each prompt and seed: its score, and whether it is a copy before and after suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lib_memstab.evidence.descriptors import Descriptor
from lib_memstab.evidence.journal import unpacked
from lib_memstab.evidence.similarity import FloatArray
from lib_memstab.evidence.verify.journal import Entry, Journal
from lib_memstab.evidence.verify.plan import MODES, Subject

FIRST: Final = ((1, "first"), (3, "first 3"), (5, "first 5"), (None, "all"))
"""Denoiser evaluations whose highest excess is the score; two-stage samplers have two to a step."""


@dataclass
class Shown:
    """What came of one prompt with one seed.

    Attributes:
        score: highest excess of the first evaluations by the names of `FIRST`; none where it is not known.
        identical: whether pixels in detect and in suppress mode are those without MemStab.
        likeness: to the training picture, or to the most alike picture of another seed: before and after.
        copied: before and after; None where it is not known.
    """

    subject: Subject
    seed: int
    score: dict[str, float]
    verdict: str
    suppressed: str
    identical: tuple[bool, bool]
    seconds: tuple[float, float, float]
    likeness: tuple[float | None, float | None]
    copied: tuple[bool, bool] | None
    detected: Entry
    after: Entry


def shown(journal: Journal, subjects: Sequence[Subject], descriptor: Descriptor) -> list[Shown]:
    """Every prompt and seed that is there in all modes; only one prompt's descriptors are held at a time."""
    rows: list[Shown] = []
    for number, found in journal.by_subject(len(subjects)):
        rows += _of_prompt(subjects[number], found, descriptor)
    return sorted(rows, key=lambda row: (row.subject.number, row.seed))


def _of_prompt(subject: Subject, entries: Sequence[Entry], descriptor: Descriptor) -> list[Shown]:
    table = {(entry.seed, entry.mode): entry for entry in entries}
    seeds = sorted({seed for seed, _ in table if all((seed, mode) in table for mode in MODES)})
    rows = [tuple(table[seed, mode] for mode in MODES) for seed in seeds]
    if not rows:
        return []
    likeness, copied = _copies(rows, descriptor)
    found = []
    for row, alike, copy in zip(rows, likeness, copied, strict=True):
        off, detected, after = row
        found.append(
            Shown(
                subject,
                off.seed,
                _scores(detected),
                detected.verdict,
                after.verdict,
                (detected.pixels == off.pixels, after.pixels == off.pixels),
                (off.seconds, detected.seconds, after.seconds),
                alike,
                copy,
                detected,
                after,
            )
        )
    return found


def _scores(entry: Entry) -> dict[str, float]:
    """Highest excess of the first evaluations; none where one of them could not be measured."""
    if entry.verdict in ("", "not measured") or not entry.whole:
        return {}
    values = [value for value in entry.excess if value is not None]
    return {name: max(values[:count]) for count, name in FIRST}


def _copies(
    rows: Sequence[tuple[Entry, ...]], descriptor: Descriptor
) -> tuple[list[tuple[float | None, float | None]], list[tuple[bool, bool] | None]]:
    """Likeness and verdict of every seed of one prompt, before and after suppression.

    With a training picture it is the likeness to that. Without, after Carlini et al. 2023: a picture is taken for
    memorized if another seed gives nearly the same one. A suppressed picture then counts if it is nearly the same as
    one of those, or as a suppressed picture of another seed.
    """
    known = [(row[0].reference, row[2].reference) for row in rows]
    to_training = [(one, other) for one, other in known if one is not None and other is not None]
    if len(to_training) == len(rows):
        limit = descriptor.threshold
        return list(known), [(one >= limit, other >= limit) for one, other in to_training]
    if len(rows) < 2 or any(not row[place].descriptor for row in rows for place in (0, 2)):
        return [(None, None)] * len(rows), [None] * len(rows)
    before, after = (np.stack([unpacked(row[place].descriptor) for row in rows]) for place in (0, 2))
    among, among_after = (_without_self(descriptor.similarity(one, one)) for one in (before, after))
    nearest = among.max(axis=1)
    replayed = nearest >= descriptor.threshold
    to_replayed = descriptor.similarity(after, before)[:, replayed].max(axis=1, initial=-1.0)
    left = np.maximum(to_replayed, among_after.max(axis=1))
    return (
        list(zip(nearest.tolist(), left.tolist(), strict=True)),
        list(zip(replayed.tolist(), (left >= descriptor.threshold).tolist(), strict=True)),
    )


def _without_self(table: FloatArray) -> FloatArray:
    return np.where(np.eye(len(table), dtype=bool), -1.0, table)
