"""One sampling pass of a batch: what the host's callbacks bring goes to a monitor, and each image's report comes of it.

Errors never leave this file: a pass that cannot go on says why, once in the log and in the badge, and its pictures are
as without MemStab.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lib_memstab.badge import JobSettings
from lib_memstab.calibration.ordinary import chosen
from lib_memstab.core.calibration import Recorder
from lib_memstab.core.completing import judging_region
from lib_memstab.core.evaluation import spread
from lib_memstab.core.measurement import measure
from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.region import Region
from lib_memstab.core.report import ImageReport, ProfileUse
from lib_memstab.core.second_look import Of
from lib_memstab.core.suppression import Windows
from lib_memstab.host.facts import Applied, PassFacts, Taught
from lib_memstab.host.port import Host, HostError
from lib_memstab.host.rows import Parts, Rows, as_sampled, hardest, hardest_places, predictions, read
from lib_memstab.host.texts import PassTexts

log = logging.getLogger("memstab")


class Pass:
    """One sampling pass of one batch.

    `ends_for` are the images whose alarms end it, once all of them are flagged; None: it goes on to its last step.
    `last` says that no other seed comes after this one.
    """

    def __init__(
        self,
        host: Host,
        facts: PassFacts,
        settings: JobSettings,
        applied: Applied,
        learning: bool = False,
        ends_for: Sequence[int] | None = None,
        last: bool = True,
    ) -> None:
        self.facts, self.settings, self.applied = facts, settings, applied
        self.steps_done, self.steps_planned = 0, facts.steps
        self.ended = False
        self._ends_for, self._last = ends_for, last
        self._host = host
        self._checkpoint = host.checkpoint()
        self._monitor: Monitor | None = None
        self._texts: PassTexts | None = None
        self._parts: Parts | None = None
        self._encoded: dict[str, Any] = {}
        self._may_look = False
        self._failed: str | None = None
        self._ended: str | None = None
        # What LoRAs pull is not the checkpoint's.
        self._recorder = Recorder() if learning and not facts.loras else None

    def before(self, params: Any) -> None:
        """Before an evaluation: flagged images' text rows are replaced."""
        self.steps_planned = getattr(params.denoiser, "steps", None) or self.steps_planned
        idle = self.applied.profile is None and self._recorder is None
        if idle or self._failed is not None or self._ended is not None:
            return
        try:
            self._before(params)
        except Exception as error:  # noqa: BLE001 - the user's picture must not depend on this program
            self._fail(error)

    def after(self, params: Any, out: Tensor, guided: Any) -> None:
        """After it: measured and judged; what goes on is changed for flagged images only."""
        if self._monitor is None or self._failed is not None or self._ended is not None:
            return
        try:
            self._after(params, out, guided)
        except Exception as error:  # noqa: BLE001 - the user's picture must not depend on this program
            self._fail(error)

    def ends(self) -> bool:
        """After a step: whether sampling ends here. The one look at a flag from the host's side in a loop."""
        flagged = None if self._monitor is None or self._monitor.reason is not None else self._monitor.flagged
        failed = self._failed is not None or self._ended is not None
        if self._ends_for is None or flagged is None or failed or self.steps_done >= self.steps_planned:
            return False
        try:
            self.ended = bool(flagged[list(self._ends_for)].all())
        except Exception as error:  # noqa: BLE001 - the user's picture must not depend on this program
            self._fail(error)
        return self.ended

    def _before(self, params: Any) -> None:
        checkpoint = self._host.checkpoint()
        if checkpoint != self._checkpoint:
            self._ended = f"from evaluation {self._evaluations() + 1} on another checkpoint, {checkpoint.name}, sampled"
            return
        if self._monitor is None:
            self._monitor = self._begin(params)
        if not self._monitor.acts or self._monitor.reason is not None:
            return
        text = params.text_cond
        features = text["crossattn"] if isinstance(text, dict) else text
        assert self._parts is not None
        self._monitor.rows = self._pass_texts().rows(params.denoiser.step, features, self._parts.owner)
        swapped = self._monitor.condition(features)
        if swapped is features:
            return
        if isinstance(text, dict):
            # The host's own kind of dictionary also knows its shape.
            copy: Any = type(text)
            copy = copy(text, swapped.shape) if hasattr(text, "shape") else copy(text)
            copy["crossattn"] = swapped
            params.text_cond = copy
        else:
            params.text_cond = swapped

    def _pass_texts(self) -> PassTexts:
        if self._texts is None:
            self._texts = PassTexts(self._host, self.facts.prompts, *self.facts.schedule)
        return self._texts

    def _begin(self, params: Any) -> Monitor:
        denoiser = params.denoiser
        if getattr(denoiser, "image_cfg_scale", None) not in (None, 1.0):
            raise HostError("a checkpoint that edits by instruction guides in a way of its own")
        weights = [[part.weight for part in own] for own in denoiser.sampler.sampler_extra_args["cond"].batch]
        self._parts = Parts.of(weights, params.x.device)
        if not self._parts.single or denoiser.nmask is not None:
            self._recorder = None
        # A hires pass finishes what the base pass began, which had its look.
        self._may_look = self.facts.name == "base" and not self._host.pictured(params)
        region: Region | None = None
        guidance, of_users = self.facts.guidance, True
        if self.applied.profile is not None:
            region = judging_region(self.applied.profile, self.facts.mode)
            covered = self.applied.profile.modes[self.facts.mode].covered
            of_users = not chosen(covered)
            if self.facts.sampler not in covered.samplers:
                # To other samplers' paths a scale is what it is to a denoiser.
                guidance *= _share(denoiser)
        return Monitor(
            region,
            monitor_settings(self.settings, self._last),
            Windows(self.settings.strength),
            guidance,
            negative=self.facts.negative,
            # img2img begins near its end: it cannot wait for a look to be alike, and carries over well.
            calibrated=(self.applied.state == "exact" and of_users) or self.facts.mode == "img2img",
        )

    def _after(self, params: Any, out: Tensor, guided: Any) -> None:
        monitor, parts, denoiser = self._monitor, self._parts, params.denoiser
        assert monitor is not None
        assert parts is not None
        alphas = getattr(denoiser, "alphas", None)
        rows = read(params.x, params.sigma, out, parts, alphas)
        if self._recorder is not None:
            self._recorder.update(measure(rows.sigma, rows.judged, rows.eps_uncond))
        scale = denoiser.sampler.sampler_extra_args["cond_scale"] * _share(denoiser)
        plain = rows.eps_uncond + scale * (rows.eps_cond - rows.eps_uncond)
        ours = monitor.evaluated(
            rows.x,
            rows.sigma,
            rows.eps_cond,
            rows.eps_uncond,
            plain,
            guidance=scale,
            judged=rows.judged,
            hardest=rows.hardest,
            without=lambda: self._without(params, rows, parts, alphas),
            again=partial(self._again, params, rows, parts, alphas) if self._may_look else None,
        )
        if ours is plain or monitor.flagged is None:
            return
        change = ours - plain
        if alphas is None:
            change = -spread(rows.sigma, change) * change
            if denoiser.nmask is not None and not denoiser.mask_before_denoising:
                change = change * denoiser.nmask
        acting = spread(monitor.flagged & ~rows.copied, guided.x) > 0
        guided.x = torch.where(acting, guided.x + change.to(guided.x.dtype), guided.x)

    def _without(self, params: Any, rows: Rows, parts: Parts, alphas: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See `core.beginning.WithoutPrompt`."""
        places = len(parts.owner) + torch.arange(parts.count, device=params.x.device)
        eps = self._predict(params, "", places, params.x[places], params.sigma[places], alphas)
        return eps, hardest(rows.with_prompt, rows.sigma, eps, parts)

    def _again(
        self,
        params: Any,
        rows: Rows,
        parts: Parts,
        alphas: Tensor | None,
        images: Tensor,
        x: Tensor,
        sigma: Tensor,
        of: Of,
    ) -> tuple[Tensor, Tensor]:
        """See `core.second_look.Again`."""
        x, level = as_sampled(x.to(params.x), float(sigma[0]), params.sigma, alphas)
        eps_uncond = self._predict(params, "", len(parts.owner) + images, x, level, alphas)
        if of == "hardest part":
            out = self._host.predict(params, hardest_places(rows, parts, images), x, level)
            return predictions(x, level, out, alphas), eps_uncond
        if of == "one text":
            texts = self._pass_texts().joined(params.denoiser.step, parts.owner, parts.weight)
            found = [
                self._predict(params, texts[image], len(parts.owner) + images[[row]], x[[row]], level[[row]], alphas)
                for row, image in enumerate(images.tolist())
            ]
            return torch.cat(found), eps_uncond
        places = (parts.owner[:, None] == images).any(1).nonzero().flatten()
        own = torch.searchsorted(images, parts.owner[places])
        out = self._host.predict(params, places, x[own], level[own])
        pull = predictions(x[own], level[own], out, alphas) - eps_uncond[own]
        return eps_uncond.index_add(0, own, pull * spread(parts.weight[places], pull)), eps_uncond

    def _predict(
        self, params: Any, text: str, places: Tensor, x: Tensor, level: Tensor, alphas: Tensor | None
    ) -> Tensor:
        """Noise predictions of one text, or without any, for these rows of an evaluation, at `x` and `level`."""
        if text not in self._encoded:
            self._encoded[text] = self._host.encode(params, text)
        return predictions(x, level, self._host.predict(params, places, x, level, self._encoded[text]), alphas)

    def reports(self, count: int) -> list[ImageReport]:
        """What there is to tell of each of the batch's images."""
        profile = self.applied.profile
        use = None
        if profile is not None:
            use = ProfileUse(profile.name, profile.checksum, self.applied.state, self.applied.reason)
        stopped = (self.ended or self._host.stopped()) and self.steps_done < self.steps_planned
        partial = (self.steps_done, self.steps_planned) if stopped else None
        reason = self._failed or (self.applied.reason if profile is None else None)
        if self._monitor is None or reason is not None:
            reason = reason or self._ended or "the job ended before its first denoiser evaluation"
            return not_measured(count, self.settings, self._host.name, reason, partial)
        found = self._monitor.reports(count, use, self._host.name, partial)
        if self._ended is None:
            return found
        return [replace(one, reason="; ".join(part for part in (one.reason, self._ended) if part)) for one in found]

    def taught(self, reports: Sequence[ImageReport], latents: Tensor | None) -> Taught | None:
        """What can be learned from the pass, if anything; `latents` [B, C, H, W] are what came of the batch."""
        whole_pass = self._failed is None and self._ended is None and self._evaluations() > 0
        if self._recorder is None or not whole_pass:
            return None
        curves, starts = self._recorder.curves()
        tells = self.facts.name == "base" and self.facts.mode == "txt2img"
        judged = self.applied.profile is not None
        whole = self._recorder.whole()
        return Taught(self.facts, curves, starts, whole, reports, judged, latents if tells else None)

    def _evaluations(self) -> int:
        return 0 if self._monitor is None else self._monitor.evaluations

    def _fail(self, error: Exception) -> None:
        known = isinstance(error, HostError)
        self._failed = str(error) if known else f"inner error: {type(error).__name__}: {error}"
        log.warning(
            "MemStab stopped measuring this job (%s); the picture is as without it",
            self._failed,
            exc_info=None if known else error,
        )


def monitor_settings(settings: JobSettings, last: bool = True) -> Settings:
    """What the core takes of a user's settings; `last`: no other seed comes after this one."""
    return Settings(settings.mode, settings.sensitivity, settings.strength, last)


def not_measured(
    count: int, settings: JobSettings, host: str, reason: str, partial: tuple[int, int] | None = None
) -> list[ImageReport]:
    """The reports of `count` images of which nothing is known."""
    rule = Windows(settings.strength)
    return Monitor(None, monitor_settings(settings), rule, 1.0, reason=reason).reports(count, None, host, partial)


def _share(denoiser: Any) -> float:
    """The share of the guidance scale that the host guides by: less than all of it with DDIM CFG++."""
    return float(getattr(denoiser, "cond_scale_miltiplier", 1.0))
