"""What the tab shows of a verification, and how its fields become one: started, stopped, gone on, told in sentences."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from lib_memstab.host.audit import ForbiddenError
from lib_memstab.host.tab.form import Field, FormError
from lib_memstab.host.tab.markup import sentence
from lib_memstab.host.verification import NUMBERS, Verification
from lib_memstab.host.verifier import REPORTS, Verifier
from lib_memstab.settings import Setting, SettingsError

NO_PROMPTS = "Give prompts that are known to replay: a list as a file, or pasted."
TWO_LISTS = "Give a file or paste prompts, not both."
VERIFYING = "A verification is on its way already: stop it first."
CALIBRATING = "A calibration is on its way: wait until it is done, or stop it."
STOPPING = "Stopping."
NOT_VERIFYING = "No verification is on its way."
NONE_STOPPED = "There is no verification that was stopped."
LIMITS = (
    "What this does not show: it tells of these prompts, seeds and settings, and of nothing else. A picture that is "
    "not flagged is not shown to be original. What counts as a copy here is what this comparison takes for one."
)
ANSWERS = (NO_PROMPTS, TWO_LISTS, VERIFYING, CALIBRATING, NOT_VERIFYING, NONE_STOPPED, LIMITS)
"""What the tab answers."""

MEMORIZED = "Prompts that are known to replay: text (one a line), JSONL or CSV"
ORDINARY = "Ordinary prompts, if you have some; else MemStab's own are taken"


def _number(one: Setting) -> Field:
    assert isinstance(one.default, int | float)
    return Field(one.attribute, "number", one.label, one.default, one.help)


_SEEDS, _STEPS, _GUIDANCE, _SENSITIVITY = map(_number, NUMBERS)

FIELDS = (
    _SEEDS,
    Field("limit", "number", "Prompts of each list", None, "Only the first so many. 0: all."),
    _SENSITIVITY,
    Field("sampler", "sampler", "Sampling method", "Euler", "The one you use most."),
    Field("scheduler", "scheduler", "Schedule type", "Automatic", "The one you use most."),
    _STEPS,
    Field("width", "number", "Width", None, "0: the checkpoint's own."),
    Field("height", "number", "Height", None, "0: the checkpoint's own."),
    _GUIDANCE,
    Field(
        "reference",
        "text",
        "Folder of training pictures",
        "",
        "Among the output folders, each picture named as the list's index. Empty: other seeds tell copies.",
    ),
)
"""Every field, in the order of the tab; the names are those of a verification's JSON body."""

_NONE_IS_0 = ("limit", "width", "height")

Read = Callable[[object], Verification]


def read_form(
    form: Sequence[Any], memorized: bytes | None, pasted: str, ordinary: bytes | None, resume: bool, read: Read
) -> Verification:
    """The verification that the fields' values, in the order of `FIELDS`, and lists ask for.

    Raises:
        FormError: names the field by its label, and the values it may have.
    """
    if memorized is not None and pasted.strip():
        raise FormError(TWO_LISTS)
    if memorized is None and not pasted.strip():
        raise FormError(NO_PROMPTS)
    given = {field.name: value for field, value in zip(FIELDS, form, strict=True)}
    # The browser shows a number without a value as 0.
    body = {
        name: value for name, value in given.items() if value not in (None, "") and (value or name not in _NONE_IS_0)
    }
    # What is no UTF-8 stays what it is, so that the reader of lists can name the line.
    body["memorized"] = pasted if memorized is None else memorized.decode("utf-8", "surrogateescape")
    if ordinary is not None:
        body["ordinary"] = ordinary.decode("utf-8", "surrogateescape")
    return read_body({**body, "resume": resume}, read)


def read_body(body: Mapping[str, Any], read: Read) -> Verification:
    """The verification that a body asks for; FormError as `read_form` has it."""
    try:
        return read(body)
    except SettingsError as error:
        labels = {"memorized": MEMORIZED, "ordinary": ORDINARY, **{field.name: field.label for field in FIELDS}}
        raise FormError(f"“{labels.get(error.field, error.field)}” should be {error.allowed}.") from error
    except (ForbiddenError, FileNotFoundError) as error:
        raise FormError(str(error)) from error


def start(verifier: Verifier, asked: Callable[[], Verification]) -> str:
    """Begin a verification and give the line; if it cannot begin, the line says why."""
    try:
        refused = verifier.start(asked())
    except FormError as error:
        return line(verifier, str(error))
    return line(verifier, {"": "", "verifying": VERIFYING, "calibrating": CALIBRATING}[refused])


def go_on(verifier: Verifier, read: Read) -> str:
    """Take up the verification that was stopped last, and give the line."""
    body = verifier.unfinished()
    if verifier.busy or body is None:
        return line(verifier, VERIFYING if verifier.busy else NONE_STOPPED)
    return start(verifier, lambda: read_body(body, read))


def stop(verifier: Verifier) -> str:
    """Ask the verification on its way to stop, and give the line."""
    return line(verifier, STOPPING if verifier.stop() else NOT_VERIFYING)


def line(verifier: Verifier, note: str = "") -> str:
    """How far it is, with a bar while it runs; `memstab.js` asks again while `data-busy` says yes."""
    now, busy = verifier.progress, verifier.busy
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


def look(verifier: Verifier) -> Seen:
    """What there is to see now; a result only once there is a report, also one of before the host started."""
    files = [path for path in map(verifier.file, REPORTS) if path is not None]
    report = verifier.file("json")
    if report is None or verifier.busy:
        return Seen(line(verifier), "", (), "")
    try:
        state = f"{report} {report.stat().st_mtime_ns}"
        return Seen(line(verifier), result(json.loads(report.read_bytes())), files, state)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Seen(line(verifier, f"the report {report} cannot be read: {error}"), "", (), "")


def result(report: Mapping[str, Any]) -> str:
    """A report in sentences, and what it does not show."""
    from lib_memstab.evidence.verify.words import sentences

    told = [*sentences(report["figures"], report["settings"]["sensitivity"]), report["copies_by"], *report["notes"]]
    for one in report["lists"]:
        if one["broken"]:
            first = one["broken"][0]
            told.append(
                f"{len(one['broken']):,} lines of {one['name']} were left out, such as line {first['line']}: "
                f"{first['reason']}."
            )
    rows = "".join(f"<li>{escape(one)}</li>" for one in told)
    return f"<ul>{rows}</ul>{sentence(LIMITS)}"


def _time(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
