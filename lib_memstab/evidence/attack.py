"""MemStab attacked on the lab model: what is tried, resumed where it was left, and the rates that come of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib_memstab.cli import UseError
from lib_memstab.core.files import write_whole
from lib_memstab.core.monitor import Settings
from lib_memstab.core.plain import PlainDataError, from_plain, parse_object, to_plain
from lib_memstab.evidence import counting
from lib_memstab.evidence.live.names import ALL_BLIND
from lib_memstab.evidence.progress import Progress
from lib_memstab.lab import tables, truth
from lib_memstab.lab.attacks import ATTACKS, Effort
from lib_memstab.lab.attempt import Attempt
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.tools import load_tools, workers
from lib_memstab.lab.trials import Trial, memorized_trials

SEEDS_FROM = 170_000
"""First seed of an attempt."""

BLOCK = 16
"""Pictures that are sampled, and kept in the journal, at once."""

ALLOWED = 0.01
"""Largest share of successful attempts without the picture that is no finding."""

LOWER_BOUNDS = (50.0, 20.0, 10.0)
"""Sensitivities at which the copies that were not flagged are held against the bound once more."""


@dataclass(frozen=True)
class Plan:
    """How much is tried; the defaults are the short form.

    Attributes:
        split: whose memorized prompts, heavily and less heavily duplicated ones.
        prompts, seeds: how many of them, kinds in turn, and pictures of each.
        inverted: of how many of them the text is moved by gradient attacks.
        steps: gradient steps after which pictures are sampled.
        penalties: weights of MemStab's statistic in the loss of attackers who hide from it.
        sensitivity, strength: MemStab's settings.
    """

    split: str = "tuning"
    prompts: int = 4
    seeds: int = 1
    inverted: int = 2
    steps: tuple[int, ...] = (30,)
    penalties: tuple[float, ...] = (0.01,)
    sensitivity: float = Settings().sensitivity
    strength: float = Settings().strength

    def trials(self) -> list[list[Trial]]:
        """The trials of each memorized prompt, kinds in turn."""
        rows = memorized_trials(load_splits()[self.split], self.seeds, SEEDS_FROM, ("heavy", "medium"))
        every = [rows[start : start + self.seeds] for start in range(0, len(rows), self.seeds)]
        kinds: dict[str, list[list[Trial]]] = {}
        for own in every:
            assert own[0].pair is not None
            kinds.setdefault(own[0].pair.kind, []).append(own)
        longest = max(map(len, kinds.values()))
        turns = [group[place] for place in range(longest) for group in kinds.values() if place < len(group)]
        return turns[: self.prompts]


FULL = Plan(prompts=41, seeds=2, inverted=12, steps=(10, 30, 80, 160), penalties=(0.001, 0.003, 0.01, 0.03))
"""What `--full` tries."""


@dataclass(frozen=True)
class Unit:
    """What one process does at a time: an attack on some trials, under a key that the journal knows it by."""

    key: str
    attack: str
    trials: Sequence[Trial]


def units(plan: Plan, names: Sequence[str]) -> list[Unit]:
    """The attacks `names` cut into units, the gradient attacks, which take longest, first."""
    prompts = plan.trials()
    found = []
    for name in sorted(names, key=lambda name: not ATTACKS[name].gradient):
        if ATTACKS[name].gradient:
            parts = prompts[: plan.inverted]
        else:
            kinds = ATTACKS[name].kinds
            flat = [trial for own in prompts for trial in own if trial.pair is not None and trial.pair.kind in kinds]
            parts = [flat[start : start + BLOCK] for start in range(0, len(flat), BLOCK)]
        found += [Unit(f"{name} @ {part[0].seed}", name, part) for part in parts]
    return found


def attack_unit(unit: Unit, plan: Plan) -> list[Attempt]:
    """Make the attempts of a unit."""
    _, judge, regions = load_tools()
    settings = Settings("suppress", plan.sensitivity, plan.strength)
    effort = Effort(plan.steps, plan.penalties)
    return ATTACKS[unit.attack].run(judge, regions, unit.trials, settings, effort)


class Journal:
    """The attempts of finished units; the whole file is written anew after each, so that it is never half there.

    Raises:
        UseError: on construction, for a file that is no journal, or that of another plan.
    """

    def __init__(self, path: Path | None, plan: Plan) -> None:
        self._path, self._plan = path, to_plain(asdict(plan))
        self.units: dict[str, list[Attempt]] = {}
        if path is None or not path.exists():
            return
        try:
            content = parse_object(path.read_bytes())
            self.units = {key: [from_plain(Attempt, row) for row in rows] for key, rows in content["units"].items()}
            same = content["plan"] == self._plan
        except (OSError, PlainDataError, KeyError, TypeError, AttributeError) as error:
            raise UseError(f"{path} is no journal of attacks ({error}): move it, or name another --out") from error
        if not same:
            raise UseError(f"{path} is of a run with other settings: give those, move it, or name another --out")

    def add(self, key: str, attempts: list[Attempt]) -> None:
        """Keep what a unit came to."""
        self.units[key] = attempts
        if self._path is not None:
            content = {"plan": self._plan, "units": {one: to_plain(rows) for one, rows in self.units.items()}}
            write_whole(self._path, json.dumps(content, indent=0).encode("ascii"))


def attack(
    plan: Plan, names: Sequence[str], journal: Journal, jobs: int, progress: Progress = lambda done, total: None
) -> list[Attempt]:
    """Make all attempts that the journal does not have yet; all of them, in the order of `names`."""
    wanted = units(plan, names)
    missing = [unit for unit in wanted if unit.key not in journal.units]
    progress(len(wanted) - len(missing), len(wanted))
    if missing:
        with workers(jobs) as pool:
            waiting = {pool.submit(attack_unit, unit, plan): unit for unit in missing}
            try:
                for done, future in enumerate(as_completed(waiting), start=1):
                    journal.add(waiting[future].key, future.result())
                    progress(len(wanted) - len(missing) + done, len(wanted))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    order = sorted(wanted, key=lambda unit: list(names).index(unit.attack))
    return [attempt for unit in order for attempt in journal.units[unit.key]]


def is_copy(likeness: float) -> bool:
    """Whether a picture of the lab model is a copy, by its latent's likeness to the training picture."""
    return likeness > truth.COPY_THRESHOLD


