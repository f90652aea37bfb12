"""How the tab shows a calibration while it runs: a line with a bar, and the region as far as it has grown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lib_memstab.host.tab.form import FormError
from lib_memstab.host.tab.markup import picture, sentence
from lib_memstab.host.wording import BUSY, IDLE, STOPPING

if TYPE_CHECKING:
    from lib_memstab.calibration.calibrator import Calibrator
    from lib_memstab.calibration.plan import Plan

TITLE = "where ordinary pictures walk"
REST = 4.0
"""Times as long as a drawing took nothing is drawn after it: it takes processors that sample."""


def start(calibrator: Calibrator, plan: Callable[[], Plan]) -> str:
    """Begin a calibration and give the line; if it cannot begin, the line says why."""
    try:
        note = "" if calibrator.start(plan()) else BUSY
    except FormError as error:
        return line(calibrator, str(error))
    return line(calibrator, note)


def stop(calibrator: Calibrator) -> str:
    """Ask the calibration on its way to stop, and give the line."""
    return line(calibrator, STOPPING if calibrator.stop() else IDLE)


def line(calibrator: Calibrator, note: str = "") -> str:
    """How far it is, with a bar while it runs; `memstab.js` asks again while `data-busy` says yes."""
    now, busy = calibrator.progress, calibrator.busy
    share = now.done / now.total if now.total else 0.0
    bar = f'<div class="memstab-bar"><div style="width: {share:.1%}"></div></div>' if busy else ""
    # A refusal stands alone: the result of an earlier calibration beside it would only confuse.
    told = sentence(now.line()) if busy or not note else ""
    state = f'data-busy="{"yes" if busy else "no"}" data-at="{time.monotonic_ns()}"'
    return f"<div {state}>{sentence(note)}{told}{bar}</div>"


class View:
    """Looks at a calibration for all pages: one drawing serves them all, and drawing takes a small part of the time."""

    def __init__(self, calibrator: Callable[[], Calibrator]) -> None:
        self._calibrator, self._guard = calibrator, threading.Lock()
        self._state, self._drawn, self._rest_until = "", "", 0.0

    def look(self, seen: str) -> tuple[str, str | None, str]:
        """The line, the picture of the regions, and its state; None for the picture if `seen` is that state."""
        with self._guard:
            self._draw()
            return line(self._calibrator()), None if self._state == seen else self._drawn, self._state

    def _draw(self) -> None:
        from lib_memstab import plots

        calibrator = self._calibrator()
        regions, begun = calibrator.regions(), time.monotonic()
        state = " ".join(f"{mode} {one.count} {one.peaks.sum()}" for mode, one in regions.items())
        if state == self._state or (calibrator.busy and state and begun < self._rest_until):
            return
        self._drawn = picture(plots.regions_figure(regions, TITLE), TITLE) if regions else ""
        self._state, now = state, time.monotonic()
        self._rest_until = now + REST * (now - begun)
