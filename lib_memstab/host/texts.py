"""A pass's texts step by step: which rows are the user's words, and the prompts read in windows.

The host's texts come in chunks of as many rows as the empty prompt has. Rows before the first chunk are no text: by one
of them ControlNet tells rows with a prompt from those with the negative one. They stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lib_memstab.core.suppression import TextRows, end_swapped
from lib_memstab.core.windows import GLIMPSES, HALVES, Chunk, read
from lib_memstab.host.port import Host, HostError, Schedule


class PassTexts:
    """The texts of one pass: schedules of each image's AND parts, their masks and readings as they are asked for."""

    def __init__(self, host: Host, prompts: Sequence[str], steps: int, hires_steps: int | None) -> None:
        self._host = host
        self.schedules: list[list[Schedule]] = host.schedules(prompts, steps, hires_steps)
        self._parts = [part for own in self.schedules for part in own]
        self._known: dict[str, tuple[list[Chunk], Tensor | None]] = {}
        self._rows: dict[tuple[tuple[str, ...], int], TextRows] = {}
        self._empty: Tensor | None = None
        self._chunk_rows = 0

    def rows(self, step: int, text: Tensor, owner: Tensor) -> TextRows:
        """What may be replaced in the text rows [R, T, D] of this step; `owner` [R] says whose they are.

        Raises:
            HostError: if the host encoded other texts than the prompts have.
        """
        current = self._current(step)
        if len(current) != len(text):
            raise HostError(f"the host encoded {len(text)} texts where the prompts have {len(current)}")
        key = current, text.shape[1]
        if key not in self._rows:
            self._rows[key] = self._put_together(current, text, owner)
        return self._rows[key]

    def joined(self, step: int, owner: Tensor, weight: Tensor) -> list[str]:
        """The parts of each image's prompt at this step in a row, those without weight left out.

        `owner` and `weight` [R] are those of the parts' rows.
        """
        parts = list(zip(owner.tolist(), weight.tolist(), self._current(step), strict=True))
        return [
            " ".join(text for own, share, text in parts if own == image and share > 0)
            for image in range(len(self.schedules))
        ]

    def _current(self, step: int) -> tuple[str, ...]:
        return tuple(part.texts[part.at(step)] for part in self._parts)

    def _put_together(self, current: Sequence[str], text: Tensor, owner: Tensor) -> TextRows:
        known = {one: self._of(one) for one in dict.fromkeys(current)}
        empty = self._empty_rows(text)
        before = text.shape[1] % self._chunk_rows
        masks = [[True] * before + self._mask(known[one][0], text.shape[1] - before) for one in current]
        rows = TextRows(empty, torch.tensor(masks).to(text.device), owner)
        swapped = end_swapped(text, rows)
        # What cannot be read in pieces has its end swapped and, where that is not enough, is the empty prompt.
        halves, glimpses = swapped.clone(), rows.empty.expand_as(text).clone()
        for index, one in enumerate(current):
            read_rows = known[one][1]
            if read_rows is not None:
                halves[index] = glimpses[index] = rows.empty[0]
                places = slice(before, before + read_rows.shape[1])
                halves[index, places], glimpses[index, places] = read_rows.to(text)
        return replace(rows, halves=halves, glimpses=glimpses)

    def _of(self, text: str) -> tuple[list[Chunk], Tensor | None]:
        """A text's chunks, and what it is under both readings, [2, T, D], if its pieces can be encoded."""
        if text not in self._known:
            chunks, encode = self._host.chunks(text), self._host.encoder(text)
            both = None
            if encode is not None:
                empty = self._host.chunks("")[0]
                both = torch.cat([read(chunk, empty, encode, (HALVES, GLIMPSES)) for chunk in chunks], dim=1)
            self._known[text] = chunks, both
        return self._known[text]

    @staticmethod
    def _mask(chunks: Sequence[Chunk], length: int) -> list[bool]:
        """True for begin marks and words, False for end marks and padding, over all chunks of a text."""
        mask = [place <= chunk.count for chunk in chunks for place in range(len(chunk.tokens))]
        if len(mask) > length:
            raise HostError(f"a prompt has {len(mask)} tokens and the host encoded {length}")
        return mask + [False] * (length - len(mask))

    def _empty_rows(self, text: Tensor) -> Tensor:
        """The empty prompt's rows, repeated chunk by chunk to the length of the job's texts."""
        if self._empty is None or self._empty.shape[1] != text.shape[1]:
            empty = self._host.empty_text().to(text)
            self._chunk_rows = empty.shape[1]
            chunks, before = divmod(text.shape[1], self._chunk_rows)
            if not chunks or empty.shape[2] != text.shape[2]:
                raise HostError("the empty prompt's text does not fit the job's")
            self._empty = torch.cat([text[:1, :before], empty.repeat(1, chunks, 1)], dim=1)
        return self._empty
