"""The badge of an image: its report as infotext, as PNG text chunk, and in words.

Infotext has two keys, whose values the WebUI neither quotes nor splits: no comma, colon, quotation mark or line break.

    MemStab          settings: MODE SENSITIVITY "strength" STRENGTH ["retries" RETRIES] ["profile" NAME]
    MemStab verdict  VERDICT ["p=" P | "p<0.0001"] ["score" SCORE] ["from step" STEP] ["alike" LIKENESS]
                     ["transfer"] ["partial" DONE "of" PLANNED] ["-" REASON]
                     for a grid: COUNT VERDICT {"/" COUNT VERDICT}

    MODE         suppress, detect, stop or retry
    SENSITIVITY  number above 1: about one false alarm in so many ordinary images
    STRENGTH     number, 0 or more
    RETRIES      whole number, 1 or more; without it the default
    NAME         the profile a user chose, up to the end; without it the profile is chosen automatically
    VERDICT      clear, flagged, suppressed or not measured; REASON stands with "not measured" only
    STEP         first step outside the region, counted from 1
    LIKENESS     number from -1 to 1, two digits: how like the second look's picture it was; flagged and suppressed only

The first value restores the settings exactly; the second is for people, and a program may rely on how it begins. Both
survive in JPEG, WebP and AVIF. A PNG also has the whole report: a text chunk `memstab`, JSON in ASCII.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from PIL.PngImagePlugin import PngInfo

from lib_memstab import metadata
from lib_memstab.core.plain import PlainDataError, parse_object
from lib_memstab.core.report import (
    AUTOMATIC,
    DEFAULT_RETRIES,
    DEFAULT_SENSITIVITY,
    PROFILE_NAME,
    ImageReport,
    JobMode,
    ReportError,
    Verdict,
)

CHUNK = metadata.BADGE
"""Keyword of the PNG text chunk."""

SETTINGS_KEY = "MemStab"
VERDICT_KEY = "MemStab verdict"
KEYS = (SETTINGS_KEY, VERDICT_KEY)
"""Of the entries in an infotext."""

MAX_CHUNK = 1 << 20
"""Longest chunk that is read, in characters."""

_SMALLEST_P = 1e-4
_MAX_REASON = 120
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_SETTINGS = re.compile(
    rf"({'|'.join(get_args(JobMode))}) ({_NUMBER}) strength ({_NUMBER})(?: retries ([1-9][0-9]{{0,3}}))?"
    rf"(?: profile ({PROFILE_NAME}))?"
)
_VERDICT = re.compile(
    rf"({'|'.join(get_args(Verdict))})(?: p[=<]({_NUMBER}))?(?: score (-?{_NUMBER}))?(?: from step ([0-9]{{1,9}}))?"
    rf"(?: alike (-?{_NUMBER}))?"
    r"( transfer)?(?: partial ([0-9]{1,9}) of ([0-9]{1,9}))?(?: - (.*))?"
)
_COUNT = re.compile(rf"([0-9]{{1,9}}) ({'|'.join(get_args(Verdict))})")


class BadgeError(ValueError):
    """A badge that cannot be read or written; the message says what is wrong with it."""


@dataclass(frozen=True)
class JobSettings:
    """What a user chose for a job, as an infotext carries it.

    Attributes:
        mode: what is done about a flagged image.
        sensitivity: above 1; about one false alarm in so many ordinary images.
        strength: 0 or more; how firmly to suppress.
        profile: a profile's name, or `AUTOMATIC`.
        retries: 1 or more; in the mode retry, how many other seeds an image gets.
    """

    mode: JobMode = "suppress"
    sensitivity: float = DEFAULT_SENSITIVITY
    strength: float = 1.0
    profile: str = AUTOMATIC
    retries: int = DEFAULT_RETRIES

    def __post_init__(self) -> None:
        if not (1 < self.sensitivity < float("inf") and 0 <= self.strength < float("inf")):
            raise BadgeError("sensitivity is a number above 1, strength a number of 0 or more")
        if self.retries < 1:
            raise BadgeError("retries are 1 or more")
        if not re.fullmatch(PROFILE_NAME, self.profile):
            raise BadgeError(f"{self.profile[:80]!r} is no profile's name")


@dataclass(frozen=True)
class VerdictText:
    """What the infotext says of an image, fields as in `ImageReport`; `p_value` is a bound where it says `p<`.

    `alike` is the second look's likeness; None where there was none, or where the verdict is neither flagged nor
    suppressed.
    """

    verdict: Verdict
    p_value: float | None
    score: float | None
    first_outside: int | None
    alike: float | None
    transfer: bool
    partial: tuple[int, int] | None
    reason: str


@dataclass(frozen=True)
class PngBadge:
    """What a PNG file says: the report and the infotext, each None where the file has none."""

    report: ImageReport | None
    parameters: str | None


def infotext(settings: JobSettings, report: ImageReport) -> dict[str, str]:
    """The infotext entries of one image, by key."""
    return {SETTINGS_KEY: settings_to_infotext(settings), VERDICT_KEY: verdict_to_infotext(report)}


def settings_to_infotext(settings: JobSettings) -> str:
    """The value of `SETTINGS_KEY`, such as `suppress 1000 strength 1`; numbers lose nothing."""
    text = f"{settings.mode} {_exact(settings.sensitivity)} strength {_exact(settings.strength)}"
    if settings.retries != DEFAULT_RETRIES:
        text = f"{text} retries {settings.retries}"
    return text if settings.profile == AUTOMATIC else f"{text} profile {settings.profile}"


def settings_from_infotext(text: str) -> JobSettings:
    """The settings in a value of `SETTINGS_KEY`; BadgeError where it is not as the grammar has it."""
    found = _SETTINGS.fullmatch(text)
    if not found:
        raise BadgeError(f"{text[:80]!r} are no settings of MemStab: expected such as 'suppress 1000 strength 1'")
    mode, sensitivity, strength, retries, profile = found.groups()
    return JobSettings(
        next(one for one in get_args(JobMode) if one == mode),
        float(sensitivity),
        float(strength),
        AUTOMATIC if profile is None else profile,
        DEFAULT_RETRIES if retries is None else int(retries),
    )


def verdict_to_infotext(report: ImageReport) -> str:
    """The value of `VERDICT_KEY`, such as `suppressed p<0.0001 score 8.21 from step 2`."""
    parts: list[str] = [report.verdict]
    if report.verdict != "not measured":
        if report.p_value is not None:
            parts.append("p<0.0001" if report.p_value < _SMALLEST_P else f"p={report.p_value:.2g}")
        if report.score is not None:
            parts.append(f"score {report.score:.3g}")
        if report.steps.first_outside is not None:
            parts.append(f"from step {report.steps.first_outside}")
        if report.second_look is not None and report.verdict != "clear":
            parts.append(f"alike {report.second_look.likeness:.2g}")
        if report.profile is not None and report.profile.match == "transfer":
            parts.append("transfer")
    if report.partial is not None:
        parts.append("partial {} of {}".format(*report.partial))
    if report.verdict == "not measured":
        parts.append(f"- {_plain_words(report.reason)}")
    return " ".join(parts)


def verdict_from_infotext(text: str) -> VerdictText:
    """What a value of `VERDICT_KEY` says of one image; BadgeError where it is not as the grammar has it."""
    found = _VERDICT.fullmatch(text)
    if not found:
        raise BadgeError(f"{text[:80]!r} is no verdict of MemStab")
    verdict, p_text, score_text, step, alike_text, transfer, done, planned, reason = found.groups()
    p_value, score, alike = (None if text is None else float(text) for text in (p_text, score_text, alike_text))
    shares = all(one is None or abs(one) <= 1 for one in (p_value, alike))
    if not shares or not (score is None or math.isfinite(score)):
        raise BadgeError(f"{text[:80]!r} has a number that no verdict of MemStab has")
    return VerdictText(
        next(one for one in get_args(Verdict) if one == verdict),
        p_value,
        score,
        None if step is None else int(step),
        alike,
        transfer is not None,
        None if done is None else (int(done), int(planned)),
        reason or "",
    )


def grid_from_infotext(text: str) -> dict[Verdict, int]:
    """How many images of a grid have which verdict, as `summary` wrote it; empty for what is no such text."""
    counts = {verdict: int(count) for count, verdict in _COUNT.findall(text)}
    told = {verdict: counts[verdict] for verdict in get_args(Verdict) if verdict in counts}
    return told if " / ".join(f"{count} {verdict}" for verdict, count in told.items()) == text else {}


def summary(reports: Iterable[ImageReport]) -> str:
    """How many images have which verdict, such as `2 clear / 1 suppressed`; the value of `VERDICT_KEY` for a grid."""
    counts = Counter(report.verdict for report in reports)
    return " / ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict) if counts[verdict]) or "no images"


def words(report: ImageReport) -> str:
    """The badge in one or two sentences for people."""
    told = _told(report)
    if report.partial is not None:
        done, planned = report.partial
        told = f"Stopped after {done} of {planned} steps; {told[0].lower()}{told[1:]}"
    if not report.attempts:
        return told
    count = "One other seed" if len(report.attempts) == 1 else f"{len(report.attempts)} other seeds"
    return f"{told} {count} looked like a replay: {', '.join(str(one.seed) for one in report.attempts)}."


def to_chunk(report: ImageReport) -> str:
    """The text of the chunk `CHUNK`: JSON in ASCII, hence valid both as UTF-8 and as a PNG's Latin-1 text.

    Raises:
        BadgeError: if it were longer than a reader takes.
    """
    text = json.dumps(report.to_dict(), separators=(",", ":"), allow_nan=False)
    if len(text) > MAX_CHUNK:
        raise BadgeError(f"the report is longer than {MAX_CHUNK} characters: shorten its trace")
    return text


def from_chunk(text: str) -> ImageReport:
    """The report in a chunk's text, which may be hostile; BadgeError says what is wrong with it."""
    if len(text) > MAX_CHUNK:
        raise BadgeError(f"the badge is longer than {MAX_CHUNK} characters")
    try:
        return ImageReport.from_dict(parse_object(text))
    except (PlainDataError, ReportError) as error:
        raise BadgeError(f"the badge cannot be read: {error}") from error


