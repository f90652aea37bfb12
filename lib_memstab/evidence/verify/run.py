"""A verification: every prompt and seed without MemStab, in detect and in suppress mode, each picture kept at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib_memstab.core.report import ImageReport
from lib_memstab.evidence.descriptors import Descriptor
from lib_memstab.evidence.journal import packed
from lib_memstab.evidence.verify.journal import Entry, Journal
from lib_memstab.evidence.verify.plan import MODES, Mode, Shot, Source, Taken

Progress = Callable[[int], None]
"""Called with the number of pictures that were made."""


def take_all(
    shots: Sequence[Shot],
    source: Source,
    journal: Journal,
    descriptor: Descriptor,
    references: Mapping[int, NDArray[Any]],
    progress: Progress = lambda made: None,
) -> None:
    """Make every picture that the journal does not have; what was made stays there whatever ends this.

    Batches are cut the same way however often a run is taken up again, so that a picture's batch is the same too.

    Args:
        references: descriptor [D] of the training picture of each subject that has one, by the subject's number.

    Raises:
        SourceError: if a picture cannot be had.
        OSError: if it cannot be kept.
    """
    for start in range(0, len(shots), source.batch):
        part = shots[start : start + source.batch]
        for mode in MODES:
            wanted = [(shot.subject.number, shot.seed, mode) not in journal.done for shot in part]
            if not any(wanted):
                continue
            taken = source.take([shot.subject.prompt.text for shot in part], [shot.seed for shot in part], mode)
            for shot, one, needed in zip(part, taken, wanted, strict=True):
                if needed:
                    journal.add(_entry(shot, mode, one, descriptor, references.get(shot.subject.number)))
            progress(sum(wanted))


def excesses(report: ImageReport) -> tuple[float | None, ...]:
    """How far outside the path was at each evaluation, out of the badge's curve; None where that was not finite.

    In shares of the way from the region's centre to the bound that the evaluation was held against: 0 at the centre,
    above 1 it was outside. The bound is the one at the job's sensitivity, or what a second look made of it.
    """
    return tuple(map(_share, report.trace.norm, report.trace.low, report.trace.high))


def _share(norm: float | None, low: float | None, high: float | None) -> float | None:
    if norm is None or low is None or high is None or not 0 < low < high or not norm > 0:
        return None
    return (2 * math.log(norm) - math.log(low) - math.log(high)) / (math.log(high) - math.log(low))


def _entry(shot: Shot, mode: Mode, taken: Taken, descriptor: Descriptor, reference: NDArray[Any] | None) -> Entry:
    """What is kept of a picture; in detect mode it is the one without MemStab, and is not described twice."""
    report, described, likeness = taken.report, "", None
    if mode != "detect":
        found = descriptor.describe(taken.pixels[None])
        if reference is None:
            described = packed(found[0])
        else:
            likeness = float(descriptor.similarity(found, reference[None])[0, 0])
    told = excesses(report) if report is not None else ()
    return Entry(
        subject=shot.subject.number,
        seed=shot.seed,
        mode=mode,
        pixels=hashlib.sha256(
            repr(taken.pixels.shape).encode() + np.ascontiguousarray(taken.pixels).tobytes()
        ).hexdigest(),
        seconds=taken.seconds,
        verdict="" if report is None else report.verdict,
        reason="" if report is None else report.reason,
        score=None if report is None else report.score,
        p_value=None if report is None else report.p_value,
        first_outside=None if report is None else report.steps.first_outside,
        extra=0 if report is None else report.extra_evaluations,
        excess=told,
        whole=report is not None and report.steps.measured == len(told) > 0 and None not in told,
        profile="" if report is None or report.profile is None else report.profile.name,
        match="" if report is None or report.profile is None else report.profile.match,
        reference=likeness,
        descriptor=described,
        alike=None if report is None or report.second_look is None else report.second_look.likeness,
    )
