"""The figures of a verification: detection, memorization before and after, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from lib_memstab.evidence.similarity import FloatArray
from lib_memstab.evidence.verify.outcomes import FIRST, Shown
from lib_memstab.evidence.verify.plan import MODES, Group
from lib_memstab.lab.statistics import auc, rate_interval, tpr_at_fpr

ROUNDS: Final = 1000
UNSTATED: Final = "kind not stated"

Clusters = list[FloatArray]
"""One array for each prompt: the values of its seeds."""


def figures(rows: Sequence[Shown]) -> dict[str, Any]:
    """All figures as plain data; intervals are of 95 % and resample prompts, not pictures."""
    by_group: dict[Group, list[Shown]] = {
        group: [row for row in rows if row.subject.group == group] for group in ("memorized", "ordinary")
    }
    kinds = {"all": by_group["memorized"], **_by_kind(by_group["memorized"])}
    known = [row for row in by_group["memorized"] if row.copied is not None]
    if known:
        kinds["replayed without MemStab"] = [row for row in known if row.copied and row.copied[0]]
    return {
        "detection": {
            kind: {name: _ranking(chosen, by_group["ordinary"], name) for _, name in FIRST}
            for kind, chosen in kinds.items()
        },
        "flagged": {
            **{kind: _rate(chosen, lambda row: row.verdict == "flagged") for kind, chosen in kinds.items()},
            "ordinary": _rate(by_group["ordinary"], lambda row: row.verdict == "flagged"),
        },
        "memorization": {
            kind: {
                "before": _rate(_known(chosen), lambda row: row.copied is not None and row.copied[0]),
                "after": _rate(_known(chosen), lambda row: row.copied is not None and row.copied[1]),
                "after, of those before": _rate(
                    [row for row in _known(chosen) if row.copied and row.copied[0]],
                    lambda row: row.copied is not None and row.copied[1],
                ),
            }
            for kind, chosen in {**kinds, "ordinary": by_group["ordinary"]}.items()
            if kind != "replayed without MemStab"
        },
        "identical": {
            group: {
                "detect mode": _count(chosen, lambda row: row.identical[0]),
                "suppress mode, not flagged": _count(
                    [row for row in chosen if row.suppressed == "clear"], lambda row: row.identical[1]
                ),
                "suppress mode, not measured": _count(
                    [row for row in chosen if row.suppressed == "not measured"], lambda row: row.identical[1]
                ),
            }
            for group, chosen in by_group.items()
        },
        "seconds": {mode: _seconds([row.seconds[place] for row in rows]) for place, mode in enumerate(MODES)},
        "extra evaluations of a suppressed picture": _mean(
            [row.after.extra for row in rows if row.suppressed == "suppressed"]
        ),
        "not measured": sum(row.verdict == "not measured" for row in rows),
        "without figures of the first evaluations": sum(
            not row.score and row.verdict != "not measured" for row in rows
        ),
        "profiles": sorted({f"{row.detected.profile} ({row.detected.match})" for row in rows if row.detected.profile}),
    }


def contradicts(found: Mapping[str, Any]) -> list[str]:
    """What in the figures speaks against the claims, in words: it is the command's finding."""
    told = []
    for group, counts in found["identical"].items():
        told += [
            f"{total - same} {group} pictures are not pixel-identical ({what})"
            for what, (same, total) in counts.items()
            if same != total
        ]
    after = found["memorization"]["all"]["after"]
    if after["hits"]:
        told.append(f"{after['hits']} of {after['of']} memorized pictures are copies after suppression")
    return told


def _by_kind(rows: Sequence[Shown]) -> dict[str, list[Shown]]:
    kinds: dict[str, list[Shown]] = {}
    for row in rows:
        kinds.setdefault(row.subject.prompt.kind or UNSTATED, []).append(row)
    return dict(sorted(kinds.items())) if len(kinds) > 1 or UNSTATED not in kinds else {}


def _known(rows: Sequence[Shown]) -> list[Shown]:
    return [row for row in rows if row.copied is not None]


def _ranking(positive: Sequence[Shown], negative: Sequence[Shown], name: str) -> dict[str, Any] | None:
    """AUC and rates of memorized against ordinary pictures; None where one of them is missing."""
    mine, theirs = _clusters(positive, name), _clusters(negative, name)
    if not mine or not theirs:
        return None
    tpr = {rate: (lambda a, b, r=rate: tpr_at_fpr(a, b, r)) for rate in (0.01, 0.03)}
    return {
        "prompts": [len(mine), len(theirs)],
        "pictures": [sum(map(len, mine)), sum(map(len, theirs))],
        **_with_interval("auc", auc, mine, theirs),
        **_with_interval("tpr_at_1", tpr[0.01], mine, theirs),
        **_with_interval("tpr_at_3", tpr[0.03], mine, theirs),
    }


def _with_interval(
    name: str, figure: Callable[[FloatArray, FloatArray], float], mine: Clusters, theirs: Clusters
) -> dict[str, Any]:
    return {
        name: figure(np.concatenate(mine), np.concatenate(theirs)),
        f"{name}_interval": clustered_bootstrap(figure, mine, theirs),
    }


def clustered_bootstrap(
    figure: Callable[..., float], *groups: Clusters, rounds: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a figure of groups of prompts, prompts resampled `ROUNDS` times with all their seeds.

    Seeds of one prompt tell much the same: resampling pictures one by one would make the interval too narrow.
    """
    rng = np.random.default_rng(seed)
    values = [
        figure(
            *(np.concatenate([group[index] for index in rng.integers(0, len(group), len(group))]) for group in groups)
        )
        for _ in range(rounds or ROUNDS)
    ]
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def _clusters(rows: Sequence[Shown], name: str) -> Clusters:
    found: dict[int, list[float]] = {}
    for row in rows:
        if name in row.score:
            found.setdefault(row.subject.number, []).append(row.score[name])
    return [np.array(values) for values in found.values()]


def _rate(rows: Sequence[Shown], is_so: Callable[[Shown], bool]) -> dict[str, Any]:
    """A share of pictures with its interval.

    Where no picture or every one is so, resampling knows no spread: the interval is that of as many prompts.
    """
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(row.subject.number, []).append(float(is_so(row)))
    hits = int(sum(map(sum, found.values())))
    if hits in (0, len(rows)):
        interval = rate_interval(len(found) if hits else 0, len(found))
    else:
        interval = clustered_bootstrap(np.mean, [np.array(values) for values in found.values()])
    return {
        "hits": hits,
        "of": len(rows),
        "prompts": len(found),
        "rate": hits / len(rows) if rows else None,
        "interval": [float(end) for end in interval],
    }


def _count(rows: Sequence[Shown], is_so: Callable[[Shown], bool]) -> list[int]:
    return [sum(map(is_so, rows)), len(rows)]


def _seconds(values: Sequence[float]) -> dict[str, float] | None:
    return {"mean": float(np.mean(values)), "median": float(np.median(values))} if values else None


def _mean(values: Sequence[int]) -> float | None:
    return float(np.mean(values)) if values else None
