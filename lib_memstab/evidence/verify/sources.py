"""The lab model as a place where pictures come from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch

from lib_memstab import __version__
from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.profile import ProfileError
from lib_memstab.core.suppression import DEFAULT_RULE, RULES
from lib_memstab.evidence.similarity_command import shown_pictures
from lib_memstab.evidence.verify.plan import Mode, Sampling, SourceError, Taken
from lib_memstab.lab.demonstration import DemoError, load_lab
from lib_memstab.lab.experiment import text_rows
from lib_memstab.lab.sampling import SAMPLERS, Job, sample

LAB_BATCH: Final = 16


class LabSource:
    """The lab model, in batches; SourceError for a sampler, a size or a step count that it does not have."""

    batch = LAB_BATCH

    def __init__(self, sampling: Sampling) -> None:
        if sampling.sampler not in SAMPLERS or sampling.scheduler:
            raise SourceError(
                f"the lab has no sampler {sampling.sampler!r}, or no scheduler of its own: it has "
                f"{', '.join(SAMPLERS)}, without --scheduler"
            )
        if sampling.width % 8 or sampling.height % 8 or not min(sampling.width, sampling.height) >= 64:
            raise SourceError("the lab model makes pictures of 64 pixels a side or more, in steps of 8: 128 is its own")
        self.job = Job(
            [],
            [],
            sampler=sampling.sampler,
            steps=sampling.steps,
            guidance=sampling.guidance,
            height=sampling.height,
            width=sampling.width,
        )
        try:
            self.lab = load_lab(self.job)
        except (DemoError, ProfileError) as error:
            raise SourceError(str(error)) from error
        self.settings = Settings("detect", sampling.sensitivity)

    def facts(self) -> dict[str, str]:
        """The lab's checkpoint and profile."""
        return {
            "host": "memstab lab",
            "MemStab": __version__,
            "torch": torch.__version__,
            "checkpoint": f"memstab-lab, sha256 {self.lab.sha256}",
            "profile": f"{self.lab.use.name}, sha256 {self.lab.use.sha256}",
        }

    def check(self, prompts: Sequence[str]) -> None:
        """The lab reads every prompt as plain text."""

    def take(self, prompts: Sequence[str], seeds: Sequence[int], mode: Mode) -> list[Taken]:
        """One batch; seconds are the batch's, shared out."""
        start = time.perf_counter()
        job, monitor = replace(self.job, prompts=prompts, seeds=seeds), None
        if mode != "off":
            rule, rows = RULES[DEFAULT_RULE](self.settings.strength), text_rows(self.lab.model, prompts)
            monitor = Monitor(self.lab.region, replace(self.settings, mode=mode), rule, job.guidance, rows)
        pictures = shown_pictures(self.lab.model, sample(self.lab.model, job, monitor))
        reports = (
            [None] * len(prompts) if monitor is None else monitor.reports(len(prompts), self.lab.use, "memstab lab")
        )
        seconds = (time.perf_counter() - start) / len(prompts)
        return [Taken(picture, report, seconds) for picture, report in zip(pictures, reports, strict=True)]
