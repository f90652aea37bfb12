"""What the tab says of what was learned, and how it is forgotten: all of it only on a second click."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from lib_memstab.core.profile import Checkpoint, ProfileError
from lib_memstab.host.tab.markup import sentence
from lib_memstab.host.wording import ARMED, LEARNING, NOT_LEARNING, NOT_LOADED

if TYPE_CHECKING:
    from lib_memstab.host.learner import Learner


def told(learner: Learner, checkpoint: Checkpoint | None) -> str:
    """Whether it learns, and what it has learned of the loaded checkpoint, as HTML."""
    known = NOT_LOADED if checkpoint is None else learner.line(checkpoint)
    return sentence(LEARNING if learner.wanted() else NOT_LEARNING) + sentence(known)


def forget(learner: Learner, checkpoint: Checkpoint | None, armed: str, today: bool) -> tuple[str, str]:
    """Forget what came today, or on a second click everything; what is said, and what the next click is armed for."""
    if checkpoint is None:
        return told(learner, None), ""
    if not today and armed != checkpoint.name:
        return sentence(ARMED), checkpoint.name
    try:
        dropped = learner.forget(checkpoint, datetime.date.today().isoformat() if today else "")
    except ProfileError as error:
        return sentence(str(error)) + told(learner, checkpoint), ""
    return sentence(f"{dropped} images were forgotten.") + told(learner, checkpoint), ""
