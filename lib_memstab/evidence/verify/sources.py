"""The two places where pictures come from: a running WebUI, and the lab model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch

from lib_memstab import __version__
from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.profile import ProfileError
from lib_memstab.core.suppression import Windows
from lib_memstab.evidence.similarity_command import shown_pictures
from lib_memstab.evidence.verify.plan import Mode, Sampling, SourceError, Taken
from lib_memstab.evidence.verify.webui_terms import (
    PLAIN,
    Watch,
    arguments,
    facts_of,
    job_of,
    refuse_comments,
    refuse_settings,
)
from lib_memstab.evidence.webui import WebUI, WebUIError
from lib_memstab.evidence.webui_prompt import escaped
from lib_memstab.lab.demonstration import DemoError, load_lab
from lib_memstab.lab.experiment import calibrated, text_rows
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
            rule, rows = Windows(self.settings.strength), text_rows(self.lab.model, prompts)
            settings, certain = replace(self.settings, mode=mode), calibrated(job)
            monitor = Monitor(self.lab.region, settings, rule, job.guidance, rows, calibrated=certain)
        pictures = shown_pictures(self.lab.model, sample(self.lab.model, job, monitor))
        reports = (
            [None] * len(prompts) if monitor is None else monitor.reports(len(prompts), self.lab.use, "memstab lab")
        )
        seconds = (time.perf_counter() - start) / len(prompts)
        return [Taken(picture, report, seconds) for picture, report in zip(pictures, reports, strict=True)]


class WebUISource:
    """A running WebUI, picture by picture.

    Raises:
        SourceError: if it cannot be used as it is; the message says what to change.
    """

    batch = 1

    def __init__(self, webui: WebUI, sampling: Sampling) -> None:
        self.webui, self.sampling = webui, sampling
        try:
            self.options, self.versions, self.samplers = webui.options(), webui.memstab(), webui.samplers()
        except WebUIError as error:
            raise SourceError(str(error)) from error
        if str(self.options.get("samples_format", "png")).lower() != "png":
            raise SourceError(
                "the WebUI answers with pictures that lose pixels and badges: set Settings, Saving images/grids, File "
                "format for images to png"
            )
        refuse_settings(self.options, sampling.sampler, self.samplers)
        self._watch, self._checkpoint = Watch(), ""

    def facts(self) -> dict[str, str]:
        """The WebUI's loaded checkpoint, and what else of its settings changes every picture."""
        return facts_of(self.options, str(self.versions.get("host", "")), str(self.versions["version"]))

    def check(self, prompts: Sequence[str]) -> None:
        """SourceError if the WebUI would take a part of a prompt for a comment."""
        refuse_comments(self.options, prompts)

    def take(self, prompts: Sequence[str], seeds: Sequence[int], mode: Mode) -> list[Taken]:
        """One job for each picture."""
        jobs = [{"prompt": escaped(prompt), "seed": seed} for prompt, seed in zip(prompts, seeds, strict=True)]
        return [self.shoot(job, mode) for job in jobs]

    def job(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What is asked of the WebUI, in its own words: this run's sampling with `changes`."""
        return job_of(self.sampling, changes)

    def shoot(self, changes: Mapping[str, Any], mode: Mode) -> Taken:
        """One picture of `job(changes)`, whose prompts mean what the WebUI reads into them: see `escaped`.

        Raises:
            SourceError: if there is none to be had, or if MemStab could not measure this run's first plain picture.
        """
        try:
            taken = self.webui.sample(self.job(changes), arguments(self.sampling, mode))
        except WebUIError as error:
            raise SourceError(str(error)) from error
        self._checkpoint = self._checkpoint or taken.checkpoint
        if taken.checkpoint != self._checkpoint:
            raise SourceError(
                f"the WebUI has loaded another checkpoint ({taken.checkpoint}, not {self._checkpoint}): load the first "
                "one again, leave the WebUI alone until this is done, and call again"
            )
        self._watch.look(taken.report, mode, plain=not set(changes) - PLAIN)
        return Taken(taken.pixels, taken.report, taken.seconds)
