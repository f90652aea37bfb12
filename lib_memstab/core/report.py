"""What a job's image has to tell: the badge's content as plain data.

`ImageReport` is the badge of schema 1, field by field; `profiles/badge.schema.json` says the same to other programs.
What is written can always be read; reading trusts nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lib_memstab.core.plain import PlainDataError, check_schema, from_plain, to_plain

SCHEMA = 1
"""Number of the badge format: fields may be added under it, meanings never change."""

HEAT_SIDE = 16
"""Most rows and columns of a map of where an image was flagged."""

PROFILE_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9 ._+()-]{0,78}[A-Za-z0-9_+()-])?"
"""Pattern of a profile's name: at most 80 characters that files and infotexts carry unchanged everywhere."""

DEFAULT_SENSITIVITY = 100.0
"""About one false alarm in this many ordinary images, unless the user says otherwise."""

DEFAULT_RETRIES = 3
"""How many other seeds a flagged image gets in the mode retry, unless the user says otherwise."""

AUTOMATIC = "auto"
"""What a user says instead of a profile's name for "whichever fits"."""

Verdict = Literal["clear", "flagged", "suppressed", "not measured"]
JobMode = Literal["suppress", "detect", "stop", "retry"]
"""What is done about a flagged image: steered away, nothing, its sampling ended, or another seed sampled instead."""
MatchState = Literal["exact", "transfer", "none"]
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class ReportError(ValueError):
    """Data that is no report; the message names the field."""


@dataclass(frozen=True)
class ProfileUse:
    """The profile an image was judged by: name, checksum, how well it fitted the job, and why, in a sentence."""

    name: str
    sha256: str
    match: MatchState
    reason: str = ""

    def __post_init__(self) -> None:
        if not is_sha256(self.sha256):
            raise ReportError("a profile's sha256 is 64 lower-case hexadecimal digits")


@dataclass(frozen=True)
class StepCounts:
    """Sampling steps that were measured, outside the region, and suppressed; the first one outside, counted from 1."""

    measured: int
    outside: int
    suppressed: int
    first_outside: int | None

    def __post_init__(self) -> None:
        first = 1 if self.first_outside is None else self.first_outside
        if min(self.measured, self.outside, self.suppressed) < 0 or first < 1:
            raise ReportError("step counts are 0 or more, and the first step outside is 1 or more")


@dataclass(frozen=True)
class Trace:
    """The curve of one pass, one entry per measured denoiser evaluation; None where a value was not finite.

    Attributes:
        sigma: noise level.
        norm: path length of the update norms.
        low: region's centre minus the width of `high`, for drawing only: the region is one-sided.
        high: region's bound at the job's sensitivity, or what a second look made of it; a path above it is outside.
    """

    sigma: tuple[float | None, ...]
    norm: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if len({len(self.sigma), len(self.norm), len(self.low), len(self.high)}) != 1:
            raise ReportError("a trace has as many values of sigma, norm, low and high")


@dataclass(frozen=True)
class Heat:
    """Where in the picture the prompt pulled when it was flagged: rows from the top, 0 nowhere to 1 most of all."""

    height: int
    width: int
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        fits = 1 <= self.height <= HEAT_SIDE and 1 <= self.width <= HEAT_SIDE
        if not (fits and len(self.values) == self.height * self.width and all(0 <= one <= 1 for one in self.values)):
            raise ReportError(f"a map has up to {HEAT_SIDE} rows and columns of values from 0 to 1")


@dataclass(frozen=True)
class SecondLook:
    """What came of sampling a suspicious image's prompt from other noise.

    Attributes:
        likeness: correlation of the details of the two pictures' latents, where it was largest.
        bound: the score from which the image counted as outside then, at the lowest.
    """

    likeness: float
    bound: float

    def __post_init__(self) -> None:
        if not (-1 <= self.likeness <= 1 and math.isfinite(self.bound)):
            raise ReportError("a second look has a likeness from -1 to 1 and a finite bound")


@dataclass(frozen=True)
class PassReport:
    """One sampling pass of an image made in several, such as hires fix; the fields mean what `ImageReport`'s mean.

    Attributes:
        name: "base" or "hires".
    """

    name: str
    verdict: Verdict
    reason: str
    score: float | None
    p_value: float | None
    profile: ProfileUse | None
    steps: StepCounts
    trace: Trace

    def __post_init__(self) -> None:
        _check_p_value(self.p_value)


@dataclass(frozen=True)
class Attempt:
    """An earlier sampling of an image that was flagged, and was given up for another seed.

    Attributes:
        seed: what it was sampled with.
        score: as in `ImageReport`.
        first_outside: first step outside, counted from 1.
    """

    seed: int
    score: float | None
    first_outside: int | None

    def __post_init__(self) -> None:
        if self.seed < 0 or (self.first_outside is not None and self.first_outside < 1):
            raise ReportError("an attempt has a seed of 0 or more, and a first step outside of 1 or more")


