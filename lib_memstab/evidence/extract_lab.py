"""Extraction held against the truth: on the lab model it is known which pictures are copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib_memstab.core.monitor import Settings
from lib_memstab.core.suppression import Windows
from lib_memstab.evidence.extraction import CLIQUE, FloatArray, chosen_distance, judge, tightest
from lib_memstab.evidence.similarity import Pictures, thumbnails, tiled_distance
from lib_memstab.lab import tables, truth
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.figures import Judge, detect, suppress
from lib_memstab.lab.pictures import to_pictures
from lib_memstab.lab.tools import load_tools, workers
from lib_memstab.lab.trials import MAIN, Trial, memorized_trials

SEEDS_FROM = 300_000
"""First seed of a picture."""

KINDS = ("title", "caption", "template", "light", "ordinary", "hard")
"""Kinds of prompts: memorized ones, those duplicated too little to be replayed, and those without a picture."""


@dataclass(frozen=True)
class Plan:
    """How much is sampled; the defaults are the short form.

    Attributes:
        split: whose prompts.
        prompts: of each of six kinds.
        seeds: pictures of each prompt.
        clique: pictures that have to be near-duplicates of each other.
        distance: below which two are; None to choose it on every second prompt.
        sensitivity, strength: MemStab's settings.
    """

    split: str = "tuning"
    prompts: int = 5
    seeds: int = 6
    clique: int = CLIQUE
    distance: float | None = None
    sensitivity: float = Settings().sensitivity
    strength: float = Settings().strength

    def trials(self) -> list[tuple[str, list[Trial]]]:
        """The trials of each prompt, with its kind."""
        split = load_splits()[self.split]
        found: list[tuple[str, list[Trial]]] = []
        memorized = memorized_trials(split, 1, 0)
        kinds: dict[str, list[Trial]] = {kind: [] for kind in KINDS}
        for trial in memorized:
            assert trial.pair is not None
            kinds["light" if trial.pair.rate == "light" else trial.pair.kind].append(trial)
        kinds["ordinary"] = [Trial(row["text"], row["claims"], 0) for row in split["ordinary"]]
        hard = zip(*(split["hard"][name] for name in ("fresh", "once", "never")), strict=False)
        kinds["hard"] = [Trial(text, {}, 0) for several in hard for text in several]
        for kind, trials in kinds.items():
            for trial in trials[: self.prompts]:
                first = SEEDS_FROM + len(found) * self.seeds
                found.append((kind, [replace(trial, seed=first + index) for index in range(self.seeds)]))
        return found


@dataclass(frozen=True)
class Sampled:
    """One prompt's pictures, without MemStab and with it: distances [N, N], and which are copies of one picture, [N].

    `copied` is the place of the training picture that each is a copy of, -1 for none.
    """

    kind: str
    prompt: str
    distances: tuple[FloatArray, FloatArray]
    copied: tuple[NDArray[np.int64], NDArray[np.int64]]


def sample_prompt(own: tuple[str, Sequence[Trial]], plan: Plan) -> Sampled:
    """Sample one prompt at its seeds, without suppression and with it."""
    model, judge_, regions = load_tools()
    kind, trials = own
    settings = Settings("suppress", plan.sensitivity, plan.strength)
    region = regions[MAIN.mode]
    watched = suppress(model, MAIN, detect(model, MAIN, trials, region, settings), region, settings, Windows.name)
    pictures = [_shown(judge_, latents) for latents in (watched.plain.latents, watched.after)]
    one, other = (tiled_distance(some, some) for some in pictures)
    before, after = (_copies(judge_, latents) for latents in (watched.plain.latents, watched.after))
    return Sampled(kind, trials[0].text, (one, other), (before, after))


@torch.no_grad()
def _shown(judge: Judge, latents: Tensor) -> Pictures:
    return thumbnails(np.stack([np.asarray(one) for one in to_pictures(judge.model.decode(latents))]))


def _copies(judge: Judge, latents: Tensor) -> NDArray[np.int64]:
    likeness = truth.similarity(latents, judge.references, judge.masks)
    best, place = likeness.max(dim=1)
    found: NDArray[np.int64] = torch.where(best > truth.COPY_THRESHOLD, place, -1).numpy()
    return found


def measure(plan: Plan, jobs: int, progress: Any = None) -> dict[str, Any]:
    """All figures, as plain data."""
    trials = plan.trials()
    sampled: list[Sampled] = []
    with workers(jobs) as pool:
        for one in pool.map(partial(sample_prompt, plan=plan), trials):
            sampled.append(one)
            if progress is not None:
                progress(len(sampled), len(trials))
    return figures(sampled, plan)


def figures(sampled: Sequence[Sampled], plan: Plan) -> dict[str, Any]:
    """Distance, and what the attack finds of what there is, before and after suppression."""
    distance = plan.distance
    if distance is None:
        # Kinds stand one after the other, so every second prompt is of every kind.
        half = sampled[::2]
        levels = {
            replayed: [_tightest(one, plan) for one in half if _replayed(one, 0, plan) == replayed]
            for replayed in (True, False)
        }
        distance = chosen_distance(levels[True], levels[False])
    return {
        "split": plan.split,
        "seeds": plan.seeds,
        "clique": plan.clique,
        "distance": distance,
        "chosen": plan.distance is None,
        "rows": [
            {"suppression": name, **_found(sampled, place, plan, distance)}
            for place, name in enumerate(("without", "with MemStab"))
        ],
        "prompts": [
            {
                "kind": one.kind,
                "prompt": one.prompt,
                "replayed": [_replayed(one, place, plan) for place in (0, 1)],
                "tightest": [tightest(distances, plan.clique) for distances in one.distances],
                "clique": [len(judge(distances, distance, plan.clique).clique) for distances in one.distances],
            }
            for one in sampled
        ],
    }


def _tightest(one: Sampled, plan: Plan) -> float:
    return tightest(one.distances[0], plan.clique)


def _replayed(one: Sampled, place: int, plan: Plan) -> bool:
    """The truth: as many pictures as a clique needs are copies of one training picture."""
    copied = one.copied[place]
    return bool((np.bincount(copied[copied >= 0], minlength=1) >= plan.clique).any())


def _found(sampled: Sequence[Sampled], place: int, plan: Plan, distance: float) -> dict[str, Any]:
    true = [_replayed(one, place, plan) for one in sampled]
    found = [judge(one.distances[place], distance, plan.clique).memorized for one in sampled]
    kinds = {
        kind: [
            sum(hit for hit, one in zip(found, sampled, strict=True) if one.kind == kind),
            sum(real for real, one in zip(true, sampled, strict=True) if one.kind == kind),
            sum(one.kind == kind for one in sampled),
        ]
        for kind in KINDS
    }
    right = sum(hit and real for hit, real in zip(found, true, strict=True))
    return {"found": sum(found), "replayed": sum(true), "right": right, "prompts": len(sampled), "kinds": kinds}


def markdown(result: dict[str, Any]) -> str:
    """The table: how much of what was found is right, and how much of what there is was found."""
    head = ["suppression", "prompts replayed", "found", "precision", "recall", *(f"{kind}: found" for kind in KINDS)]
    rows = [
        [
            row["suppression"],
            f"{row['replayed']} of {row['prompts']}",
            str(row["found"]),
            tables.share(row["right"], row["found"]),
            tables.share(row["right"], row["replayed"]),
            *(f"{hits} of {total}" for hits, _, total in row["kinds"].values()),
        ]
        for row in result["rows"]
    ]
    how = "chosen on every second prompt" if result["chosen"] else "given"
    note = (
        f"{result['seeds']} pictures of each prompt of the {result['split']} split; near-duplicates are closer than "
        f"{result['distance']:.3f} ({how}), and a prompt counts with {result['clique']} or more of them."
    )
    return f"{tables.table(head, rows)}\n\n{note}"
