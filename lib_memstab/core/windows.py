"""A prompt read in windows: its words and their meaning, without the whole that a replay hangs on.

A memorized picture is recalled by its caption as a whole, and the end mark and padding carry that whole. So a flagged
image's text is encoded again in overlapping pieces, each by itself, and its rows are put together from theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chunk:
    """One chunk of a prompt as a text model reads it: T token numbers and T weights, begin mark first, then padding.

    `count` tokens after the begin mark are the user's words.
    """

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    count: int


Encode = Callable[[Sequence[Chunk]], Tensor]
"""Text features of some chunks, [N, T, D]."""


@dataclass(frozen=True)
class Reading:
    """How a chunk is cut: at most `width` tokens in a window, of `share` of all words at most; windows every `stride`.

    `end`: whether end mark and padding are the windows' own, or the empty prompt's.
    """

    width: int
    share: float
    stride: int
    end: bool

    def windows(self, count: int) -> list[tuple[int, int]]:
        """First token and length of each window over `count` tokens; every token is in one, all are as long."""
        width = max(1, min(self.width, math.ceil(count * self.share)))
        starts = list(range(0, max(count - width, 0) + 1, self.stride))
        if starts[-1] + width < count:
            starts.append(count - width)
        return [(start, width) for start in starts]


HALVES = Reading(width=10, share=0.5, stride=2, end=True)
GLIMPSES = Reading(width=3, share=1.0, stride=1, end=False)


def read(chunk: Chunk, empty: Chunk, encode: Encode, readings: Sequence[Reading]) -> Tensor:
    """Text features of a chunk under each reading, [readings, T, D], in one call of `encode`.

    A word's row is that of the first window that holds it, which has the most words before it. Rows after the words
    are the windows' in turn, or the empty prompt's. `empty` is the empty prompt's chunk. A chunk without words is the
    empty one under every reading.
    """
    cuts = [reading.windows(chunk.count) if chunk.count else [] for reading in readings]
    parts = [_part(chunk, empty, start, width) for windows in cuts for start, width in windows]
    encoded = encode([empty, *parts])
    without, encoded = encoded[0], encoded[1:]
    texts = []
    for reading, windows in zip(readings, cuts, strict=True):
        own, encoded = encoded[: len(windows)], encoded[len(windows) :]
        texts.append(_compose(own, without, windows, chunk.count, reading.end))
    return torch.stack(texts)


def _part(chunk: Chunk, empty: Chunk, start: int, width: int) -> Chunk:
    """A chunk of only these words."""
    words = slice(1 + start, 1 + start + width)
    rest = len(empty.tokens) - 1 - width
    tokens = (empty.tokens[0], *chunk.tokens[words], *empty.tokens[1 : 1 + rest])
    weights = (empty.weights[0], *chunk.weights[words], *empty.weights[1 : 1 + rest])
    return Chunk(tokens, weights, width)


def _compose(encoded: Tensor, without: Tensor, windows: list[tuple[int, int]], count: int, end: bool) -> Tensor:
    """Rows [T, D] put together from the windows' rows [N, T, D]."""
    rows = without.clone()
    for index in range(count):
        first = next(number for number, (start, width) in enumerate(windows) if start <= index < start + width)
        rows[1 + index] = encoded[first, 1 + index - windows[first][0]]
    if end and windows:
        place = torch.arange(1 + count, len(rows), device=rows.device)
        rows[1 + count :] = encoded[place % len(windows), place]
    return rows
