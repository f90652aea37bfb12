"""What MemStab needs to know of the program it runs in; `a1111.py` answers for AUTOMATIC1111's WebUI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from torch import Tensor

from lib_memstab.core.profile import Checkpoint, Prediction
from lib_memstab.core.windows import Chunk, Encode


class HostError(RuntimeError):
    """The host is not as MemStab needs it; the message says what differs and becomes the badge's reason."""


@dataclass(frozen=True)
class Schedule:
    """A text over the steps of a pass: each entry holds until its last step, as prompt editing has it."""

    ends: tuple[int, ...]
    texts: tuple[str, ...]

    def at(self, step: int) -> int:
        """The entry in use at a step; like the host, the first one where the step is beyond all of them."""
        return next((index for index, end in enumerate(self.ends) if step <= end), 0)


class Host(Protocol):
    """The program around MemStab."""

    name: str
    """Program and version, for the badge."""

    def checkpoint(self) -> Checkpoint:
        """The checkpoint that is loaded now."""

    def prediction(self) -> Prediction:
        """What the loaded model predicts."""

    def empty_text(self) -> Tensor:
        """The empty prompt's text features, [1, T, D]."""

    def encode(self, params: Any, text: str) -> Any:
        """A text's features for `predict` in the pass of which `params` is an evaluation; an empty one: no prompt."""

    def predict(self, params: Any, places: Tensor, x: Tensor, level: Tensor, text: Any = None) -> Tensor:
        """The model's predictions [N, C, H, W] at other latents `x` and levels [N], as `params.x` and `params.sigma`
        have them, for these rows, int64 [N], of the evaluation `params` that just was: with their own texts, or all
        with one of `encode`. An extra evaluation of which no callback hears.
        """

    def pictured(self, params: Any) -> bool:
        """Whether the model is shown a picture beside the latents, so that all it makes of a prompt is alike."""

    def chunks(self, text: str) -> list[Chunk]:
        """A text's chunks as the host encodes them."""

    def encoder(self, text: str) -> Encode | None:
        """What encodes pieces of a text; None where its pieces cannot be encoded by themselves."""

    def schedules(self, prompts: Sequence[str], steps: int, hires_steps: int | None) -> list[list[Schedule]]:
        """For each prompt its AND parts, each as a schedule over the steps of the pass."""

    def stopped(self) -> bool:
        """Whether the user interrupted or skipped."""

    def end_pass(self) -> NoReturn:
        """Raise what ends a sampler's loop when its callback raises it; the job goes on with the latents so far."""

    def noise(self, p: Any, seeds: Sequence[int]) -> Any:
        """The noise of these seeds for the job `p`, which is left as it is."""

    def reseed(self, p: Any, seeds: Sequence[int]) -> None:
        """Make the job `p` ready to sample its batch once more, from the noise of these seeds."""
