"""Pictures of a running WebUI without MemStab and with it at equal settings, each kept at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lib_memstab.evidence.journal import Journal, packed
from lib_memstab.evidence.progress import Progress
from lib_memstab.evidence.verify.plan import Mode, Taken

MODES: Final[tuple[Mode, Mode]] = ("off", "suppress")
"""Without MemStab and with it."""

Describe = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""What is kept of pictures [N, H, W, 3]: [N, D] of uint8 or float16."""


class Shooting(Protocol):
    """What takes a picture: a `WebUISource`."""

    def shoot(self, changes: Mapping[str, Any], mode: Mode) -> Taken:
        """A picture of the run's settings with these changes; SourceError if there is none to be had."""


@dataclass(frozen=True)
class Order:
    """One picture, to be taken in both modes.

    Attributes:
        subject: number of its prompt.
        name: which of the prompt's pictures it is; the journal knows it by that.
        changes: makes what its job has other than the run's settings, prompt and seed included.
    """

    subject: int
    name: str
    changes: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Kept:
    """What is kept of one picture.

    Attributes:
        subject, order, mode: which it is.
        verdict, reason, score: of its badge; empty and None where MemStab was off.
        descriptor: what it is compared by.
    """

    subject: int
    order: str
    mode: Mode
    verdict: str
    reason: str
    score: float | None
    descriptor: str

    @property
    def key(self) -> Hashable:
        """Which picture it is."""
        return self.subject, self.order, self.mode


def missing(orders: Sequence[Order], journal: Journal[Kept]) -> int:
    """How many pictures of these orders the journal does not have."""
    return sum((one.subject, one.name, mode) not in journal.done for one in orders for mode in MODES)


def take_all(
    orders: Sequence[Order], source: Shooting, journal: Journal[Kept], describe: Describe, progress: Progress
) -> None:
    """Take every picture that the journal does not have; what was taken stays there whatever ends this.

    Raises:
        SourceError: if a picture cannot be had.
        OSError: if it cannot be kept.
    """
    total = len(orders) * len(MODES)
    done = total - missing(orders, journal)
    progress(done, total)
    for order in orders:
        for mode in MODES:
            if (order.subject, order.name, mode) in journal.done:
                continue
            taken = source.shoot(order.changes(), mode)
            report, descriptor = taken.report, packed(describe(taken.pixels[None])[0])
            journal.add(
                Kept(
                    order.subject,
                    order.name,
                    mode,
                    "" if report is None else report.verdict,
                    "" if report is None else report.reason,
                    None if report is None else report.score,
                    descriptor,
                )
            )
            done += 1
            progress(done, total)
