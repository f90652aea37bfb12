"""A batch that is sampled again with other seeds for its flagged images, and what each image's report is then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lib_memstab.core.report import Attempt, ImageReport


class Attempts:
    """What came of sampling one batch, once or with other seeds again: each image's report by its own last seed.

    `wanted` are the images that the sampling which goes on is about.
    """

    def __init__(self, count: int, most: int) -> None:
        self.wanted = list(range(count))
        self.reports: list[ImageReport] = []
        self._left = most
        self._given_up: list[list[Attempt]] = [[] for _ in self.wanted]

    @property
    def last(self) -> bool:
        """Whether no other seed comes after this one."""
        return self._left == 0

    def over(self, reports: Sequence[ImageReport]) -> None:
        """A sampling is over: take the reports of the images it was about."""
        self.reports = self.reports or list(reports)
        for image in self.wanted:
            self.reports[image] = replace(reports[image], attempts=tuple(self._given_up[image]))

    def again(self, seeds: Sequence[int]) -> list[int]:
        """The images to sample once more, as these seeds' pictures were flagged; none where no attempt is left."""
        flagged = [image for image in self.wanted if self.reports[image].verdict == "flagged"]
        if self.last or not flagged:
            return []
        for image in flagged:
            report = self.reports[image]
            self._given_up[image].append(Attempt(int(seeds[image]), report.score, report.steps.first_outside))
        self._left, self.wanted = self._left - 1, flagged
        return flagged

    def stay(self, why: str) -> None:
        """The images to sample once more cannot be: their pictures stay as they are, and say why."""
        self._left = 0
        for image in self.wanted:
            report = self.reports[image]
            self.reports[image] = replace(report, reason="; ".join(part for part in (report.reason, why) if part))
