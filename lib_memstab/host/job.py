"""One job of the host: its batches, their sampling passes, and every image's report.

A job object is made when a job begins and is gone with it. Errors never leave this file (see `passes`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lib_memstab.badge import JobSettings
from lib_memstab.core.report import ImageReport, combine
from lib_memstab.host.attempts import Attempts
from lib_memstab.host.facts import Applied, Choose, PassFacts, Taught
from lib_memstab.host.passes import Pass, not_measured
from lib_memstab.host.port import Host

log = logging.getLogger("memstab")


class Job:
    """One job: the passes of its current batch, the reports of that batch, and those of the whole job.

    `saved_before_hires` counts the pictures of the batch that the host saved before its hires pass; `retries` is how
    many other seeds a flagged image may get.
    """

    def __init__(
        self, host: Host, settings: JobSettings, choose: Choose, reason: str | None = None, learning: bool = False
    ) -> None:
        self.settings, self._learning = settings, learning
        self.batch: list[ImageReport] = []
        self.reports: list[ImageReport] = []
        self.saved_before_hires = 0
        self.retries = settings.retries if settings.mode == "retry" else 0
        self._host, self._choose, self._reason = host, choose, reason
        self._passes: list[Pass] = []
        self._pass: Pass | None = None
        self._attempts: Attempts | None = None
        self._taught: list[Taught] | None = None

    @property
    def acts_early(self) -> bool:
        """Whether an alarm can end sampling."""
        return self.settings.mode in ("stop", "retry") and self._reason is None

    @property
    def ended(self) -> bool:
        """Whether an alarm has ended the sampling that goes on."""
        return any(one.ended for one in self._passes)

    def begin_batch(self) -> None:
        """A batch begins: what the one before it left is over."""
        self._passes, self._pass, self.batch = [], None, []
        self._attempts = self._taught = None
        self.saved_before_hires = 0

    def begin_pass(self, facts: PassFacts) -> Pass:
        """A sampling pass begins."""
        applied = Applied(None, "none", self._reason or "")
        if self._reason is None:
            applied = self._choose(facts, self._host.checkpoint(), self.settings.profile)
        ends_for, last = None, True
        if self.acts_early:
            self._attempts = self._attempts or Attempts(len(facts.prompts), self.retries)
            last = self._attempts.last
            ends_for = self._attempts.wanted if self.settings.mode == "stop" or not last else None
        self._pass = Pass(self._host, facts, self.settings, applied, self._learning, ends_for, last)
        self._passes.append(self._pass)
        return self._pass

    def give_up(self, error: Exception) -> None:
        """The job cannot be followed; it is not measured from here on."""
        self._reason = f"inner error: {type(error).__name__}: {error}"
        self._passes, self._pass, self._attempts = [], None, None
        log.warning("MemStab cannot measure this job (%s); the picture is as without it", self._reason, exc_info=error)

    def stay(self, error: Exception) -> str:
        """The images to sample once more cannot be: their pictures stay as far as they came; what to tell of that."""
        assert self._attempts is not None
        why = f"it could not be sampled with another seed ({type(error).__name__}: {error})"
        self._attempts.stay(why)
        message = f"MemStab: a flagged image was not finished, as {why}"
        log.warning(message, exc_info=error)
        return message

    def before(self, params: Any) -> None:
        """Handed on to the pass that is going on."""
        if self._pass is not None:
            self._pass.before(params)

    def after(self, params: Any, out: Tensor, guided: Any) -> None:
        """Handed on to the pass that is going on."""
        if self._pass is not None:
            self._pass.after(params, out, guided)

    def to_retry(self, seeds: Sequence[int]) -> list[int]:
        """A batch has been sampled with these seeds: the images to sample once more with others, if any."""
        if self._attempts is None or self._host.stopped():
            return []
        per_pass = self._per_pass(len(seeds))
        self._attempts.over(_combined(per_pass, len(seeds)))
        images = self._attempts.again(seeds)
        if images:
            # Images that were not flagged are sampled with the same seeds again: they teach once.
            self._taught = self._taught if self._taught is not None else self._teach(per_pass, None)
            self._passes, self._pass = [], None
        return images

    def end_batch(self, count: int, latents: Tensor | None = None) -> list[Taught]:
        """Sampling of a batch of `count` images is over: reports come to the host, device memory is let go.

        What is returned can be learned from; `latents` [B, C, H, W] are what came of the batch, if the host has them.
        """
        if not self._passes and self._attempts is not None and self._attempts.reports:
            self.batch, taught = self._attempts.reports, self._taught or []
            self.reports += self.batch
            self._attempts = self._taught = None
            return taught
        if not self._passes:
            reason = self._reason or "this host does not say when sampling begins"
            self.batch = not_measured(count, self.settings, self._host.name, reason)
            self.reports += self.batch
            return []
        per_pass = self._per_pass(count)
        self.batch = _combined(per_pass, count)
        if self._attempts is not None:
            self._attempts.over(self.batch)
            self.batch = self._attempts.reports
        self.reports += self.batch
        taught = self._teach(per_pass, latents if len(self._passes) == 1 else None)
        taught = taught if self._taught is None else self._taught
        self._passes, self._pass, self._attempts, self._taught = [], None, None, None
        return taught

    def so_far(self, count: int) -> list[ImageReport]:
        """Reports of the batch as far as it has come, for images the host saves before a second pass."""
        if self.batch or not self._passes:
            return self.batch
        return self._passes[0].reports(count)

    def _per_pass(self, count: int) -> list[tuple[Pass, list[ImageReport]]]:
        return [(one, one.reports(count)) for one in self._passes]

    def _teach(self, per_pass: Sequence[tuple[Pass, Sequence[ImageReport]]], latents: Tensor | None) -> list[Taught]:
        return [found for one, own in per_pass if (found := one.taught(own, latents)) is not None]


def _combined(per_pass: Sequence[tuple[Pass, Sequence[ImageReport]]], count: int) -> list[ImageReport]:
    """Each image's report out of those of its passes."""
    return [combine([(one.facts.name, own[image]) for one, own in per_pass]) for image in range(count)]
