"""When a path that has a negative prompt is measured against no prompt: at its beginning, by extra evaluations."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

Phase = Literal["measured", "held", "over"]


class Beginning:
    """Follows the noise levels of one batch down to the end of the beginning.

    Each extra evaluation is a step of noise level away from the last one, so that samplers with many small steps pay
    no more of them than those with few: seven at most. Noise levels are read back from the device until the beginning
    is over, as the samplers themselves do at every step.

    Attributes:
        evaluations: extra ones so far.
    """

    SHARE: ClassVar[float] = 0.4
    """Of the first noise level, where the beginning ends."""
    SPACING: ClassVar[float] = 0.85
    """Noise level of an extra evaluation, at most, in units of that of the one before it."""

    def __init__(self) -> None:
        self.evaluations = 0
        self._first: float | None = None
        self._last = 0.0
        self._over = False

    def at(self, sigma: Tensor) -> Phase:
        """What this evaluation is, by its noise levels [B], which a batch's images share."""
        if self._over:
            return "over"
        level = float(sigma[0])
        first = self._first is None
        if self._first is None:
            self._first = level
        self._over = level < self.SHARE * self._first
        if self._over:
            return "over"
        if not first and level > self.SPACING * self._last:
            return "held"
        self._last = level
        self.evaluations += 1
        return "measured"
