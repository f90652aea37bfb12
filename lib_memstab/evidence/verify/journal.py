"""What an unfinished verification keeps of each picture; see `evidence.journal` for the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_memstab.core.plain import added
from lib_memstab.evidence import journal
from lib_memstab.evidence.verify.plan import Mode

Key = tuple[int, int, Mode]


@dataclass(frozen=True)
class Entry:
    """What is kept of one picture.

    Attributes:
        subject, seed, mode: which picture it is.
        pixels: sha256 of its pixels.
        seconds: it took.
        verdict: of its badge; empty where MemStab was off. So are those that follow.
        reason: the badge's.
        score, p_value: the badge's.
        first_outside: first evaluation outside the region, from 1.
        extra: denoiser evaluations beyond the sampler's own.
        excess: of every evaluation, as a share of the way from the region's centre to the bound it was held against.
        whole: every evaluation could be measured, so that `excess` is exact from the first on.
        profile, match: what it was judged by, and how well that fits.
        reference: how alike it is to its training picture; None where that is not known.
        descriptor: what it is compared by with pictures of other seeds, in base 64; empty where it is not.
        alike: the second look's likeness; None without one.
    """

    subject: int
    seed: int
    mode: Mode
    pixels: str
    seconds: float
    verdict: str
    reason: str
    score: float | None
    p_value: float | None
    first_outside: int | None
    extra: int
    excess: tuple[float | None, ...]
    whole: bool
    profile: str
    match: str
    reference: float | None
    descriptor: str
    alike: float | None = added(None)

    @property
    def key(self) -> Key:
        """Which picture it is."""
        return self.subject, self.seed, self.mode


class Journal(journal.Journal[Entry]):
    """The pictures of one verification that are made, by `Entry.key`; errors as `evidence.journal` has them."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(path, settings, Entry)
