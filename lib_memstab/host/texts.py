"""Which text rows of a pass are the user's words, step by step, from the host's own tokenizer chunks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lib_memstab.core.suppression import TextRows
from lib_memstab.host.port import Host, HostError, Schedule


def word_mask(chunks: Sequence[Sequence[int]], end_mark: int) -> list[bool]:
    """True for begin marks and words, False for end marks and padding, over all chunks of a text."""
    mask: list[bool] = []
    for chunk in chunks:
        end = list(chunk).index(end_mark, 1)
        mask += [True] * end + [False] * (len(chunk) - end)
    return mask


class PassTexts:
    """The texts of one pass: schedules of each image's AND parts, and their masks as they are asked for."""

    def __init__(self, host: Host, prompts: Sequence[str], steps: int, hires_steps: int | None) -> None:
        self._host = host
        self.schedules: list[list[Schedule]] = host.schedules(prompts, steps, hires_steps)
        self._parts = [part for own in self.schedules for part in own]
        self._masks: dict[str, list[bool]] = {}
        self._words: dict[tuple[str, ...], Tensor] = {}
        self._empty: Tensor | None = None

    def rows(self, step: int, text: Tensor, owner: Tensor) -> TextRows:
        """What may be replaced in the text rows [R, T, D] of this step; `owner` [R] says whose they are.

        Raises:
            HostError: if the host encoded other texts than the prompts have.
        """
        current = tuple(part.texts[part.at(step)] for part in self._parts)
        if len(current) != len(text):
            raise HostError(f"the host encoded {len(text)} texts where the prompts have {len(current)}")
        words = self._words.get(current)
        if words is None or words.shape[1] != text.shape[1]:
            words = torch.tensor([self._mask(one, text.shape[1]) for one in current]).to(text.device)
            self._words[current] = words
        return TextRows(self._empty_rows(text), words, owner)

    def _mask(self, text: str, length: int) -> list[bool]:
        if text not in self._masks:
            self._masks[text] = word_mask(self._host.chunks(text), self._host.end_mark())
        mask = self._masks[text]
        if len(mask) > length:
            raise HostError(f"a prompt has {len(mask)} tokens and the host encoded {length}")
        return mask + [False] * (length - len(mask))

    def _empty_rows(self, text: Tensor) -> Tensor:
        """The empty prompt's rows, repeated chunk by chunk to the length of the job's texts."""
        if self._empty is None or self._empty.shape[1] != text.shape[1]:
            empty = self._host.empty_text().to(text)
            chunks, rest = divmod(text.shape[1], empty.shape[1])
            if rest or empty.shape[2] != text.shape[2]:
                raise HostError("the empty prompt's text does not fit the job's")
            self._empty = empty.repeat(1, chunks, 1)
        return self._empty
