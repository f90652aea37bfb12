"""What a verification asks for: prompts, seeds and settings, and where the pictures come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from lib_memstab.core.report import DEFAULT_SENSITIVITY, ImageReport
from lib_memstab.evidence.prompt_lists import ListedPrompt, PromptList

Group = Literal["memorized", "ordinary"]
Mode = Literal["off", "detect", "suppress"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

MOST_SEEDS: Final = 1000
FIRST_SEED: Final[dict[Group, int]] = {"memorized": 1, "ordinary": 2_000_000_001}
"""Seed of the first picture of each group; every prompt has `MOST_SEEDS` of its own, so none is sampled twice."""


@dataclass(frozen=True)
class Sampling:
    """How every picture is sampled; names as the host writes them."""

    sampler: str = "Euler"
    scheduler: str = ""
    steps: int = 20
    guidance: float = 7.5
    width: int = 512
    height: int = 512
    sensitivity: float = DEFAULT_SENSITIVITY


@dataclass(frozen=True)
class Subject:
    """One prompt under test: its group, its kind as its list has it, where it stands, and its own number from 0."""

    number: int
    group: Group
    prompt: ListedPrompt
    source: str
    place: int

    def seeds(self, count: int) -> list[int]:
        """Seeds of its pictures."""
        first = FIRST_SEED[self.group] + MOST_SEEDS * self.place
        return list(range(first, first + count))


@dataclass(frozen=True)
class Shot:
    """One prompt with one seed."""

    subject: Subject
    seed: int


@dataclass(frozen=True)
class Taken:
    """One picture: pixels [H, W, 3], its badge (None where MemStab was off), and seconds it took."""

    pixels: NDArray[np.uint8]
    report: ImageReport | None
    seconds: float


class SourceError(RuntimeError):
    """Pictures that cannot be had; the message says what to do."""


class Source(Protocol):
    """Where the pictures come from.

    Attributes:
        batch: pictures it takes at once.
    """

    batch: int

    def facts(self) -> dict[str, str]:
        """Checkpoint, host and versions: what must be the same when a run goes on."""

    def check(self, prompts: Sequence[str]) -> None:
        """SourceError if these prompts cannot be sampled as they stand."""

    def take(self, prompts: Sequence[str], seeds: Sequence[int], mode: Mode) -> list[Taken]:
        """A picture of each prompt with its seed; SourceError if there is none to be had."""


def subjects_of(memorized: Sequence[PromptList], ordinary: Sequence[PromptList], limit: int | None) -> list[Subject]:
    """The first `limit` prompts of every list; a prompt in two lists of a group counts once."""
    found: list[Subject] = []
    groups: tuple[tuple[Group, Sequence[PromptList]], ...] = (("memorized", memorized), ("ordinary", ordinary))
    for group, lists in groups:
        seen: set[str] = set()
        for one in lists:
            for prompt in one.prompts[:limit]:
                if prompt.text not in seen:
                    found.append(Subject(len(found), group, prompt, one.name, len(seen)))
                    seen.add(prompt.text)
    return found


def shots_of(subjects: Sequence[Subject], seeds: int) -> list[Shot]:
    """Every prompt with every seed, prompt by prompt."""
    return [Shot(subject, seed) for subject in subjects for seed in subject.seeds(seeds)]


def settings_of(
    lists: Sequence[tuple[Group, PromptList]],
    limit: int | None,
    seeds: int,
    sampling: Sampling,
    facts: dict[str, str],
    comparison: str,
    references: str,
) -> dict[str, Any]:
    """All that a run and its resumption must have in common, as plain data."""
    return {
        "lists": [f"{group}: {one.name}, sha256 {one.sha256}" for group, one in lists],
        "limit": limit,
        "seeds": seeds,
        **asdict(sampling),
        **facts,
        "comparison": comparison,
        "references": references,
    }
