"""Detectors of the field, and ours, on the same trajectories: one score for each evaluation, larger for memorized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lib_memstab.core.detection import Detector
from lib_memstab.core.measurement import measure
from lib_memstab.core.region import FloatArray, Region
from lib_memstab.lab.attention import Reading, entropy
from lib_memstab.lab.sampling import Evaluate
from lib_memstab.lab.sd1_layout import LabModel

SD1_NUMBERS = 4 * 64 * 64
"""Numbers in a latent of SD 1.4 at 512x512, whose norm the authors' weights belong to."""


@dataclass(frozen=True)
class Look:
    """One denoiser evaluation of a batch as a detector may see it.

    Attributes:
        x, sigma: latents [B, C, h, w] = x0 + sigma noise, sigma [B].
        eps_cond, eps_uncond: noise predictions [B, C, h, w] with and without the prompt.
        text, empty: text rows [B, T, D] of prompt and negative prompt.
        attention: mean cross-attention of the prompt's rows, [B, T], sums to 1.
        evaluate: asks the denoiser once more.
    """

    x: Tensor
    sigma: Tensor
    eps_cond: Tensor
    eps_uncond: Tensor
    text: Tensor
    empty: Tensor
    attention: Tensor
    evaluate: Evaluate


class RivalDetector:
    """A detector of one batch: a score at each evaluation, averaged over as many as are looked at."""

    name: ClassVar[str]
    extra: ClassVar[int] = 0
    """Evaluations of the denoiser that it asks for beside the sampler's own, at each step of each image."""

    def score(self, look: Look) -> Tensor:
        """Score [B] of this evaluation, larger for memorized."""
        raise NotImplementedError

    def over(self, scores: FloatArray) -> FloatArray:
        """What a trajectory's scores [steps, N] say together, [N]."""
        mean: FloatArray = scores.mean(axis=0)
        return mean


class OurDetector(RivalDetector):
    """MemStab: how far the path so far is outside the stability region, at its worst (`core.detection`)."""

    name = "MemStab"

    def __init__(self, region: Region, guidance: float) -> None:
        # The threshold counts steps outside; it has no part in the score.
        self._detector = Detector(region, np.inf, guidance)

    def score(self, look: Look) -> Tensor:
        """The excess of this evaluation."""
        return self._detector.update(measure(look.sigma, look.eps_cond, look.eps_uncond)).excess

    def over(self, scores: FloatArray) -> FloatArray:
        """The largest excess."""
        largest: FloatArray = scores.max(axis=0)
        return largest


class GuidanceMagnitude(RivalDetector):
    """The size of the guidance term (Wen et al. 2024, "Detecting, Explaining, and Mitigating Memorization").

    The authors average over the first steps and over up to 32 images of a prompt; here one image is judged. Their size
    is a sum over a latent, this one a mean, which ranks the same.
    """

    name = "guidance magnitude (Wen 2024)"

    def score(self, look: Look) -> Tensor:
        """Root mean square of the guidance term."""
        return rms(look.eps_cond - look.eps_uncond)


class NormAndAngle(RivalDetector):
    """Size of the guidance term and its angle to the unconditional score (Asthana and Belagiannis 2026).

    The size is that of this evaluation. The angle is asked for at a low noise level with the same latent: the cosine
    over the channels of each position, averaged. The authors look at the first step; here every step is scored so. Size
    and cosine are weighted 1 and 2, as they have it for SD 1.4 (for SD 2: 1 and 0.1); nothing was chosen for the lab
    model. So that the weights mean the same, the size is stretched to a latent of SD 1.4's 4x64x64 numbers.
    """

    name = "norm and angle (Asthana 2026)"
    extra = 2
    LOW_STEP: ClassVar[int] = 41
    """Training step of the low noise level: the last but two of the authors' 50."""
    WEIGHTS: ClassVar[tuple[float, float]] = (1.0, 2.0)

    def __init__(self, model: LabModel) -> None:
        signal = model.alphas_cumprod[self.LOW_STEP]
        self._low = ((1 - signal) / signal).sqrt()

    def score(self, look: Look) -> Tensor:
        """The weighted sum."""
        low = self._low.to(look.sigma).expand_as(look.sigma)
        x = look.x * ((low**2 + 1) / (look.sigma**2 + 1)).sqrt()[:, None, None, None]
        both = look.evaluate(torch.cat([x, x]), torch.cat([low, low]), torch.cat([look.text, look.empty]))
        cond, uncond = both.float().chunk(2)
        cosine = functional.cosine_similarity(uncond, cond - uncond, dim=1).flatten(1).mean(1)
        size = rms(look.eps_cond - look.eps_uncond) * SD1_NUMBERS**0.5
        return self.WEIGHTS[0] * size + self.WEIGHTS[1] * cosine


class AttentionEntropy(RivalDetector):
    """Entropy of the cross-attention over the prompt's tokens (Ren et al. 2024, "through Cross Attention").

    Attention is averaged over heads, positions and all layers of the UNet. The authors have two scores for SD 1.4: this
    entropy over the last ten of 50 steps, plus the change of the padding's share of it since the first step; or the
    entropy of one layer, the fourth, at the first step. Neither the second term nor the choice of a layer is made here.
    """

    name = "attention entropy (Ren 2024)"

    def score(self, look: Look) -> Tensor:
        """The entropy, in nats."""
        return entropy(look.attention)


def rms(latent: Tensor) -> Tensor:
    """Root mean square [B] of each latent [B, C, h, w], in float32."""
    return latent.float().square().flatten(1).mean(1).sqrt()


def detectors(model: LabModel, region: Region, guidance: float) -> list[RivalDetector]:
    """A fresh one of each, ours first, for one batch."""
    return [OurDetector(region, guidance), GuidanceMagnitude(), NormAndAngle(model), AttentionEntropy()]


class Scoring:
    """Watches a batch without touching it and keeps every detector's scores; sample inside its reading's processors."""

    def __init__(self, found: list[RivalDetector], empty: Tensor, reading: Reading) -> None:
        self._found, self._empty, self._reading = found, empty, reading
        self._text = empty
        self._scores: dict[str, list[Tensor]] = {one.name: [] for one in found}

    def condition(self, text: Tensor) -> Tensor:
        """The text as it is."""
        self._text = text
        return text

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """The prediction as it is, scored."""
        attention = self._reading.take()[: len(x)]
        look = Look(x, sigma, eps_cond, eps_uncond, self._text, self._empty, attention, evaluate)
        for one in self._found:
            self._scores[one.name].append(one.score(look))
        self._reading.drop()
        return eps

    def scores(self) -> dict[str, FloatArray]:
        """Each detector's scores, [steps, B]."""
        return {name: torch.stack(rows).double().cpu().numpy() for name, rows in self._scores.items()}
