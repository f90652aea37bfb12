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
from lib_memstab.core.suppression import DEFAULT_RULE, RULES
from lib_memstab.evidence.similarity_command import shown_pictures
from lib_memstab.evidence.verify.plan import Mode, Sampling, SourceError, Taken
from lib_memstab.evidence.webui import WebUI, WebUIError
from lib_memstab.evidence.webui_prompt import COMMENT, COMMENT_SETTING, EMPHASIS_SETTING, escaped
from lib_memstab.host.wording import LEARN
from lib_memstab.lab.demonstration import DemoError, load_lab
from lib_memstab.lab.experiment import text_rows
from lib_memstab.lab.sampling import SAMPLERS, Job, sample

LAB_BATCH: Final = 16

PLAIN: Final = {"prompt", "seed"}
"""What a plain job changes: MemStab must be able to measure it, or the checkpoint was not calibrated for this."""


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
        if sampling.sampler not in self.samplers:
            raise SourceError(f"the WebUI has no sampler {sampling.sampler!r}: it has {', '.join(self.samplers)}")
        if str(self.options.get("samples_format", "png")).lower() != "png":
            raise SourceError(
                "the WebUI answers with pictures that lose pixels and badges: set Settings, Saving images/grids, File "
                "format for images to png"
            )
        if self.options.get(EMPHASIS_SETTING) == "None":
            raise SourceError(
                "the WebUI's Emphasis mode is None, so that brackets cannot be escaped: set Settings, Stable "
                "Diffusion, Emphasis mode to Original"
            )
        if self.options.get(LEARN.name):
            raise SourceError(
                "the WebUI learns from what it generates, and would learn these prompts and change its profile on the "
                f"way: switch off Settings, MemStab, {LEARN.label}"
            )
        self._measured = False
        self._checkpoint = ""

    def facts(self) -> dict[str, str]:
        """The WebUI's loaded checkpoint, and what else of its settings changes every picture."""
        found = {"host": str(self.versions.get("host", "")), "MemStab": str(self.versions["version"])}
        for name in ("sd_model_checkpoint", "sd_checkpoint_hash", "sd_vae", "CLIP_stop_at_last_layers", "randn_source"):
            found[name] = str(self.options.get(name, ""))
        return found

    def check(self, prompts: Sequence[str]) -> None:
        """SourceError if the WebUI would take a part of a prompt for a comment."""
        cut = [prompt for prompt in prompts if COMMENT in prompt]
        if cut and self.options.get(COMMENT_SETTING, False):
            raise SourceError(
                f"{len(cut)} prompts hold a {COMMENT}, and the WebUI would leave out what follows it (as in "
                f"{cut[0][:60]!r}): switch off Settings, Stable Diffusion, Enable comments"
            )

    def take(self, prompts: Sequence[str], seeds: Sequence[int], mode: Mode) -> list[Taken]:
        """One job for each picture."""
        jobs = [{"prompt": escaped(prompt), "seed": seed} for prompt, seed in zip(prompts, seeds, strict=True)]
        return [self.shoot(job, mode) for job in jobs]

    def job(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What is asked of the WebUI, in its own words: this run's sampling with `changes`."""
        sampler = {"sampler_name": self.sampling.sampler}
        if self.sampling.scheduler and "sampler_name" not in changes:
            sampler["scheduler"] = self.sampling.scheduler
        return {
            "prompt": "",
            "negative_prompt": "",
            "steps": self.sampling.steps,
            "cfg_scale": self.sampling.guidance,
            "width": self.sampling.width,
            "height": self.sampling.height,
            **sampler,
            **changes,
        }

    def shoot(self, changes: Mapping[str, Any], mode: Mode) -> Taken:
        """One picture of `job(changes)`, whose prompts mean what the WebUI reads into them: see `escaped`.

        Raises:
            SourceError: if there is none to be had, or if MemStab could not measure this run's first plain picture.
        """
        job = self.job(changes)
        memstab = {"enabled": mode != "off", "mode": "detect" if mode == "off" else mode}
        try:
            taken = self.webui.sample(job, {**memstab, "sensitivity": self.sampling.sensitivity})
        except WebUIError as error:
            raise SourceError(str(error)) from error
        self._checkpoint = self._checkpoint or taken.checkpoint
        if taken.checkpoint != self._checkpoint:
            raise SourceError(
                f"the WebUI has loaded another checkpoint ({taken.checkpoint}, not {self._checkpoint}): load the first "
                "one again, leave the WebUI alone until this is done, and call again"
            )
        if (taken.report is not None) != (mode != "off"):
            raise SourceError(
                "the WebUI's picture has no badge although MemStab was switched on: is the extension the newest?"
                if taken.report is None
                else "the WebUI's picture has a badge although MemStab was switched off: is another extension on?"
            )
        if taken.report is not None and taken.report.partial is not None:
            raise SourceError("the job was interrupted in the WebUI: leave it alone until this is done, and call again")
        if taken.report is not None and not self._measured and not set(changes) - PLAIN:
            if taken.report.verdict == "not measured":
                raise SourceError(
                    f"MemStab could not measure in the WebUI ({taken.report.reason}): calibrate this checkpoint "
                    "first, in the MemStab tab or over /memstab/v1/calibrate"
                )
            self._measured = True
        return Taken(taken.pixels, taken.report, taken.seconds)
