"""Profiles on disk: those that ship with MemStab, read only, and the user's in a folder of the host's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_memstab.core import profile as profiles
from lib_memstab.core.measurement import REFERENCE_GUIDANCE
from lib_memstab.core.profile import Checkpoint, Match, Profile, ProfileError, match
from lib_memstab.core.report import AUTOMATIC
from lib_memstab.host.job import Applied, PassFacts

SHIPPED = Path(__file__).parents[2] / "profiles"
CALIBRATE = "click Calibrate in MemStab's panel, or POST /memstab/v1/calibrate"
_RANK = {"exact": 0, "transfer": 1, "none": 2}
_Stamp = tuple[int, int]


@dataclass(frozen=True)
class Stored:
    """One profile file: the profile, or why it cannot be used; whether it is one of the user's."""

    path: Path
    own: bool
    profile: Profile | None
    error: str = ""

    @property
    def name(self) -> str:
        """The profile's name, also of a broken one."""
        return self.path.stem


class Store:
    """All profile files; a file is read again only when it changed."""

    def __init__(self, user_folder: Callable[[], Path], shipped: Path = SHIPPED) -> None:
        self._user_folder, self._shipped = user_folder, shipped
        self._read: dict[Path, tuple[_Stamp, Stored]] = {}

    def all(self) -> list[Stored]:
        """Every profile file, the user's first; of two with one name the user's counts."""
        found: dict[str, Stored] = {}
        for folder, own in ((self._user_folder(), True), (self._shipped, False)):
            for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
                if not path.name.endswith(".schema.json"):
                    found.setdefault(path.stem, self._stored(path, own))
        return list(found.values())

    def names(self) -> list[str]:
        """Names of the profiles that can be used."""
        return [one.name for one in self.all() if one.profile is not None]

    def save(self, profile: Profile) -> Path:
        """Write a profile of the user's in one stroke; ProfileError as `core.profile.save`."""
        folder = self._user_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProfileError(f"{folder} cannot be made ({error}): choose another folder for the models") from error
        return profiles.save(profile, folder)

    def choose(self, facts: PassFacts, checkpoint: Checkpoint, wanted: str) -> Applied:
        """What to judge a pass by: the profile of that name, or with "auto" the one that fits best."""
        stored = self.all()
        if wanted != AUTOMATIC:
            named = [one for one in stored if one.name == wanted]
            if not named:
                return Applied(None, "none", f"there is no profile {wanted}: choose another, or {CALIBRATE}")
            return _applied(named[0], facts, checkpoint)
        best = min(
            (_applied(one, facts, checkpoint) for one in stored),
            key=lambda one: _RANK[one.state],
            default=Applied(None, "none", ""),
        )
        if best.state != "none":
            return best
        return Applied(None, "none", _no_profile(stored, facts, checkpoint))

    def _stored(self, path: Path, own: bool) -> Stored:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._read.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            stored = Stored(path, own, profiles.load(path))
        except (OSError, ProfileError) as error:
            return Stored(path, own, None, str(error))
        self._read[path] = (stamp, stored)
        return stored


def _match(profile: Profile, facts: PassFacts, checkpoint: Checkpoint) -> Match:
    if profile.statistic.reference_guidance != REFERENCE_GUIDANCE:
        return Match("none", f"{profile.name} was measured at another reference guidance; re-calibrate")
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
