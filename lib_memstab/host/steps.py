"""The sampler's own callback, counted: how many sampling steps a pass has done, and whether it ends here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol


class Counted(Protocol):
    """What has steps to count, and may end before the last."""

    steps_done: int

    def ends(self) -> bool:
        """Whether sampling ends with this step."""


class StepCounter:
    """Stands for a sampler's `callback_state` and calls it; its target changes with the pass.

    `end` raises what ends the sampler's loop.
    """

    def __init__(self, original: Any, target: Counted, end: Callable[[], NoReturn]) -> None:
        self._original, self.target, self._end = original, target, end

    def __call__(self, state: dict[str, Any]) -> Any:
        """One step, as the sampler tells it."""
        self.target.steps_done = max(self.target.steps_done, int(state["i"]) + 1)
        result = self._original(state)
        if self.target.ends():
            self._end()
        return result


def count_steps(sampler: Any, target: Counted, end: Callable[[], NoReturn]) -> None:
    """Count `sampler`'s steps in `target`; a sampler that serves several passes is wrapped once."""
    current = sampler.callback_state
    if isinstance(current, StepCounter):
        current.target = target
    else:
        sampler.callback_state = StepCounter(current, target, end)
