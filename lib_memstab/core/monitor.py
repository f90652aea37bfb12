"""One job: observe every denoiser evaluation, judge each image, suppress where it is outside, report at the end."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lib_memstab import __version__
from lib_memstab.core.beginning import Beginning, Judged, WithoutPrompt
from lib_memstab.core.detection import Detector
from lib_memstab.core.evaluation import Evaluate, Evaluation, spread
from lib_memstab.core.measurement import measure
from lib_memstab.core.region import Region
from lib_memstab.core.report import (
    DEFAULT_SENSITIVITY,
    HEAT_SIDE,
    ImageReport,
    JobMode,
    ProfileUse,
    StepCounts,
    Trace,
)
from lib_memstab.core.second_look import Again, Of, SecondLooks
from lib_memstab.core.suppression import Flags, Rule, TextRows
from lib_memstab.core.telling import Found, told

log = logging.getLogger("memstab")


@dataclass(frozen=True)
class Settings:
    """What a user chooses: mode, about one false alarm in `sensitivity` ordinary images, and how hard to pull back.

    `last` says in the mode retry that no other seed comes after this one: then a flagged image is steered away.
    """

    mode: JobMode = "suppress"
    sensitivity: float = DEFAULT_SENSITIVITY
    strength: float = 1.0
    last: bool = True


def heat(delta: Tensor) -> Tensor:
    """Where the prompt pulls: the size of `delta` [B, C, H, W] over channels, on at most 16 by 16 places, [B, h, w]."""
    height, width = (min(side, HEAT_SIDE) for side in delta.shape[2:])
    return functional.adaptive_avg_pool2d(delta.float().square().mean(1), (height, width)).sqrt()


class Monitor:
    """Watches one job's denoiser; its two hooks are called around every evaluation with the job's whole batch.

    `region` None, or a `reason`, makes every verdict "not measured" and leaves every tensor as it is. `calibrated`:
    whether the region is of such ways of sampling and such prompts. An error inside ends the measurement, not the job:
    it is logged once, and tensors pass through unchanged from then on.
    """

    def __init__(
        self,
        region: Region | None,
        settings: Settings,
        rule: Rule,
        guidance: float,
        rows: TextRows | None = None,
        reason: str | None = None,
        negative: bool = False,
        calibrated: bool = True,
    ) -> None:
        self.settings, self.rule, self.guidance, self.rows = settings, rule, guidance, rows
        self.reason = reason if region is not None else reason or "no profile"
        self.detector = (
            None if region is None else Detector(region, region.threshold(settings.sensitivity), guidance, negative)
        )
        self._once_in_100 = math.inf if region is None else region.threshold(100)
        self.flagged: Tensor | None = None
        self.suppressed: Tensor | None = None
        self.heat: Tensor | None = None
        self.evaluations = 0
        self._text: Tensor | None = None
        self._beginning = Beginning(self.detector) if negative and self.detector is not None else None
        self._looks = (
            None
            if region is None or self.detector is None
            else SecondLooks(region, settings.sensitivity, guidance, negative, calibrated)
        )

    @property
    def acts(self) -> bool:
        """Whether flagged images are touched: by the mode, and not at strength 0."""
        steers = self.settings.mode == "suppress" or (self.settings.mode == "retry" and self.settings.last)
        return steers and self.settings.strength > 0

    def condition(self, text: Tensor) -> Tensor:
        """Before an evaluation: the text rows [B, T, D] to evaluate with; [R, T, D] where `rows` has owners."""
        self._text = text
        if self.reason is not None or self.flagged is None or self.rows is None or not self.acts:
            return text
        try:
            flagged = self.rows.of_rows(self.flagged)
            self._text = torch.where(spread(flagged, text) > 0, self.rule.condition(text, self.rows), text)
        except Exception as error:  # noqa: BLE001 - the user's picture must not depend on this program
            self._give_up(error)
        return self._text if self.reason is None else text

    def evaluated(
        self,
        x: Tensor,
        sigma: Tensor,
        eps_cond: Tensor,
        eps_uncond: Tensor,
        eps: Tensor,
        evaluate: Evaluate | None = None,
        guidance: float | None = None,
        judged: Tensor | None = None,
        hardest: Tensor | None = None,
        without: WithoutPrompt | None = None,
        again: Again | None = None,
    ) -> Tensor:
        """After an evaluation: the guided noise prediction to go on with; `eps` [B, C, H, W] if nothing is flagged.

        `guidance` is the scale this evaluation was guided with, if it is not the job's. `judged` is the conditional
        prediction that an image is judged by, if that is not `eps_cond`: the parts' mean, where a prompt has several;
        `hardest` [B] is then the update norm of the part that pulls hardest. `without` is called at the beginning of a
        job with a negative prompt, `again` for images that get a second look; if there is none of them, `evaluate` does
        the same, for prompts of one part.
        """
        self.evaluations += 1
        if self.reason is not None or self.detector is None:
            return eps
        try:
            scale = self.guidance if guidance is None else guidance
            judged = eps_cond if judged is None else judged
            measured = measure(sigma, judged, eps_uncond)
            found = Evaluation(x, sigma, eps_cond, eps_uncond, eps, scale, self._text, evaluate, measured, hardest)
            again = again or self._again(found)
            if self._beginning is None:
                step = self.detector.update(measured, hardest)
                return self._judge(Judged(found, step, step, judged - eps_uncond), again)
            without = without or self._without_prompt(found)
            return self._judge(self._beginning.take(found, judged, hardest, without, self._steered), again)
        except Exception as error:  # noqa: BLE001 - the user's picture must not depend on this program
            self._give_up(error)
            return eps

    def _without_prompt(self, evaluation: Evaluation) -> WithoutPrompt | None:
        """The empty prompt's prediction by an evaluation of its text, where the host gives no other way."""
        evaluate, rows, x = evaluation.evaluate, self.rows, evaluation.x
        if evaluate is None or rows is None:
            return None
        return lambda: (evaluate(x, evaluation.sigma, rows.empty.to(x).expand(len(x), -1, -1)), None)

    def _again(self, evaluation: Evaluation) -> Again | None:
        """Both by evaluations of their texts, where the host gives no other way and an image has one text row."""
        evaluate, rows, text = evaluation.evaluate, self.rows, evaluation.text
        if evaluate is None or rows is None or text is None or rows.owner is not None:
            return None

        def again(images: Tensor, x: Tensor, sigma: Tensor, of: Of) -> tuple[Tensor, Tensor]:
            empty = rows.empty.to(x).expand(len(x), -1, -1)
            return evaluate(x, sigma, text[images]), evaluate(x, sigma, empty)

        return again

    def _steered(self) -> Tensor | None:
        """Which images are being steered away, bool [B]; None where nothing is."""
        return self.flagged if self.acts else None

    def _by_part(self, evaluation: Evaluation) -> Tensor | None:
        """Which images are judged by one part of their prompt; None where prompts have one part."""
        assert self.detector is not None
        return None if evaluation.hardest is None else self.detector.by_part

    def _wakes(self, evaluation: Evaluation) -> bool:
        """Whether there is anything to do but measure: most images are never suspicious, and cost no more than that."""
        assert self.detector is not None
        assert self._looks is not None
        return self._looks.awake(evaluation.sigma, self.detector.reach, self._by_part(evaluation))

    def _judge(self, found: Judged, again: Again | None) -> Tensor:
        assert self.detector is not None
        assert self._looks is not None
        evaluation, step, limits = found.evaluation, found.step, found.limits
        if again is not None and not self._wakes(evaluation):
            self.detector.spare()
            self.rule.spare(evaluation)
            return evaluation.eps
        excess = step.excess
        before = torch.zeros_like(excess, dtype=torch.bool) if self.flagged is None else self.flagged
        bounds = None
        if again is not None:
            detector, by_part = self.detector, self._by_part(evaluation)
            bounds = self._looks.bounds(evaluation, detector.score, before, again, by_part, detector.reach)
        self.flagged = before | self.detector.judge(bounds)
        pull = heat(found.pull)
        new = spread(self.flagged & ~before, pull) > 0
        self.heat = torch.where(new, pull, torch.zeros_like(pull) if self.heat is None else self.heat)
        centre, comes_back = limits.mean.exp(), torch.full_like(excess, self._once_in_100)
        comes_back = comes_back if bounds is None else torch.fmin(comes_back, bounds)
        threshold = self.detector.threshold
        flags = Flags(
            self.flagged, before, excess, limits.length, centre, limits.deviation, limits.narrow, threshold, comes_back
        )
        if not self.acts:
            return evaluation.eps
        guided = self.rule.guide(evaluation, flags)
        self.suppressed = self.flagged.float() if self.suppressed is None else self.suppressed + self.flagged
        return torch.where(spread(self.flagged, guided) > 0, guided, evaluation.eps)

    def reports(
        self,
        count: int,
        profile: ProfileUse | None = None,
        host: str = "",
        partial: tuple[int, int] | None = None,
    ) -> list[ImageReport]:
        """What there is to tell of each of the job's `count` images; the one place where tensors come to the host.

        Steps are denoiser evaluations; two-stage samplers have two to a sampling step.
        """
        common = ImageReport(
            verdict="not measured",
            reason=self.reason or "the job ended before its first denoiser evaluation",
            partial=partial,
            score=None,
            p_value=None,
            sensitivity=self.settings.sensitivity,
            mode=self.settings.mode,
            profile=profile,
            steps=StepCounts(0, 0, 0, None),
            trace=Trace((), (), (), ()),
            passes=(),
            host=host,
            version=__version__,
            extra_evaluations=0,
            strength=self.settings.strength,
            rule=self.rule.name if self.acts else "",
        )
        detector = self.detector
        if self.reason is not None or detector is None or not detector.steps:
            return [common] * count
        suppressed = torch.zeros_like(detector.score) if self.suppressed is None else self.suppressed
        extra = 0 if self._beginning is None else self._beginning.levels.evaluations
        assert self._looks is not None
        looked, alike, lowest = self._looks.told(detector.score)
        facts = [detector.score, detector.measured, detector.outside_count, detector.first_outside, suppressed]
        marks = [detector.broken, detector.late]
        rows = torch.stack([*facts, looked + extra, alike, lowest, *marks]).double().T.tolist()
        curves = detector.trace().double().tolist()
        pulls = torch.zeros(len(rows), 1, 1) if self.heat is None else self.heat.cpu()
        images = zip(rows, curves, pulls, strict=True)
        return [
            told(common, Found(*row), curve, pull, self.evaluations, detector.region) for row, curve, pull in images
        ]

    def _give_up(self, error: Exception) -> None:
        self.reason = f"inner error: {type(error).__name__}: {error}"
        log.warning(
            "MemStab stopped measuring this job (%s); the picture is as without it", self.reason, exc_info=error
        )
