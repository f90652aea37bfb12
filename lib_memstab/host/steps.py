"""The sampler's own callback, counted: how many sampling steps a pass has done."""

from __future__ import annotations

from typing import Any, Protocol


class Counted(Protocol):
    """What has steps to count."""

    steps_done: int


class StepCounter:
    """Stands for a sampler's `callback_state` and calls it; its target changes with the pass."""

    def __init__(self, original: Any, target: Counted) -> None:
        self._original, self.target = original, target

    def __call__(self, state: dict[str, Any]) -> Any:
        """One step, as the sampler tells it."""
        self.target.steps_done = max(self.target.steps_done, int(state["i"]) + 1)
        return self._original(state)


def count_steps(sampler: Any, target: Counted) -> None:
    """Count `sampler`'s steps in `target`; a sampler that serves several passes is wrapped once."""
    current = sampler.callback_state
    if isinstance(current, StepCounter):
        current.target = target
    else:
        sampler.callback_state = StepCounter(current, target)
