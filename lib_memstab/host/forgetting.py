"""What the tab says of what was learned, and how it is forgotten: all of it only on a second click."""

from __future__ import annotations

import datetime

from lib_memstab.core.profile import Checkpoint
from lib_memstab.host.learner import Learner
from lib_memstab.host.markup import sentence

ARMED = "Click once more to forget everything that was learned about this checkpoint."
SWITCH = "Whether MemStab learns is a switch in Settings, MemStab."
OFF = f"MemStab does not learn now. {SWITCH}"
ON = f"MemStab learns from every image that it watches and does not flag. {SWITCH}"


def told(learner: Learner, checkpoint: Checkpoint | None) -> str:
    """Whether it learns, and what it has learned of the loaded checkpoint, as HTML."""
    known = "No checkpoint is loaded yet." if checkpoint is None else learner.line(checkpoint)
    return sentence(ON if learner.wanted() else OFF) + sentence(known)


def forget(learner: Learner, checkpoint: Checkpoint | None, armed: str, today: bool) -> tuple[str, str]:
    """Forget what came today, or on a second click everything; what is said, and what the next click is armed for."""
    if checkpoint is None:
        return told(learner, None), ""
    if not today and armed != checkpoint.name:
        return sentence(ARMED), checkpoint.name
    dropped = learner.forget(checkpoint, datetime.date.today().isoformat() if today else "")
    return sentence(f"{dropped} images were forgotten.") + told(learner, checkpoint), ""
