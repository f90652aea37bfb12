"""From what was found of an image to its report: verdict, reason, counts, curve and map as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from lib_memstab.core.region import Region
from lib_memstab.core.report import Heat, ImageReport, SecondLook, StepCounts, Trace, Verdict
from lib_memstab.core.second_look import NO_LOOK


class Found(NamedTuple):
    """What a job found of one image, as it comes from the device: all numbers, also the last two.

    Attributes:
        score, measured, outside, first_outside, broken, late: see `core.detection.Detector`.
        suppressed, extra: evaluations that were changed, and those that were added.
        likeness, lowest: largest likeness to a second look (`NO_LOOK`: it had none), and the lowest bound for it.
    """

    score: float
    measured: float
    outside: float
    first_outside: float
    suppressed: float
    extra: float
    likeness: float
    lowest: float
    broken: float
    late: float


def told(
    common: ImageReport,
    found: Found,
    curve: Sequence[Sequence[float]],
    pull: Tensor,
    evaluations: int,
    region: Region,
) -> ImageReport:
    """An image's report.

    Args:
        common: what the reports of the job's images have in common.
        curve: sigma, path length, low and high bound at every evaluation, [4, evaluations].
        pull: where the prompt pulled when the image was flagged, [h, w].
        evaluations: of the job.
    """
    reason = ""
    if found.broken:
        reason = "the latent held values that are not finite"
    elif found.measured == 0:
        reason = "no evaluation had separate predictions with and without the prompt"
    elif found.late:
        reason = "the first evaluations had no separate predictions with and without the prompt"
    elif found.measured < evaluations:
        reason = f"{int(found.measured)} of {evaluations} evaluations could be measured"
    verdict: Verdict = "clear"
    if found.broken or found.measured == 0 or found.late:
        verdict = "not measured"
    elif found.outside:
        verdict = "suppressed" if found.suppressed else "flagged"
    known = verdict != "not measured"
    first = int(found.first_outside) + 1 if found.outside else None
    looked = known and found.likeness > NO_LOOK
    return replace(
        common,
        verdict=verdict,
        reason=reason,
        score=found.score if known else None,
        p_value=float(region.p_value(found.score)) if known else None,
        steps=StepCounts(int(found.measured), int(found.outside), int(found.suppressed), first),
        trace=Trace(*(tuple(value if math.isfinite(value) else None for value in line) for line in curve)),
        extra_evaluations=int(found.extra),
        heat=_heat_of(pull) if verdict in ("flagged", "suppressed") else None,
        second_look=SecondLook(min(max(found.likeness, -1.0), 1.0), found.lowest) if looked else None,
    )


def _heat_of(pull: Tensor) -> Heat | None:
    """What `monitor.heat` [h, w] found, as plain data; None where it is not finite."""
    peak = float(pull.max())
    if not 0 < peak < math.inf:
        return None
    height, width = pull.shape
    return Heat(height, width, tuple(round(value, 2) for value in (pull / peak).flatten().tolist()))
