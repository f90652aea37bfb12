"""Runs verifications inside the host: one at a time, in a thread of its own, and tells how far it is and what came out.

What the evidence needs is imported when the first verification runs, not when the host starts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from lib_memstab.core.files import write_whole
from lib_memstab.host.verification import Verification

if TYPE_CHECKING:
    from lib_memstab.evidence.verify.plan import Sampling, Source

log = logging.getLogger("memstab")

State = Literal["idle", "waiting", "running", "done", "stopped", "failed"]
Refusal = Literal["", "verifying", "calibrating"]

JOURNAL, BODY = "journal.jsonl", "asked.json"
REPORTS: Final = {"html": "report.html", "json": "report.json", "csv": "pictures.csv"}
"""Files of a report, by format."""


class InterruptedByUser(Exception):
    """The user ended the picture that was being sampled."""


class Machine(Protocol):
    """What samples."""

    def vocabulary(self) -> Sequence[str]:
        """Words the text model has an entry for, the most frequent first; empty if it does not say."""

    def source(self, sampling: Sampling, share: Callable[[], tuple[int, int]]) -> Source:
        """Pictures of the loaded checkpoint; `share` says how many of how many are made in this run.

        Its `take` raises `InterruptedByUser` if the user ends a picture.

        Raises:
            SourceError: if there are none to be had; the message says what to do.
        """

    def interrupt(self) -> None:
        """End the picture that is being sampled for a verification, if one is."""


@dataclass
class Progress:
    """How far a verification is, as the API tells it.

    Attributes:
        done, total: pictures; `resumed` of them were made before it was stopped.
        message: what it does, what came of it, or why it failed and what to do.
        seconds_left: None while nobody can know.
        summary: what came of it in sentences, empty before.
        report: the same with all figures, None before.
    """

    state: State = "idle"
    done: int = 0
    total: int = 0
    message: str = ""
    seconds_left: float | None = None
    resumed: int = 0
    summary: list[str] = field(default_factory=list)
    report: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


class Verifier:
    """Runs one verification at a time.

    Each has a folder in `folder`, by its settings: its journal, what was asked, and its report. So the same one goes on
    where it was, also in another process.
    """

    def __init__(self, machine: Machine, folder: Callable[[], Path], calibrating: Callable[[], bool]) -> None:
        self.progress = Progress()
        self._machine, self._place, self._calibrating = machine, folder, calibrating
        self._guard, self._stop = threading.Lock(), threading.Event()
        self._own: Path | None = None

    @property
    def busy(self) -> bool:
        """Whether one waits or runs."""
        return self.progress.state in ("waiting", "running")

    def start(self, asked: Verification) -> Refusal:
        """Begin in a thread; says what is on its way already if it cannot."""
        with self._guard:
            if self.busy:
                return "verifying"
            if self._calibrating():
                return "calibrating"
            self.progress, self._own = Progress("waiting", message="getting ready"), None
            self._stop.clear()
        threading.Thread(target=self._run, args=(asked,), name="memstab-verification", daemon=True).start()
        return ""

    def stop(self) -> bool:
        """Ask the one on its way to stop; what it made is kept. False if there is none."""
        self._stop.set()
        if self.progress.state == "running":
            self._machine.interrupt()
        return self.busy

    def file(self, form: str) -> Path | None:
        """The report's file in a format of `REPORTS`: of the latest verification, None while it has none."""
        folder = self._own
        if folder is None and self.progress.state == "idle":
            folder = self._newest(lambda one: (one / REPORTS["html"]).is_file())
        path = None if folder is None else folder / REPORTS[form]
        return path if path is not None and path.is_file() else None

    def unfinished(self) -> Mapping[str, Any] | None:
        """What was asked of the newest verification that has no report yet, for `read_verification`; None without."""
        folder = self._newest(lambda one: not (one / REPORTS["html"]).is_file())
        if folder is None:
            return None
        try:
            body = json.loads((folder / BODY).read_bytes())
        except (OSError, ValueError):
            return None
        return body if isinstance(body, dict) else None

    def _newest(self, fits: Callable[[Path], bool]) -> Path | None:
        """Of the verifications whose folder fits, the one that made a picture last."""
        journals = [one for one in self._place().glob(f"*/{JOURNAL}") if fits(one.parent)]
        return max(journals, key=lambda one: one.stat().st_mtime).parent if journals else None

    def _run(self, asked: Verification) -> None:
        from lib_memstab.evidence.journal import JournalError
        from lib_memstab.evidence.verify.plan import SourceError
        from lib_memstab.evidence.verify.references import TrainingPictureError

        try:
            self._verify(asked)
        except InterruptedByUser:
            kept = f"{self.progress.done:,} of {self.progress.total:,} pictures are kept"
            self._end("stopped", f"stopped; {kept}: the same verification goes on from there")
        except (SourceError, TrainingPictureError) as error:
            self._end("failed", str(error))
        except JournalError as error:
            self._end("failed", "what was made before cannot be read: start over (over the API with resume: false)")
            log.warning("MemStab's verification cannot go on: %s", error)
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            log.warning("MemStab's verification failed: %s", error, exc_info=error)

    def _verify(self, asked: Verification) -> None:
        from lib_memstab.evidence.descriptors import chosen
        from lib_memstab.evidence.verify.figures import figures
        from lib_memstab.evidence.verify.journal import Journal
        from lib_memstab.evidence.verify.outcomes import shown
        from lib_memstab.evidence.verify.plan import MODES, settings_of, shots_of, subjects_of
        from lib_memstab.evidence.verify.references import known_as, read_references
        from lib_memstab.evidence.verify.report import Account, write_report
        from lib_memstab.evidence.verify.run import take_all
        from lib_memstab.evidence.verify.words import sentences, told_by

        progress, descriptor = self.progress, chosen(None)
        source = self._machine.source(asked.sampling, self._share)
        lists = asked.lists(self._machine.vocabulary)
        subjects = subjects_of([lists[0][1]], [lists[1][1]], asked.limit)
        source.check([subject.prompt.text for subject in subjects])
        references, broken = (
            ({}, []) if asked.reference is None else read_references(asked.reference, subjects, descriptor, links=False)
        )
        told = known_as(references) if references else "none"
        facts = source.facts()
        settings = settings_of(lists, asked.limit, asked.seeds, asked.sampling, facts, descriptor.name, told)
        journal = Journal(self._open(settings, asked) / JOURNAL, settings)
        shots = shots_of(subjects, asked.seeds)
        progress.total = len(shots) * len(MODES)
        progress.done = progress.resumed = len(journal.done)
        begun = time.monotonic()

        def made(count: int) -> None:
            progress.done += count
            fresh = progress.done - progress.resumed
            progress.seconds_left = round((time.monotonic() - begun) * (progress.total - progress.done) / fresh, 1)
            if self._stop.is_set():
                raise InterruptedByUser

        progress.state, progress.message = "running", "verifying"
        if self._stop.is_set():
            raise InterruptedByUser
        take_all(shots, source, journal, descriptor, references, made)
        progress.message, progress.seconds_left = "writing the report", None
        rows = shown(journal, subjects, descriptor)
        notes = [f"training picture that cannot be read: {one}" for one in broken]
        account = Account(settings, lists, figures(rows), told_by(descriptor, references, subjects), notes, len(shots))
        write_report(journal.path.parent, account, rows)
        progress.report = json.loads((journal.path.parent / REPORTS["json"]).read_bytes())
        progress.summary = [*sentences(account.figures, asked.sampling.sensitivity), account.copies_by]
        self._end("done", f"done: {len(rows):,} pictures, each without MemStab, in detect and in suppress mode")

    def _open(self, settings: Mapping[str, Any], asked: Verification) -> Path:
        """The folder of this verification; an earlier report of it goes, and without `resume` what was made, too."""
        folder = self._place() / hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        if not asked.resume and folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in REPORTS.values():
            (folder / name).unlink(missing_ok=True)
        write_whole(folder / BODY, json.dumps({**asked.body, "resume": True}).encode("ascii"))
        self._own = folder
        return folder

    def _share(self) -> tuple[int, int]:
        return self.progress.done - self.progress.resumed, self.progress.total - self.progress.resumed

    def _end(self, state: State, message: str) -> None:
        self.progress.message, self.progress.seconds_left = message, None
        self.progress.state = state