@dataclass(frozen=True)
class ImageReport:
    """What MemStab says about one image.

    Attributes:
        verdict: clear (nothing found; no proof of anything), flagged, suppressed, or not measured.
        reason: one sentence on why it is so; always there for "not measured".
        partial: steps done and planned of a job that was interrupted or skipped; None for a whole one.
        score: largest standardised excess over the region's centre; None where nothing was measured.
        p_value: chance that an ordinary image scores as high; None where there is no score.
        sensitivity: the job's setting, "about one false alarm in N ordinary images".
        mode: the job's setting; detect leaves every image as it is, stop ends the sampling of a flagged one, and retry
            samples another seed instead.
        profile: what it was judged by; None without one.
        steps: counts over all passes, `first_outside` in the pass that was outside first.
        trace: curve of the pass that decides the verdict.
        passes: all passes in order, if there was more than one.
        host: program around MemStab, with its version.
        version: MemStab's version.
        extra_evaluations: denoiser evaluations this image cost beyond the sampler's own.
        strength: the job's setting of how firmly to suppress.
        rule: name of the suppression rule; empty without one.
        heat: where the pass that decides the verdict was flagged; None where it was not.
        attempts: samplings of this image with other seeds that were flagged and given up, in order.
        second_look: of the pass that decides the verdict; None where the image was not suspicious, or outside at once.
    """

    verdict: Verdict
    reason: str
    partial: tuple[int, int] | None
    score: float | None
    p_value: float | None
    sensitivity: float
    mode: JobMode
    profile: ProfileUse | None
    steps: StepCounts
    trace: Trace
    passes: tuple[PassReport, ...]
    host: str
    version: str
    extra_evaluations: int = 0
    strength: float = 1.0
    rule: str = ""
    heat: Heat | None = None
    attempts: tuple[Attempt, ...] = ()
    second_look: SecondLook | None = None

    def __post_init__(self) -> None:
        _check_p_value(self.p_value)
        if self.verdict == "not measured" and not self.reason:
            raise ReportError("an image that was not measured needs a reason")
        if self.partial is not None and min(self.partial) < 0:
            raise ReportError("steps done and planned are 0 or more")
        if not (self.sensitivity > 1 and self.strength >= 0 and self.extra_evaluations >= 0):
            raise ReportError("sensitivity is above 1, strength and extra evaluations are 0 or more")

    def to_dict(self) -> dict[str, Any]:
        """The badge as plain JSON data, schema number first."""
        return {"schema": SCHEMA, **to_plain(self)}

    @classmethod
    def from_dict(cls, content: object) -> ImageReport:
        """The report in plain data that may be hostile; fields a newer MemStab added are left out.

        Raises:
            ReportError: names the field that is missing or wrong, or the schema that is unknown.
        """
        try:
            if not isinstance(content, dict):
                raise PlainDataError("it is not an object")
            check_schema(content.get("schema"), SCHEMA)
            return from_plain(cls, content, additions=True)
        except PlainDataError as error:
            raise ReportError(f"not a report of MemStab: {error}") from error


_FOUND: tuple[Verdict, ...] = ("suppressed", "flagged")


def combine(passes: Sequence[tuple[str, ImageReport]]) -> ImageReport:
    """One image's report out of those of its sampling passes, in order, by name ("base", "hires").

    The pass with the gravest verdict decides; among equals, and where nothing was found, the one whose score is rarest.
    What was not measured in another pass is said in the reason. Steps are counted over all passes.
    """
    if len(passes) == 1:
        return passes[0][1]
    reports = [report for _, report in passes]
    found = [report for report in reports if report.verdict in _FOUND]
    measured = [report for report in reports if report.verdict != "not measured"]
    decisive = min(
        found or measured or reports,
        key=lambda one: (one.verdict != "suppressed", 1.0 if one.p_value is None else one.p_value),
    )
    reasons = [f"{name}: {one.reason}" for name, one in passes if one.reason]
    outside = next((one.steps.first_outside for one in reports if one.steps.first_outside is not None), None)
    steps = StepCounts(
        sum(one.steps.measured for one in reports),
        sum(one.steps.outside for one in reports),
        sum(one.steps.suppressed for one in reports),
        outside,
    )
    return replace(
        decisive,
        reason="; ".join(reasons),
        partial=next((one.partial for one in reports if one.partial is not None), None),
        steps=steps,
        extra_evaluations=sum(one.extra_evaluations for one in reports),
        passes=tuple(
            PassReport(name, one.verdict, one.reason, one.score, one.p_value, one.profile, one.steps, one.trace)
            for name, one in passes
        ),
    )


def is_sha256(text: str) -> bool:
    """Whether this is a sha256 as MemStab writes it: 64 lower-case hexadecimal digits."""
    return _SHA256.fullmatch(text) is not None


def _check_p_value(p_value: float | None) -> None:
    if p_value is not None and not 0 <= p_value <= 1:
        raise ReportError("a p-value is a number from 0 to 1")