def png_info(report: ImageReport, parameters: str) -> PngInfo:
    """Both text chunks for `Image.save(..., pnginfo=...)`; `parameters` is the whole infotext, in any language."""
    info = PngInfo()
    info.add_text(metadata.PARAMETERS, parameters)
    info.add_text(CHUNK, to_chunk(report))
    return info


def read_png(path: Path) -> PngBadge:
    """What a PNG file says of itself, read without decoding its picture.

    Text after the picture data is not looked at: neither MemStab nor the WebUI writes it there.

    Raises:
        BadgeError: for anything but a sound PNG header, and for a broken badge.
    """
    try:
        texts = metadata.read_texts(path)
    except (OSError, metadata.MetadataError) as error:
        raise BadgeError(f"{path} is not a PNG file that can be read: {error}") from error
    if texts.kind != "PNG":
        raise BadgeError(f"{path} is not a PNG file but {texts.kind}, which cannot carry the whole badge")
    if CHUNK in texts.damaged:
        raise BadgeError(f"{path}: the badge cannot be read: {texts.damaged[CHUNK]}")
    try:
        report = from_chunk(texts.found[CHUNK]) if CHUNK in texts.found else None
    except BadgeError as error:
        raise BadgeError(f"{path}: {error}") from error
    return PngBadge(report, texts.found.get(metadata.PARAMETERS))


