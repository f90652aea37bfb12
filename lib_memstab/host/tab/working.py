"""What the tab shows of a verification or an attack: started, refused, stopped, gone on, how far it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeVar

from lib_memstab.host.audit import ForbiddenError
from lib_memstab.host.background import Asked, Doing, Turn, Work
from lib_memstab.host.tab.form import FormError
from lib_memstab.host.tab.markup import sentence
from lib_memstab.settings import SettingsError

VERIFYING = "A verification is on its way already: stop it first."
ATTACKING = "An attack is on its way already: stop it first."
CALIBRATING = "A calibration is on its way: wait until it is done, or stop it."
STOPPING = "Stopping."
NOT_VERIFYING = "No verification is on its way."
NOT_ATTACKING = "No attack is on its way."
NONE_STOPPED = "There is no verification that was stopped."
NO_ATTACK_STOPPED = "There is no attack that was stopped."
ANSWERS = (VERIFYING, ATTACKING, CALIBRATING, NOT_VERIFYING, NOT_ATTACKING, NONE_STOPPED, NO_ATTACK_STOPPED)
"""What the tab answers."""

ON_ITS_WAY: Mapping[Doing, str] = {"verifying": VERIFYING, "attacking": ATTACKING, "calibrating": CALIBRATING}
NOT_ON_ITS_WAY: Mapping[Doing, str] = {"verifying": NOT_VERIFYING, "attacking": NOT_ATTACKING}
NOTHING_STOPPED: Mapping[Doing, str] = {"verifying": NONE_STOPPED, "attacking": NO_ATTACK_STOPPED}

A = TypeVar("A", bound=Asked)


def in_the_way(turn: Turn) -> str:
    """What keeps a calibration from beginning, in a sentence; empty: nothing but a calibration, which tells itself."""
    taken = turn.taken()
    return ON_ITS_WAY[taken] if taken in ("verifying", "attacking") else ""


def read_body(body: Mapping[str, Any], read: Callable[[object], A], labels: Mapping[str, str]) -> A:
    """What a body asks for.

    Raises:
        FormError: names the field by its label, and the values it may have.
    """
    try:
        return read(body)
    except SettingsError as error:
        raise FormError(f"“{labels.get(error.field, error.field)}” should be {error.allowed}.") from error
    except (ForbiddenError, FileNotFoundError) as error:
        raise FormError(str(error)) from error


def start(work: Work[A, Any], asked: Callable[[], A]) -> str:
    """Begin and give the line; if it cannot begin, the line says why."""
    try:
        refused = work.start(asked())
    except FormError as error:
        return line(work, str(error))
    return line(work, ON_ITS_WAY[refused] if refused else "")


def go_on(work: Work[A, Any], read: Callable[[Mapping[str, Any]], A]) -> str:
    """Take up what was stopped last, and give the line; `read` raises FormError."""
    body = work.unfinished()
    if work.busy or body is None:
        return line(work, (ON_ITS_WAY if work.busy else NOTHING_STOPPED)[work.doing])
    return start(work, lambda: read(body))


def stop(work: Work[Any, Any]) -> str:
    """Ask what is on its way to stop, and give the line."""
    return line(work, STOPPING if work.stop() else NOT_ON_ITS_WAY[work.doing])


def line(work: Work[Any, Any], note: str = "") -> str:
    """How far it is, with a bar while it runs; `memstab.js` asks again while `data-busy` says yes."""
    now, busy = work.progress, work.busy
    share = now.done / now.total if now.total else 0.0
    told = now.message
    if busy and now.total:
        left = "" if now.seconds_left is None else f", about {_time(now.seconds_left)} left"
        before = f", {now.resumed:,} of them made before" if now.resumed else ""
        told = f"{now.message}: {now.done:,} of {now.total:,} pictures{before}{left}"
    values = f'role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{100 * share:.0f}"'
    bar = f'<div class="memstab-bar" {values}><div style="width: {share:.1%}"></div></div>' if busy else ""
    state = f'data-busy="{"yes" if busy else "no"}" data-at="{time.monotonic_ns()}"'
    return f"<div {state}>{sentence(note)}{sentence(told) if busy or not note else ''}{bar}</div>"


@dataclass(frozen=True)
class Seen:
    """What a page is shown: the line, the result as HTML with its files, and the result's state."""

    line: str
    html: str
    files: Sequence[Path]
    state: str


def look(work: Work[Any, Any], result: Callable[[Mapping[str, Any]], str]) -> Seen:
    """What there is to see now; a result only once there is a report, also one of before the host started."""
    files = [path for path in map(work.file, work.reports) if path is not None]
    report = work.file("json")
    if report is None or work.busy:
        return Seen(line(work), "", (), "")
    try:
        state = f"{report} {report.stat().st_mtime_ns}"
        return Seen(line(work), result(json.loads(report.read_bytes())), files, state)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Seen(line(work, f"the report {report} cannot be read: {error}"), "", (), "")


def listed(told: Sequence[str], lists: Sequence[Mapping[str, Any]]) -> str:
    """Sentences as a list, and what was left out of the report's lists of prompts."""
    told = list(told)
    for one in lists:
        if one["broken"]:
            first = one["broken"][0]
            told.append(
                f"{len(one['broken']):,} lines of {one['name']} were left out, such as line {first['line']}: "
                f"{first['reason']}."
            )
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in told)}</ul>"


def _time(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
