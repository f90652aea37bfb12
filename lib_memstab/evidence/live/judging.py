"""What the attempts of attackers on a running WebUI came to: copies without MemStab and with it, attack by attack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib_memstab.core.plain import to_plain
from lib_memstab.evidence.audit_table import shown
from lib_memstab.evidence.counting import counts, rates
from lib_memstab.evidence.descriptors import Descriptor
from lib_memstab.evidence.journal import Journal, unpacked
from lib_memstab.evidence.live.attacks import LIVE_ATTACKS
from lib_memstab.evidence.live.names import ALL_BLIND, AS_IT_IS, HEADS, HOLDS
from lib_memstab.evidence.live.taking import Kept, Order
from lib_memstab.evidence.verify.plan import Subject
from lib_memstab.lab.attempt import Attempt
from lib_memstab.lab.statistics import rate_interval
from lib_memstab.lab.tables import share, table


@dataclass(frozen=True)
class References:
    """Training pictures by the number of their prompt: descriptors [D], files, and which they are in a few words."""

    descriptors: Mapping[int, NDArray[Any]]
    files: Mapping[int, Path]
    words: str


def name_of(attack: str, seed: int) -> str:
    """What the journal knows an attempt by."""
    return f"{attack} @ {seed}"


def models_of(
    journal: Journal[Kept], subjects: Sequence[Subject], seeds: int, descriptor: Descriptor, references: References
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Descriptors [N, D] of what a copy of each prompt is like; none where nothing is known to be a copy.

    The training picture where there is one. Without, after Carlini et al. 2023, the plain pictures without MemStab that
    another seed of the prompt gives nearly the same.
    """
    for number, entries in journal.by_subject(len(subjects)):
        yield number, _model(subjects[number], entries, seeds, descriptor, references)


def _model(
    subject: Subject, entries: Sequence[Kept], seeds: int, descriptor: Descriptor, references: References
) -> NDArray[Any]:
    if subject.number in references.descriptors:
        return np.stack([references.descriptors[subject.number]])
    table = {one.order: one for one in entries if one.mode == "off"}
    plain = np.stack([unpacked(table[name_of(AS_IT_IS, seed)].descriptor) for seed in subject.seeds(seeds)])
    if len(plain) < 2:
        return plain[:0]
    among = descriptor.similarity(plain, plain)
    np.fill_diagonal(among, -1.0)
    return plain[among.max(axis=1) >= descriptor.threshold]


def judged(
    journal: Journal[Kept],
    subjects: Sequence[Subject],
    orders: Sequence[Order],
    seeds: int,
    descriptor: Descriptor,
    references: References,
) -> list[Attempt]:
    """What every order came to, in their order: its likeness to the most alike model, without MemStab and with it."""
    wanted: dict[int, list[Order]] = {}
    for order in orders:
        wanted.setdefault(order.subject, []).append(order)
    found: dict[int, list[Attempt]] = {}
    for number, entries in journal.by_subject(len(subjects)):
        if number not in wanted:
            continue
        models = _model(subjects[number], entries, seeds, descriptor, references)
        table = {(one.order, one.mode): one for one in entries}
        found[number] = [
            _attempt(
                subjects[number], order, table[order.name, "off"], table[order.name, "suppress"], models, descriptor
            )
            for order in wanted[number]
        ]
    return [attempt for number in wanted for attempt in found[number]]


def _attempt(
    subject: Subject, order: Order, off: Kept, on: Kept, models: NDArray[Any], descriptor: Descriptor
) -> Attempt:
    both = np.stack([unpacked(off.descriptor), unpacked(on.descriptor)])
    likeness = descriptor.similarity(both, models).max(axis=1)
    attack, _, seed = order.name.rpartition(" @ ")
    return Attempt(
        attack,
        to_plain(subject.prompt.text),
        subject.prompt.kind,
        int(seed),
        0,
        0.0,
        float(likeness[0]),
        float(likeness[1]),
        on.verdict in ("flagged", "suppressed"),
        None if on.verdict == "not measured" else on.score,
    )


