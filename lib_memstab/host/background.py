"""Works of evidence inside the host: one at a time, in a thread, stopped, gone on, and how far they are.

What the evidence needs is imported when the first one runs, not when the host starts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from lib_memstab.core.files import write_whole
from lib_memstab.evidence.audit_table import shown

log = logging.getLogger("memstab")

State = Literal["idle", "waiting", "running", "done", "stopped", "failed"]
Doing = Literal["verifying", "attacking", "calibrating"]
Refusal = Literal["", "verifying", "attacking", "calibrating"]
"""What is on its way already; empty: nothing."""

JOURNAL, BODY = "journal.jsonl", "asked.json"


class InterruptedByUser(Exception):
    """The user ended the picture that was being sampled."""


class Interruptible(Protocol):
    """What samples."""

    def interrupt(self) -> None:
        """End the picture that is being sampled for this work, if one is."""


class Asked(Protocol):
    """What is asked for."""

    @property
    def resume(self) -> bool:
        """Whether to go on from what the same work has made when it was stopped."""

    @property
    def body(self) -> Mapping[str, Any]:
        """The same as JSON data."""


@dataclass
class Progress:
    """How far a work is, as the API tells it.

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


class Turn:
    """Lets one work at a time begin, and none beside a calibration, which would change the profile on the way."""

    def __init__(self, calibrating: Callable[[], bool]) -> None:
        self._calibrating, self._guard = calibrating, threading.Lock()
        self._works: list[Work[Any, Any]] = []

    def join(self, work: Work[Any, Any]) -> None:
        """A work that takes turns with the others."""
        self._works.append(work)

    def taken(self) -> Refusal:
        """What is on its way; empty if nothing is."""
        working = next((one.doing for one in self._works if one.busy), None)
        return working or ("calibrating" if self._calibrating() else "")

    def take(self, begin: Callable[[], None]) -> Refusal:
        """Begin, unless something is on its way: what that is."""
        with self._guard:
            refused = self.taken()
            if not refused:
                begin()
            return refused


A = TypeVar("A", bound=Asked)
M = TypeVar("M", bound=Interruptible)


class Work(ABC, Generic[A, M]):
    """Runs one kind of work, one at a time.

    Each has a folder in `folder`, by its settings: its journal, what was asked, and its report. So the same one goes on
    where it was, also in another process.

    Attributes:
        doing, noun: what it is called.
        reports: files of its report, by format.
    """

    doing: ClassVar[Doing]
    noun: ClassVar[str]
    reports: ClassVar[Mapping[str, str]]

    def __init__(self, machine: M, folder: Callable[[], Path], turn: Turn) -> None:
        self.progress = Progress()
        self._machine, self._place, self._turn = machine, folder, turn
        self._stop, self._begun = threading.Event(), 0.0
        self._own: Path | None = None
        turn.join(self)

    @property
    def busy(self) -> bool:
        """Whether one waits or runs."""
        return self.progress.state in ("waiting", "running")

    def start(self, asked: A) -> Refusal:
        """Begin in a thread; says what is on its way already if it cannot."""
        refused = self._turn.take(self._wait)
        if not refused:
            threading.Thread(target=self._run, args=(asked,), name=f"memstab-{self.noun}", daemon=True).start()
        return refused

    def stop(self) -> bool:
        """Ask the one on its way to stop; what it made is kept. False if there is none."""
        self._stop.set()
        if self.progress.state == "running":
            self._machine.interrupt()
        return self.busy

    def file(self, form: str) -> Path | None:
        """The report's file in a format of `reports`: of the latest work, None while it has none."""
        folder = self._own
        if folder is None and self.progress.state == "idle":
            folder = self._newest(self._reported)
        path = None if folder is None else folder / self.reports[form]
        return path if path is not None and path.is_file() else None

    def unfinished(self) -> Mapping[str, Any] | None:
        """What was asked of the newest work that has no report yet, as JSON data; None without."""
        folder = self._newest(lambda one: not self._reported(one))
        if folder is None:
            return None
        try:
            body = json.loads((folder / BODY).read_bytes())
        except (OSError, ValueError):
            return None
        return body if isinstance(body, dict) else None

    @abstractmethod
    def _work(self, asked: A) -> str:
        """Do it: `_open` a folder, `_count_on` pictures, write a report and tell it; the last message.

        Raises:
            InterruptedByUser: if the user stopped it.
            SourceError, TrainingPictureError, JournalError: with what to do.
        """

    def _reported(self, folder: Path) -> bool:
        return all((folder / name).is_file() for name in self.reports.values())

    def _newest(self, fits: Callable[[Path], bool]) -> Path | None:
        """Of the works whose folder fits, the one that made a picture last."""
        journals = [one for one in self._place().glob(f"*/{JOURNAL}") if fits(one.parent)]
        return max(journals, key=lambda one: one.stat().st_mtime).parent if journals else None

    def _wait(self) -> None:
        self.progress, self._own = Progress("waiting", message="getting ready"), None
        self._stop.clear()

    def _run(self, asked: A) -> None:
        from lib_memstab.evidence.journal import JournalError
        from lib_memstab.evidence.verify.plan import SourceError
        from lib_memstab.evidence.verify.references import TrainingPictureError

        try:
            self._end("done", self._work(asked))
        except InterruptedByUser:
            kept = f"{self.progress.done:,} of {self.progress.total:,} pictures are kept"
            self._end("stopped", f"stopped; {kept}: the same {self.noun} goes on from there")
        except (SourceError, TrainingPictureError) as error:
            self._end("failed", str(error))
        except JournalError as error:
            self._end("failed", "what was made before cannot be read: start over (over the API with resume: false)")
            log.warning("MemStab's %s cannot go on: %s", self.noun, error)
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            log.warning("MemStab's %s failed: %s", self.noun, error, exc_info=error)

    def _open(self, settings: Mapping[str, Any], asked: A) -> Path:
        """The folder of this work; an earlier report of it goes, and without `resume` what was made, too."""
        folder = self._place() / hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        if not asked.resume and folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.reports.values():
            (folder / name).unlink(missing_ok=True)
        write_whole(folder / BODY, json.dumps({**asked.body, "resume": True}).encode("ascii"))
        self._own = folder
        return folder

    def _count_on(self, resumed: int, total: int, message: str) -> None:
        """Pictures begin: so many of them are made already."""
        progress = self.progress
        progress.total, progress.done, progress.resumed = total, resumed, resumed
        self._begun = time.monotonic()
        progress.state, progress.message = "running", message
        if self._stop.is_set():
            raise InterruptedByUser

    def _made(self, done: int) -> None:
        """So many pictures are made now; InterruptedByUser if the user stopped meanwhile."""
        progress = self.progress
        progress.done = done
        fresh = done - progress.resumed
        if fresh > 0:
            progress.seconds_left = round((time.monotonic() - self._begun) * (progress.total - done) / fresh, 1)
        if self._stop.is_set():
            raise InterruptedByUser

    def _share(self) -> tuple[int, int]:
        """How many of how many are made in this run."""
        return self.progress.done - self.progress.resumed, self.progress.total - self.progress.resumed

    def _writing(self) -> None:
        self.progress.message, self.progress.seconds_left = "writing the report", None

    def _end(self, state: State, message: str) -> None:
        # A path may hold what no page can tell.
        self.progress.message, self.progress.seconds_left = shown(message), None
        self.progress.state = state
