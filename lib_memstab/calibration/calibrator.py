"""Runs calibrations: one at a time, in a thread of its own, in the WebUI's queue, and tells how far it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lib_memstab.calibration.batches import Batch
from lib_memstab.calibration.journal import open_journal
from lib_memstab.calibration.plan import Plan
from lib_memstab.calibration.work import Machine, Stopped, Work
from lib_memstab.core.profile import Mode, Profile
from lib_memstab.core.region import Region

log = logging.getLogger("memstab")

State = Literal["idle", "waiting", "running", "done", "stopped", "failed"]


@dataclass
class Progress:
    """How far a calibration is, as the API tells it.

    `resumed` of the images were measured before it was stopped; `seconds_left` is null while nobody can know.
    """

    state: State = "idle"
    done: int = 0
    total: int = 0
    message: str = ""
    profile: str = ""
    seconds_left: float | None = None
    resumed: int = 0

    def line(self) -> str:
        """How far it is, in a line."""
        if self.state not in ("waiting", "running"):
            return self.message
        left = "" if self.seconds_left is None else f", about {_time(self.seconds_left)} left"
        before = f", {self.resumed} of them measured before" if self.resumed else ""
        return f"{self.message}: {self.done} of {self.total} images{before}{left}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


class Calibrator:
    """Runs one calibration at a time; what a stopped one has measured stays in `unfinished`, a folder."""

    def __init__(self, machine: Machine, save: Callable[[Profile], object], unfinished: Callable[[], Path]) -> None:
        self.progress = Progress()
        self._machine, self._save, self._unfinished = machine, save, unfinished
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._work: Work | None = None

    @property
    def busy(self) -> bool:
        """Whether one waits or runs."""
        return self.progress.state in ("waiting", "running")

    def start(self, plan: Plan) -> bool:
        """Begin in a thread; False if one is on its way already."""
        with self._guard:
            if self.busy:
                return False
            self.progress = Progress("waiting", 0, plan.images(), "waiting for the job before it")
            self._work = None
            self._stop.clear()
        threading.Thread(target=self._run, args=(plan,), name="memstab-calibration", daemon=True).start()
        return True

    def stop(self) -> bool:
        """Ask the one on its way to stop; what it measured is kept. False if there is none."""
        self._stop.set()
        if self.progress.state == "running":
            self._machine.interrupt()
        return self.busy

    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def regions(self) -> dict[Mode, Region]:
        """The regions of the latest calibration, as far as they can be learned from what it has measured by now."""
        return {} if self._work is None else self._work.regions()

    def _run(self, plan: Plan) -> None:
        try:
            self._machine.run(lambda: self._calibrate(plan), plan.batches())
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            log.warning("MemStab's calibration failed: %s", error, exc_info=error)

    def _calibrate(self, plan: Plan) -> None:
        if self.stopping():
            self._end("stopped", "stopped before it began; nothing was saved")
            return
        progress, total = self.progress, plan.evaluations()
        progress.state = "running"
        journal = open_journal(self._unfinished(), self._machine.checkpoint(), plan)
        progress.resumed = len(journal)
        begun, passed, fresh = time.monotonic(), 0, 0

        def tell(message: str) -> None:
            progress.message = message

        def sampled(batch: Batch, now: bool) -> None:
            nonlocal passed, fresh
            progress.done += len(batch.prompts)
            progress.total = max(progress.total, progress.done)
            passed += batch.evaluations()
            fresh += batch.evaluations() if now else 0
            if fresh:
                progress.seconds_left = round((time.monotonic() - begun) * max(total - passed, 0) / fresh, 1)

        work = self._work = Work(self._machine, journal, plan, self.stopping, tell, sampled)
        try:
            profile = work.profile()
        except Stopped:
            kept = f"what was measured, {len(journal)} images, is kept: the same calibration goes on from there"
            self._end("stopped", f"stopped; {kept}, and an older profile is as it was")
            return
        self._save(profile)
        journal.close()
        progress.profile, progress.total = profile.name, progress.done
        self._end("done", _result(profile, work))

    def _end(self, state: State, message: str) -> None:
        self.progress.message, self.progress.seconds_left = message, None
        self.progress.state = state


def _time(seconds: float) -> str:
    """A stretch of time as people say it."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _result(profile: Profile, work: Work) -> str:
    """What a calibration has come to, in a sentence or two."""
    left_out = f" {work.replays} prompts that replay a picture were left out." if work.replays else ""
    counts = {mode: one.region.count for mode, one in profile.modes.items()}
    rate = min(one.region.supported for one in profile.modes.values())
    return (
        f"saved as {profile.name}; the next generation uses it.{left_out} "
        f"Its trajectories ({', '.join(f'{count} {mode}' for mode, count in counts.items())}) support false alarms of "
        f"1 in {rate}; rarer ones are estimated beyond what was seen."
    )