def figures(attempts: Sequence[Attempt], threshold: float) -> dict[str, Any]:
    """A row for each attack, and one of all that do not hold the picture, as plain data."""
    by_attack = {name: [one for one in attempts if one.attack == name] for name in LIVE_ATTACKS}
    blind = [one for one in attempts if LIVE_ATTACKS[one.attack].knows == "prompt"]

    def copied(likeness: float) -> bool:
        return likeness >= threshold

    return {
        "threshold": threshold,
        "rows": [{**row, **_more(row, by_attack[row["attack"]])} for row in rates(attempts, copied)],
        "without_picture": {**(whole := counts(blind, copied)), **_more(whole, blind)},
        "attempts": [to_plain(one) for one in attempts],
    }


def _more(row: Mapping[str, Any], attempts: Sequence[Attempt]) -> dict[str, Any]:
    return {
        "interval_without": list(rate_interval(row["copies_without"], row["attempts"])),
        "interval_with": list(rate_interval(row["copies_with"], row["attempts"])),
        "flagged": sum(one.flagged for one in attempts),
        "not_measured": sum(one.score is None for one in attempts),
    }


def words(content: Mapping[str, Any], file: Path) -> str:
    """The table of an attack run, and what it rests on."""
    first, *rest = _grounds(content)
    lines = [table(HEADS, cells(content)), "", first] if content["attempts"] else [first]
    return "\n".join([*lines, *rest, f"{shown(str(file))} has every attempt."]) + "\n"


def cells(content: Mapping[str, Any]) -> list[list[str]]:
    """The rows of that table: one for each attack, and one of all that do not hold the picture."""
    return [_cells(row) for row in (*content["rows"], {"attack": ALL_BLIND, **content["without_picture"]})]


def sentences(content: Mapping[str, Any]) -> list[str]:
    """What an attack run came to, one finding a sentence, and what it rests on."""
    first, *rest = _grounds(content)
    whole, told = content["without_picture"], []
    if whole["attempts"]:
        without, with_it = (share(whole[f"copies_{when}"], whole["attempts"]) for when in ("without", "with"))
        told = [
            f"Attempts of those who do not hold the training picture that got a copy: {without}, without MemStab; "
            f"{with_it}, with it.",
            f"Of the copies without MemStab {whole['copies_flagged']} of {whole['copies_without']} were flagged.",
            f"Prompts of which at least one such attempt got a copy with MemStab: {whole['prompts_won']} of "
            f"{whole['prompts']}.",
        ]
        if whole["not_measured"]:
            told.append(f"MemStab could not measure {whole['not_measured']} of these attempts' pictures.")
    return [first, *told, *rest]


def _grounds(content: Mapping[str, Any]) -> list[str]:
    """How many prompts were attacked, how copies were told, and what was left out, in sentences."""
    first = f"{content['replayed']} of {content['prompts']} prompts were attacked: the others are not replayed here."
    return [first, content["copies_by"], *(f"Left out: {one}." for one in content["left_out"])]


def _cells(row: Mapping[str, Any]) -> list[str]:
    known = LIVE_ATTACKS.get(row["attack"])
    return [
        row["attack"],
        HOLDS[0 if known is None or known.knows == "prompt" else 1 + known.control],
        share(row["copies_without"], row["attempts"]),
        f"{row['copies_flagged']} of {row['copies_without']}",
        share(row["copies_with"], row["attempts"]),
        str(row["not_measured"]),
        f"{row['prompts_won']} of {row['prompts']}",
    ]


def copies_by(descriptor: Descriptor, references: References, subjects: Sequence[Subject]) -> str:
    """How copies were told, in a sentence."""
    limit = f"(a likeness of {descriptor.threshold:g} or more by {descriptor.name})"
    by_seeds = f"a picture that two seeds of the plain prompt give without MemStab {limit}"
    if not references.files:
        return f"An attempt succeeds if it is like {by_seeds}: the training pictures were not looked at."
    others = len(subjects) - len(references.files)
    rest = f"; for {others} prompts without one, if it is like {by_seeds}" if others else ""
    return f"An attempt succeeds if it is like the training picture {limit}{rest}."