def rates(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """A row for each attack, effort and penalty; see `counting.rates`."""
    return counting.rates(attempts, is_copy)


def overall(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """The row of all attempts of attackers who do not have the picture."""
    own = [one for one in attempts if ATTACKS[one.attack].knows == "prompt"]
    return {"attack": ALL_BLIND, "effort": 0, "penalty": 0.0, **counting.counts(own, is_copy)}


def markdown(attempts: Sequence[Attempt]) -> str:
    """The table of an attack run."""
    head = [
        "attack",
        "holds the picture",
        "gradient steps",
        "penalty",
        "copies without MemStab",
        "of these flagged",
        "copies with MemStab",
        "prompts won",
    ]
    rows = [*_cells(rates(attempts)), *_cells([overall(attempts)])]
    return f"{tables.table(head, rows)}\n\n{_missed(attempts)}"


def _missed(attempts: Sequence[Attempt]) -> str:
    """How many of the copies that were not flagged a lower bound would have flagged."""
    regions = load_tools()[2]
    missed = [one for one in attempts if is_copy(one.without) and not one.flagged]
    found = {
        rate: sum(
            one.score is not None and one.score > regions[ATTACKS[one.attack].mode].threshold(rate) for one in missed
        )
        for rate in LOWER_BOUNDS
    }
    told = ", ".join(f"{count} at 1 in {rate:g}" for rate, count in found.items())
    return f"Copies that were not flagged: {len(missed)}. With one false alarm in fewer pictures would be: {told}."


def _cells(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for row in rows:
        known = ATTACKS.get(row["attack"])
        yield [
            row["attack"],
            "no" if known is None or known.knows == "prompt" else "control" if known.control else "yes",
            str(row["effort"] or "-"),
            f"{row['penalty']:g}" if row["penalty"] else "-",
            tables.share(row["copies_without"], row["attempts"]),
            f"{row['copies_flagged']} of {row['copies_without']}",
            tables.share(row["copies_with"], row["attempts"]),
            f"{row['prompts_won']} of {row['prompts']}",
        ]
