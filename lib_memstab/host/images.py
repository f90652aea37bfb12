"""Badges on their way into files: infotext entries that know their image, and the PNG chunk."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from lib_memstab import badge
from lib_memstab.core.report import ImageReport
from lib_memstab.host import tap
from lib_memstab.host.job import Job

BEFORE_HIRES = "-before-highres-fix"
"""How the WebUI ends the names of files that it saves before a hires pass."""

Infotext = dict[str, Any]


def forget(entries: Infotext) -> None:
    """Take MemStab's entries out: jobs of an X/Y/Z plot share one dictionary."""
    for key in badge.KEYS:
        entries.pop(key, None)


def announce(entries: Infotext, job: Job, keys: Collection[str] = badge.KEYS) -> None:
    """Put those of MemStab's entries in that are wanted: settings, and a verdict that is asked for image by image."""
    all_entries = {
        badge.SETTINGS_KEY: badge.settings_to_infotext(job.settings),
        badge.VERDICT_KEY: _verdict_of(job),
    }
    entries.update({key: all_entries[key] for key in keys})


def settle(entries: Infotext, job: Job) -> None:
    """At the end of the job its verdicts become one text, for grids and lists of the whole job."""
    if badge.VERDICT_KEY in entries:
        entries[badge.VERDICT_KEY] = badge.summary(job.reports)


def _verdict_of(job: Job) -> Callable[..., str | None]:
    """What the WebUI calls for each infotext; the grid's comes with `use_main_prompt`.

    `index` counts within the batch, but over the whole job in the infotexts of images saved before a hires pass.
    """

    def verdict(p: Any, index: int, use_main_prompt: bool = False, **_: Any) -> str | None:
        if use_main_prompt:
            return badge.summary(job.reports) if job.reports else None
        reports = job.so_far(len(p.prompts)) if p.is_hr_pass else job.batch
        place = index % p.batch_size if p.is_hr_pass else index
        return badge.verdict_to_infotext(reports[place]) if place < len(reports) else None

    return verdict


def mark(image: Any, report: ImageReport) -> None:
    """Put the whole report on a picture; the API and the browser's gallery write it into what they serve."""
    image.info[badge.CHUNK] = badge.to_chunk(report)


def carry(params: Any) -> None:
    """on_before_image_saved: a marked picture's report goes into its file too.

    Pictures saved before a hires pass were never marked; the host saves them one by one in the batch's order.
    """
    chunk = getattr(params.image, "info", {}).get(badge.CHUNK)
    job = tap.watch_of(params.p)
    if chunk is None and BEFORE_HIRES in params.filename and isinstance(job, Job):
        reports, place = job.so_far(len(params.p.prompts)), job.saved_before_hires
        job.saved_before_hires += 1
        chunk = badge.to_chunk(reports[place]) if place < len(reports) else None
    if isinstance(chunk, str):
        params.pnginfo[badge.CHUNK] = chunk


def verdict_for_name(image: Any, *only: str) -> str | None:
    """The verdict of a marked picture as file names have it, such as `not-measured`; None for other pictures.

    With `only`, verdicts in the same form, None for those of another verdict too.
    """
    chunk = getattr(image, "info", {}).get(badge.CHUNK)
    try:
        verdict = badge.from_chunk(chunk).verdict.replace(" ", "-") if isinstance(chunk, str) else None
    except badge.BadgeError:
        return None
    return verdict if not only or verdict in only else None
