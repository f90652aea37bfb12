"""What the pages for programs speak for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_memstab.core.profile import Checkpoint
from lib_memstab.core.report import ImageReport
from lib_memstab.host.attacker import Attacker
from lib_memstab.host.background import Turn
from lib_memstab.host.verifier import Verifier
from lib_memstab.presets import Presets
from lib_memstab.store import Store

if TYPE_CHECKING:
    from lib_memstab.calibration.calibrator import Calibrator
    from lib_memstab.host.learner import Learner


@dataclass(frozen=True)
class Parts:
    """What the pages speak for.

    Attributes:
        host: program and version.
        checkpoint: the loaded checkpoint.
        latest: reports of the job that ended last.
        samplers, schedulers: names a calibration may use.
        size: height and width that the loaded checkpoint is made for, in pixels.
        folders: the host's output folders, which alone may be looked through.
        verifier, attacker: run verifications and attacks.
        turn: says what is on its way.
        credentials: USER:PASSWORD pairs parted by commas, as the WebUI's --api-auth has them; empty: none asked for.
    """

    host: Callable[[], str]
    store: Store
    presets: Presets
    calibrator: Callable[[], Calibrator]
    learner: Callable[[], Learner]
    checkpoint: Callable[[], Checkpoint]
    latest: Callable[[], list[ImageReport]]
    samplers: Callable[[], Collection[str]]
    schedulers: Callable[[], Collection[str]]
    size: Callable[[], tuple[int, int]]
    folders: Callable[[], Sequence[Path]]
    verifier: Callable[[], Verifier]
    attacker: Callable[[], Attacker]
    turn: Callable[[], Turn]
    credentials: str = ""
