"""How far a command of this folder is, as a bar on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""


@contextmanager
def bar(unit: str) -> Iterator[Progress]:
    """A progress bar over things called `unit`, on a terminal only."""
    with tqdm(unit=unit, disable=None) as drawn:

        def advance(done: int, total: int) -> None:
            drawn.total = total
            drawn.update(done - drawn.n)

        yield advance
