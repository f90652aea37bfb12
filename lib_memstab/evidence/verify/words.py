"""A verification in sentences: how copies were told, and what came of it, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from lib_memstab.evidence.descriptors import Descriptor
from lib_memstab.evidence.verify.figures import contradicts
from lib_memstab.evidence.verify.plan import Subject
from lib_memstab.evidence.verify.report import rate


def told_by(descriptor: Descriptor, references: Mapping[int, NDArray[Any]], subjects: Sequence[Subject]) -> str:
    """How copies were told, in sentences."""
    memorized = sum(subject.group == "memorized" for subject in subjects)
    limit = f"(a likeness of {descriptor.threshold:g} or more by {descriptor.name})"
    by_seeds = (
        f"a picture counts as a copy if another seed of its prompt gives nearly the same one {limit}, and a suppressed "
        "picture also if it is nearly the same as one of those: the training pictures were not looked at"
    )
    if len(references) >= memorized:
        told = f"A picture of a memorized prompt counts as a copy if it is like its training picture {limit}."
        return f"{told} Of ordinary prompts, {by_seeds}."
    if references:
        told = f"{len(references)} of {memorized} memorized prompts have a training picture to be held to {limit}"
        return f"{told}. Of all others, {by_seeds}."
    return f"{by_seeds[:1].upper()}{by_seeds[1:]}."


def sentences(figures: Mapping[str, Any], sensitivity: float) -> list[str]:
    """What the figures of a verification say, one finding a sentence; the findings against the claims come last."""
    flagged, copies = figures["flagged"], figures["memorization"]["all"]
    told = [f"Of the memorized prompts' pictures {rate(flagged['all'])}, were flagged."] if flagged["all"]["of"] else []
    if flagged["ordinary"]["of"]:
        told.append(
            f"Of the ordinary prompts' pictures {rate(flagged['ordinary'])}, were flagged; about 1 in {sensitivity:g} "
            "was asked for."
        )
    ranked = figures["detection"]["all"]["all"]
    if ranked is not None:
        low, high = ranked["auc_interval"]
        told.append(
            f"A memorized prompt's picture stands out more than an ordinary one's in {100 * ranked['auc']:.1f} % "
            f"[{100 * low:.1f}, {100 * high:.1f}] of all pairs (AUC): 100 is always, 50 is chance."
        )
    if copies["before"]["of"]:
        told.append(
            f"Copies among the memorized prompts' pictures: {rate(copies['before'])}, without MemStab; "
            f"{rate(copies['after'])}, with suppression."
        )
    same, clear = figures["identical"]["ordinary"]["suppress mode, not flagged"]
    if clear:
        told.append(f"Ordinary pictures that were not flagged and are the same, pixel by pixel: {same} of {clear}.")
    if figures["not measured"]:
        told.append(f"{figures['not measured']} pictures could not be measured: nothing is known about them.")
    return [*told, *(f"Against the claims: {one}." for one in contradicts(figures))]
