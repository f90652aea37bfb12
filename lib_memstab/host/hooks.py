"""The WebUI's script hooks, in the order in which a job meets them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor

from lib_memstab import badge
from lib_memstab.badge import JobSettings
from lib_memstab.core.report import ImageReport
from lib_memstab.host import early, images, tap, xyz
from lib_memstab.host.facts import Choose, PassFacts
from lib_memstab.host.job import Job
from lib_memstab.host.learner import Learner
from lib_memstab.host.port import Host
from lib_memstab.host.steps import count_steps
from lib_memstab.settings import SettingsError, read_args

log = logging.getLogger("memstab")


class Hooks:
    """Turns hooks into the life of a `Job`; keeps no job itself: the job hangs on the host's own job object.

    `latest` are the reports of the job that ended last, for programs that ask.
    """

    def __init__(
        self,
        host: Host,
        choose: Choose,
        facts: Callable[[Any, Tensor], PassFacts],
        learner: Learner,
        lacks: str = "",
        infotext_keys: Callable[[], Collection[str]] = lambda: badge.KEYS,
    ) -> None:
        self._host, self._choose, self._facts, self._learner, self._lacks = host, choose, facts, learner, lacks
        self._infotext_keys = infotext_keys
        self.latest: list[ImageReport] = []

    def process(self, p: Any, args: Sequence[object]) -> None:
        """A job begins."""
        images.forget(p.extra_generation_params)
        tap.attach(p, None)
        settings, reason = JobSettings(), self._lacks or None
        try:
            choice = read_args(args, changes=xyz.changes_of(p))
            if not choice.enabled:
                return
            settings = choice.settings
        except SettingsError as error:
            reason = str(error)
            log.warning("%s; nothing is measured", error)
        job = Job(self._host, settings, self._choose, reason, self._learner.wanted())
        tap.attach(p, job)
        images.announce(p.extra_generation_params, job, self._infotext_keys())

    def process_batch(self, p: Any) -> None:
        """A batch begins."""
        job = job_of(p)
        if job is not None:
            job.begin_batch()
            # Another extension's inner job may have left its own entries in the dictionary they share.
            images.announce(p.extra_generation_params, job, self._infotext_keys())
            if job.acts_early:
                early.follow(p, job, self._host)

    def before_sampling(self, p: Any, x: Tensor) -> None:
        """A sampling pass begins; `x` [B, C, H, W] are its latents or noise."""
        job = job_of(p)
        if job is None:
            return
        try:
            count_steps(p.sampler, job.begin_pass(self._facts(p, x)), self._host.end_pass)
        except Exception as error:  # noqa: BLE001 - the user's picture must not depend on this program
            job.give_up(error)

    def post_sample(self, p: Any, samples: Any) -> None:
        """A batch has been sampled; `samples` are latents [B, C, H, W], or what the host made of them."""
        job = job_of(p)
        if job is not None:
            taught = job.end_batch(len(p.prompts), samples if isinstance(samples, Tensor) else None)
            if taught:
                self._learner.take(self._host.checkpoint(), taught)

    def postprocess_image(self, p: Any) -> None:
        """An image's infotext is about to be made."""
        job = job_of(p)
        if job is not None:
            images.announce(p.extra_generation_params, job, self._infotext_keys())

    def after_composite(self, p: Any, image: Any) -> None:
        """An image is as it will be saved."""
        job = job_of(p)
        if job is not None and p.batch_index < len(job.batch):
            images.mark(image, job.batch[p.batch_index])

    def carry(self, params: Any) -> None:
        """A picture is about to be saved."""
        images.carry(params)

    def postprocess(self, p: Any) -> None:
        """The job is over."""
        job = job_of(p)
        if job is None:
            return
        if job.reports:
            images.settle(p.extra_generation_params, job)
        else:
            images.forget(p.extra_generation_params)
        self.latest = job.reports
        tap.attach(p, None)


def job_of(p: Any) -> Job | None:
    """MemStab's job for the host's, if there is one."""
    watch = tap.watch_of(p)
    return watch if isinstance(watch, Job) else None
