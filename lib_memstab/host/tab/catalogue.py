"""What the tab does with profiles: which there are, what one says, how two differ, and the user's changes to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_memstab.core.profile import Profile, ProfileError
from lib_memstab.store import Store, Stored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lib_memstab.core.comparing import BandBounds

HEADS = ("name", "checkpoint", "for", "pictures", "supports 1 in", "from")
NONE_CHOSEN = "Choose a profile first."
NOT_TWO = "Choose two different profiles."
NO_FILE = "Choose a profile's file first, NAME.json."


@dataclass(frozen=True)
class Answer:
    """What became of a wish: a sentence, the profile to choose next (empty: the one that is), and what to delete if
    the wish comes once more.
    """

    message: str
    chosen: str = ""
    armed: str = ""


def rows(stored: Sequence[Stored]) -> list[tuple[str, ...]]:
    """One row a profile, with the cells of `HEADS`; of a broken one name and error."""
    return [_row(one) for one in stored]


def names(stored: Sequence[Stored]) -> list[str]:
    """All that can be chosen, broken ones too: these can be deleted."""
    return [one.name for one in stored]


def told(store: Store, name: str) -> tuple[str, Figure | None]:
    """A profile in words and as a picture; ProfileError if it cannot be used."""
    from lib_memstab import plots
    from lib_memstab.profile_command import facts, words

    if not name:
        return "", None
    profile = _usable(store, name)
    return words(facts(profile)), plots.region_figure(profile)


def compared(store: Store, name: str, other: str) -> tuple[str, Figure | None]:
    """How the second profile's bounds differ from the first's, in words and as a picture.

    Raises:
        ProfileError: if one cannot be used.
    """
    from lib_memstab import plots
    from lib_memstab.cli import columns
    from lib_memstab.core.comparing import SENSITIVITY, compare

    if not name or not other or name == other:
        raise ProfileError(NOT_TWO)
    first, second = _usable(store, name), _usable(store, other)
    modes = compare(first, second)
    lines = [
        f"The bounds of {other} (1 in {SENSITIVITY}) against those of {name}: a higher bound raises fewer false alarms "
        "and finds less."
    ]
    if first.checkpoint.sha256 != second.checkpoint.sha256:
        lines.append(f"They are of two checkpoints, {first.checkpoint.name} and {second.checkpoint.name}.")
    alone = sorted((first.modes.keys() | second.modes.keys()) - modes.keys())
    if alone:
        lines.append(f"Only one of them was calibrated for {', '.join(alone)}.")
    for mode, bands in modes.items():
        heads = (mode, "CFG", "from noise level", "negative prompt", "on average", "least", "most", "")
        lines += ["", columns([heads, *map(_difference, bands)])]
    return "\n".join(lines), plots.comparison_figure(modes, (name, other)) if modes else None


def rename(store: Store, name: str, new: str) -> Answer:
    """Give a profile of the user's another name."""

    def work() -> Answer:
        store.rename(name, new.strip())
        return Answer(f"{name} is now {new.strip()}.", new.strip())

    return _tried(name, work)


def delete(store: Store, name: str, armed: str) -> Answer:
    """Delete a profile of the user's if this was asked for just before; else ask."""

    def work() -> Answer:
        if armed != name and store.find(name).own:
            return Answer(f"Click Delete once more to remove {name} for good.", armed=name)
        store.delete(name)
        return Answer(f"{name} is deleted.")

    return _tried(name, work)


def take_in(store: Store, data: bytes | None, replace: bool) -> Answer:
    """Import an uploaded profile."""
    if data is None:
        return Answer(NO_FILE)

    def work() -> Answer:
        name = store.import_file(data, replace=replace).stem
        return Answer(f"{name} is imported.", name)

    return _tried("the file", work)


def export(store: Store, name: str, folder: Path) -> Path:
    """Write a profile's file into `folder`, to be downloaded; ProfileError if there is no usable one."""
    data = store.export(name)
    path = folder / f"{name}.json"
    path.write_bytes(data)
    return path


def _tried(name: str, work: Callable[[], Answer]) -> Answer:
    if not name:
        return Answer(NONE_CHOSEN)
    try:
        return work()
    except (ProfileError, OSError) as error:
        return Answer(str(error))


def _usable(store: Store, name: str) -> Profile:
    stored = store.find(name)
    if stored.profile is None:
        raise ProfileError(stored.error)
    return stored.profile


def _row(stored: Stored) -> tuple[str, ...]:
    from lib_memstab.profile_command import facts

    if stored.profile is None:
        return stored.name, f"cannot be used: {stored.error}"
    modes = facts(stored.profile)["modes"]
    numbers = (", ".join(str(own[what]) for own in modes.values()) for what in ("trajectories", "supported"))
    origin = "you" if stored.own else "MemStab"
    return stored.name, stored.profile.checkpoint.name, ", ".join(modes), *numbers, origin


def _difference(band: BandBounds) -> tuple[str, ...]:
    at, difference = band.conditions, band.difference()
    shares = (f"{share:+.1%}" for share in (difference.mean(), difference.min(), difference.max()))
    beside = "" if band.measured else "not calibrated there: between its other bands"
    return "", f"{at.guidance:g}", f"{at.start:.3g}", "yes" if at.negative else "no", *shares, beside
