"""How the tab shows a calibration while it runs: a line with a bar, and the region as far as it has grown."""

from __future__ import annotations

import time
from collections.abc import Callable

from lib_memstab import plots
from lib_memstab.host.calibrator import Calibrator
from lib_memstab.host.form import FormError
from lib_memstab.host.markup import picture, sentence
from lib_memstab.host.plan import Plan

TITLE = "where ordinary pictures walk"


def start(calibrator: Calibrator, plan: Callable[[], Plan]) -> str:
    """Begin a calibration and give the line; if it cannot begin, the line says why."""
    try:
        note = "" if calibrator.start(plan()) else "A calibration is on its way already: stop it first."
    except FormError as error:
        return line(calibrator, str(error))
    return line(calibrator, note)


def line(calibrator: Calibrator, note: str = "") -> str:
    """How far it is, with a bar while it runs; `memstab.js` asks again while `data-busy` says yes."""
    now, busy = calibrator.progress, calibrator.busy
    share = now.done / now.total if now.total else 0.0
    bar = f'<div class="memstab-bar"><div style="width: {share:.1%}"></div></div>' if busy else ""
    # A refusal stands alone: the result of an earlier calibration beside it would only confuse.
    told = sentence(now.line()) if busy or not note else ""
    state = f'data-busy="{"yes" if busy else "no"}" data-at="{time.monotonic_ns()}"'
    return f"<div {state}>{sentence(note)}{told}{bar}</div>"


def look(calibrator: Calibrator, seen: str) -> tuple[str, str | None, str]:
    """The line, the picture of the regions, and what has been seen with it: None for the picture if that is `seen`."""
    now = calibrator.progress
    state = f"{now.state} {now.done} of {now.total}"
    if state == seen:
        return line(calibrator), None, seen
    regions = calibrator.regions()
    drawn = picture(plots.regions_figure(regions, TITLE), TITLE) if regions else ""
    return line(calibrator), drawn, state
