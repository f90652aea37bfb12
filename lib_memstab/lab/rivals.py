"""Published rivals on the lab model: what other detectors say of a trajectory, and what other mitigations make of it.

The mitigations run on every image from the first evaluation on, as their authors use them; none looks for a replay.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lib_memstab.core.region import FloatArray
from lib_memstab.core.suppression import spread
from lib_memstab.lab.sampling import Evaluate


def detector_scores(uncond: FloatArray, cross: FloatArray, delta: FloatArray) -> dict[str, FloatArray]:
    """Scores [steps, N] of rival detectors, larger for memorized, from the mean products of `core.measurement`.

    Wen et al. 2024: the size of the guidance term. Asthana and Belagiannis 2026: that size together with its angle to
    the unconditional prediction; read here as the sum of log size and cosine, each in units of its spread.
    """
    size = np.sqrt(delta)
    cosine = cross / np.sqrt(np.maximum(delta * uncond, 1e-20))
    return {"guidance magnitude (Wen 2024)": size, "norm and angle (Asthana 2026)": np.log(size) / 0.5 + cosine / 0.2}


class Mitigation:
    """Leaves every prediction as it is: no method."""

    name: ClassVar[str] = "no method"

    def condition(self, text: Tensor) -> Tensor:
        """The text as it is."""
        return text

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """Noise prediction to go on with, [B, C, H, W]."""
        return eps


class NoGuidance(Mitigation):
    """The unconditional prediction at every evaluation."""

    name = "guidance off"

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """The prediction without the prompt."""
        return eps_uncond


class HeldBack(Mitigation):
    """No guidance until the transition point, then full guidance (Jain et al. 2025).

    The dynamic transition point is where the guidance term's size passes its first local minimum. `before` is the
    guidance until then: 0, or negative for "opposite guidance".
    """

    name = "held back to the transition point (Jain 2025)"
    before: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self._size: Tensor | None = None
        self._falling: Tensor | None = None
        self._passed: Tensor | None = None

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """The held-back prediction of images that have not passed their transition point, the guided one of others."""
        delta = eps_cond - eps_uncond
        size = delta.float().flatten(1).norm(dim=1)
        if self._size is None or self._falling is None or self._passed is None:
            self._falling = torch.zeros_like(size, dtype=torch.bool)
            self._passed = torch.zeros_like(size, dtype=torch.bool)
        else:
            self._passed = self._passed | (self._falling & (size > self._size))
            self._falling = size < self._size
        self._size = size
        return torch.where(spread(self._passed, eps) > 0, eps, eps_uncond + self.before * delta)


class Opposite(HeldBack):
    """Guidance away from the prompt until the transition point, then full guidance (Jain et al. 2025)."""

    name = "opposite guidance to the transition point (Jain 2025)"
    before = -1.0


MITIGATIONS: tuple[type[Mitigation], ...] = (NoGuidance, HeldBack, Opposite)
