"""Learns what ordinary images of a checkpoint look like while the user generates: lessons on disk, and a profile."""

from __future__ import annotations

import datetime
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib_memstab.calibration.work import new_profile, profile_name
from lib_memstab.core.calibration import with_likeness_of
from lib_memstab.core.files import write_whole
from lib_memstab.core.lessons import (
    AGAIN,
    SOURCE,
    Lesson,
    calibrations,
    digest,
    lesson_path,
    ordinary,
    sketch_of,
    sound_sketch,
)
from lib_memstab.core.plain import PlainDataError, from_plain, parse_object, to_plain
from lib_memstab.core.profile import STATISTIC, Calibration, Checkpoint, Mode, Profile, ProfileError
from lib_memstab.core.region import GRID, Conditions, RegionError
from lib_memstab.host.facts import Taught
from lib_memstab.host.matching import looked_twice
from lib_memstab.host.port import Host
from lib_memstab.store import Store

log = logging.getLogger("memstab")

MOST = 4096
"""Lessons that are kept of a checkpoint; the oldest beyond these go."""

LEARNED = " learned"
"""What a learned profile's name ends with."""


class Learner:
    """Keeps lessons in `folder`, one file a checkpoint, and in `store` the profile that comes of them.

    `wanted` says whether the user wants it to learn.
    """

    def __init__(self, host: Host, folder: Callable[[], Path], store: Store, wanted: Callable[[], bool]) -> None:
        self.wanted = wanted
        self._host, self._folder, self._store = host, folder, store
        self._guard = threading.Lock()
        self._known: dict[Path, list[Lesson]] = {}
        self._fresh: Counter[Path] = Counter()

    def take(self, checkpoint: Checkpoint, passes: Sequence[Taught]) -> None:
        """Learn from a batch. Nothing leaves this method: the user's job must not depend on it."""
        try:
            lessons = [lesson for taught in passes for lesson in lessons_of(taught)]
            if lessons:
                with self._guard:
                    self._add(checkpoint, lessons)
        except Exception as error:
            log.warning("MemStab learned nothing from this batch (%s: %s)", type(error).__name__, error, exc_info=error)

    def lessons(self, checkpoint: Checkpoint) -> list[Lesson]:
        """All lessons of a checkpoint, the oldest first."""
        with self._guard:
            return list(self._read(self._path(checkpoint)))

    def line(self, checkpoint: Checkpoint) -> str:
        """What was learned, in a sentence."""
        lessons = self.lessons(checkpoint)
        if not lessons:
            return f"Nothing has been learned about {checkpoint.name} from your generations."
        use = ordinary(lessons)
        modes = [f"{sum(one.mode == mode for one in use)} {mode}" for mode in ("txt2img", "img2img")]
        return (
            f"{len(lessons)} of your generations with {checkpoint.name} were taken down since {lessons[0].day}, of "
            f"{len({one.prompt for one in lessons})} prompts; used: {', '.join(modes)}."
        )

    def forget(self, checkpoint: Checkpoint, since: str = "") -> int:
        """Drop the lessons of a day (YYYY-MM-DD) and later, by default all; how many these were.

        The profile is made anew of those that are left, and deleted where they are too few for one. One that was
        given another name is the user's own and stays.

        Raises:
            ProfileError: if the profile cannot be written or deleted; the lessons are gone all the same.
        """
        with self._guard:
            path = self._path(checkpoint)
            lessons = self._read(path)
            left = [one for one in lessons if one.day < since] if since else []
            self._write(path, left)
            profile = self._profile(checkpoint, left)
            if profile is not None:
                self._store.save(profile)
            else:
                self._delete_profile(checkpoint)
            return len(lessons) - len(left)

    def _add(self, checkpoint: Checkpoint, lessons: Sequence[Lesson]) -> None:
        path = self._path(checkpoint)
        known = self._read(path)
        if len(known) + len(lessons) > MOST:
            self._write(path, [*known, *lessons][-MOST * 3 // 4 :])
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(_lines(lessons))
            known.extend(lessons)
        self._fresh[path] += len(lessons)
        if self._fresh[path] >= AGAIN:
            self._fresh[path] = 0
            self._teach(checkpoint, self._known[path])

    def _teach(self, checkpoint: Checkpoint, lessons: Sequence[Lesson]) -> None:
        """Save the profile of these lessons, if they are enough for one."""
        try:
            profile = self._profile(checkpoint, lessons)
            if profile is not None:
                self._store.save(profile)
        except ProfileError as error:
            log.warning("MemStab could not keep the profile of what it learned: %s", error)

    def _profile(self, checkpoint: Checkpoint, lessons: Sequence[Lesson]) -> Profile | None:
        """The profile of these lessons, if they are enough for one."""
        try:
            modes = calibrations(lessons)
            if not modes:
                return None
            prediction, channels = self._host.prediction(), lessons[-1].channels
            known = {mode: self._with_likeness(checkpoint, channels, mode, one) for mode, one in modes.items()}
            return new_profile(_name(checkpoint), checkpoint, channels, prediction, self._host.name, known)
        except RegionError as error:
            log.warning("MemStab could not make a profile of what it learned: %s", error)
            return None

    def _with_likeness(self, checkpoint: Checkpoint, channels: int, mode: Mode, learned: Calibration) -> Calibration:
        """What was learned of a mode, with how alike pictures are by a calibration, without which nothing gets a look.

        Nobody samples a user's own prompts once more to learn it of them.
        """
        calibrated = looked_twice(self._store.all(), checkpoint, channels, mode)
        return learned if calibrated is None else replace(learned, region=with_likeness_of(learned.region, calibrated))

    def _delete_profile(self, checkpoint: Checkpoint) -> None:
        """Delete the profile that was learned, if there is one; one that was not learned may have its name."""
        for stored in self._store.all():
            if stored.own and stored.name == _name(checkpoint) and _is_learned(stored.profile):
                self._store.delete(stored.name)

    def _path(self, checkpoint: Checkpoint) -> Path:
        return self._folder() / f"{checkpoint.sha256 or digest(checkpoint.name)}.jsonl"

    def _read(self, path: Path) -> list[Lesson]:
        """All lessons of a file; a line that cannot be read is left out, as the last one after a power cut."""
        if path not in self._known:
            lines = path.read_bytes().splitlines() if path.exists() else []
            found = [lesson for line in lines if (lesson := _lesson(line)) is not None]
            if len(found) < len(lines):
                log.warning("MemStab left out %d lines of %s that cannot be used", len(lines) - len(found), path)
                self._write(path, found)
            self._known[path] = found
        return self._known[path]

    def _write(self, path: Path, lessons: Sequence[Lesson]) -> None:
        """Write a file in one stroke."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _lines(lessons).encode())
        self._known[path] = list(lessons)


def _name(checkpoint: Checkpoint) -> str:
    return profile_name(checkpoint)[: 80 - len(LEARNED)].rstrip(" .") + LEARNED


def _is_learned(profile: Profile | None) -> bool:
    return profile is not None and all(one.covered.prompts == SOURCE for one in profile.modes.values())


def lessons_of(taught: Taught) -> list[Lesson]:
    """What a pass teaches: nothing of images that were flagged, stopped or not measured throughout."""
    facts, day, found = taught.facts, datetime.date.today().isoformat(), []
    for image, report in enumerate(taught.reports):
        told = lesson_path(taught.curves[image])
        unknown = report.verdict != "clear" and taught.judged
        if told is None or not taught.whole[image] or unknown or report.partial:
            continue
        conditions = Conditions(max(facts.guidance, 1.0), round(float(taught.starts[image]), 4), facts.negative)
        found.append(
            Lesson(
                mode=facts.mode,
                sampler=facts.sampler,
                scheduler=facts.scheduler,
                steps=facts.steps,
                channels=facts.channels,
                size=facts.size,
                conditions=conditions,
                offset=told[0],
                path=told[1],
                prompt=digest(facts.prompts[image]),
                sketch="" if taught.latents is None else sketch_of(taught.latents[image]),
                day=day,
                over=STATISTIC.over,
                smaller_end=STATISTIC.smaller_end,
            )
        )
    return found


def _lesson(line: bytes) -> Lesson | None:
    """The lesson in a line of a file, if it holds one that can be learned from."""
    try:
        lesson = from_plain(Lesson, parse_object(line))
    except PlainDataError:
        return None
    length = len(lesson.path)
    fits = length > 0 and 0 <= lesson.offset <= len(GRID) - length and np.isfinite(lesson.path).all()
    known = (lesson.over, lesson.smaller_end) == (STATISTIC.over, STATISTIC.smaller_end)
    return lesson if fits and known and sound_sketch(lesson.sketch) else None


def _lines(lessons: Sequence[Lesson]) -> str:
    return "".join(json.dumps(to_plain(one), separators=(",", ":")) + "\n" for one in lessons)
