"""Which of the stored profiles a pass is judged by, and what is said where none applies."""

from __future__ import annotations

from collections.abc import Sequence

from lib_memstab.core.lessons import SOURCE
from lib_memstab.core.matching import Match, is_of, match
from lib_memstab.core.profile import STATISTIC, Checkpoint, Mode, Profile
from lib_memstab.core.region import Region
from lib_memstab.core.report import AUTOMATIC
from lib_memstab.host.facts import Applied, PassFacts
from lib_memstab.store import Stored

CALIBRATE = "click Calibrate in MemStab's tab or panel, or POST /memstab/v1/calibrate"
ENOUGH = 64
"""Images of the user's own from which what was learned of them comes before a calibration."""

_RANK = {"exact": 0, "transfer": 1, "none": 2}


def choose(stored: Sequence[Stored], facts: PassFacts, checkpoint: Checkpoint, wanted: str) -> Applied:
    """What to judge a pass by: the profile of that name, or with "auto" the one that fits best.

    A profile that was learned from many of the user's own images comes before a calibration that fits as well.
    """
    if wanted != AUTOMATIC:
        named = [one for one in stored if one.name == wanted]
        if not named:
            return Applied(None, "none", f"there is no profile {wanted}: choose another, or {CALIBRATE}")
        return _applied(named[0], facts, checkpoint)
    best = min(
        (_applied(one, facts, checkpoint) for one in stored),
        key=lambda one: (_RANK[one.state], _trust(one, facts)),
        default=Applied(None, "none", ""),
    )
    if best.state != "none":
        return best
    return Applied(None, "none", _no_profile(stored, facts, checkpoint))


def _trust(applied: Applied, facts: PassFacts) -> int:
    """Which of profiles that fit alike comes first: one of many of the user's own images, a calibration, any other."""
    calibration = None if applied.profile is None else applied.profile.modes.get(facts.mode)
    if calibration is None or calibration.covered.prompts != SOURCE:
        return 1
    own = any(band.conditions.negative == facts.negative for band in calibration.region.bands)
    return 0 if own and calibration.region.count >= ENOUGH else 2


def looked_twice(stored: Sequence[Stored], checkpoint: Checkpoint, channels: int, mode: Mode) -> Region | None:
    """The region of a calibration of this checkpoint that knows how alike two pictures of one prompt are.

    Of several the user's comes first, of these the newest; None without. What was learned does not know by itself, and
    of a calibration with LoRAs the pictures may be more alike.
    """
    found = [
        (one.own, one.profile.created, calibration.region)
        for one in stored
        if one.profile is not None and is_of(one.profile, checkpoint) and one.profile.latent.channels == channels
        if one.profile.statistic == STATISTIC
        for own_mode, calibration in one.profile.modes.items()
        if own_mode == mode and calibration.covered.prompts != SOURCE and not calibration.covered.loras
        if calibration.region.looks_twice(False) or calibration.region.looks_twice(True)
    ]
    return max(found, key=lambda one: one[:2], default=(False, "", None))[2]


def _match(profile: Profile, facts: PassFacts, checkpoint: Checkpoint) -> Match:
    return match(
        profile,
        checkpoint=checkpoint,
        channels=facts.channels,
        mode=facts.mode,
        sampler=facts.sampler,
        scheduler=facts.scheduler,
        steps=facts.steps,
        guidance=facts.guidance,
        size=facts.size,
        loras=facts.loras,
    )


def _applied(stored: Stored, facts: PassFacts, checkpoint: Checkpoint) -> Applied:
    if stored.profile is None:
        return Applied(None, "none", stored.error)
    found = _match(stored.profile, facts, checkpoint)
    return Applied(None if found.state == "none" else stored.profile, found.state, found.reason)


def _no_profile(stored: Sequence[Stored], facts: PassFacts, checkpoint: Checkpoint) -> str:
    """Why no profile applies by itself: one of this checkpoint that lacks the mode says so, else there is none."""
    for one in stored:
        if one.profile is not None and one.profile.checkpoint.sha256 == checkpoint.sha256:
            return f"{_match(one.profile, facts, checkpoint).reason.rstrip('.')}; {CALIBRATE}"
    broken = [one.name for one in stored if one.profile is None]
    unread = f"; {', '.join(broken)} cannot be read" if broken else ""
    return f"there is no profile for {checkpoint.name}{unread}; {CALIBRATE}"