def _exact(number: float) -> str:
    """A number without loss, and without the fraction of a whole one."""
    return repr(number + 0.0).removesuffix(".0")


def _plain_words(reason: str) -> str:
    """A reason without the signs an infotext value must not have."""
    for sign, other in ((",", ";"), (":", " -"), ('"', "'")):
        reason = reason.replace(sign, other)
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", reason).strip()[:_MAX_REASON].strip()


def _told(report: ImageReport) -> str:
    """The words about a job that ran to its end."""
    if report.verdict == "not measured":
        reason = " ".join(report.reason.split()).rstrip(".")
        return f"Not measured, so nothing is known about this picture: {reason}."
    rarity = _rarity(report)
    if report.verdict == "clear":
        return f"No replay of a training picture was found{rarity}; that is no proof that the picture is new."
    start = f" from step {report.steps.first_outside} on" if report.steps.first_outside else ""
    what = f"like the replay of a training picture{start}{rarity}."
    if report.verdict == "flagged":
        left = "Its sampling was ended there." if report.mode == "stop" and report.partial else "It was left as it is."
        return f"Looks {what} {left}"
    effort = f", at the cost of {report.extra_evaluations} extra evaluations" if report.extra_evaluations else ""
    return f"Looked {what} MemStab steered it away in {_steps(report.steps.suppressed)}{effort}."


def _rarity(report: ImageReport) -> str:
    """How rare such a score is, as an insertion in brackets."""
    if report.p_value is None:
        return ""
    if report.p_value >= 0.01:
        share = f"{report.p_value:.0%} of ordinary pictures score as high"
    elif report.p_value >= _SMALLEST_P:
        share = f"about 1 in {1 / report.p_value:,.0f} ordinary pictures scores as high"
    else:
        share = "fewer than 1 in 10,000 ordinary pictures score as high"
    transfer = report.profile is not None and report.profile.match == "transfer"
    return f" ({share}{_looked(report)}{'; less certain, as the profile is for other settings' if transfer else ''})"


def _looked(report: ImageReport) -> str:
    """What a second look adds to how rare the score is, where the verdict is due to it or in spite of it."""
    look = report.second_look
    if look is None or report.score is None or report.p_value is None:
        return ""
    rare = report.p_value <= 1 / report.sensitivity
    if report.verdict == "clear":
        if rare:
            return f", but its prompt gives another picture from other noise, likeness {look.likeness:.2g}"
        given = "what its prompt gives from other noise is not similar enough for a flag"
        return f", and {given}, likeness {look.likeness:.2g}"
    if look.bound <= report.score and not rare:
        return f", but its prompt gives an unusually similar picture from other noise, likeness {look.likeness:.2g}"
    return ""


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"
