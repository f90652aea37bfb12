"""Profiles on disk: those that ship with MemStab, read only, and the user's in a folder of the host's own.

Of two names that differ only in capitals one is taken: some systems would keep both in one file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lib_memstab.core import profile as profiles
from lib_memstab.core.profile import Profile, ProfileError, check_name

SHIPPED = Path(__file__).parents[1] / "profiles"
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
    """All profile files; a file is read again only when it changed. A profile goes by the name of its file."""

    def __init__(self, user_folder: Callable[[], Path], shipped: Path = SHIPPED) -> None:
        self._user_folder, self._shipped = user_folder, shipped
        self._read: dict[Path, tuple[_Stamp, Stored]] = {}
        self._guard = threading.RLock()

    def all(self) -> list[Stored]:
        """Every profile file, the user's first; of two with one name the user's counts."""
        found: dict[str, Stored] = {}
        for folder, own in ((self._user_folder(), True), (self._shipped, False)):
            for path in profile_files(folder):
                found.setdefault(path.stem, self._stored(path, own))
        return list(found.values())

    def names(self) -> list[str]:
        """Names of the profiles that can be used."""
        return [one.name for one in self.all() if one.profile is not None]

    def file_names(self) -> list[str]:
        """Names of all profiles, also of those that cannot be used: no file is read, which takes its time."""
        folders = (self._user_folder(), self._shipped)
        return list(dict.fromkeys(path.stem for folder in folders for path in profile_files(folder)))

    def save(self, profile: Profile) -> Path:
        """Write a profile of the user's in one stroke, over one of the same name; ProfileError as the core's `save`."""
        folder = self._user_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProfileError(f"{folder} cannot be made ({error}): choose another folder for the models") from error
        with self._guard:
            return profiles.save(profile, folder)

    def import_file(self, source: Path | bytes, *, replace: bool = False) -> Path:
        """Take a profile file over under the profile's own name, and return where it lies; twice is no error.

        Raises:
            ProfileError: if it is not usable, or another of that name is there, unless `replace`; that one stays.
        """
        data = source if isinstance(source, bytes) else profiles.read(source)
        profile = profiles.from_bytes(data, "the file" if isinstance(source, bytes) else str(source))
        with self._guard:
            known = self._taken(profile.name)
            if known is not None and known.profile is not None and known.profile.checksum == profile.checksum:
                return known.path
            if known is not None and not (replace and known.name == profile.name):
                advice = "replace it, or rename it first" if known.name == profile.name else "rename that one first"
                raise ProfileError(f"there is another profile {known.name}: {advice}")
            return self.save(profile)

    def rename(self, old: str, new: str) -> Path:
        """Give a profile of the user's another name, in the file too, and return its new path.

        Raises:
            ProfileError: if there is none that can be used, it ships with MemStab, or the new name is bad or taken.
        """
        with self._guard:
            stored = self._own(old, "renamed: calibrate anew under the name you want")
            if stored.profile is None:
                raise ProfileError(f"{stored.error}; only a usable profile is renamed, this one can only be deleted")
            taken = self._taken(check_name(new))
            if taken is not None:
                raise ProfileError(f"there is a profile {taken.name} already: choose another name")
            path = self.save(replace(stored.profile, name=new))
            self._remove(stored)
            return path

    def delete(self, name: str) -> None:
        """Remove a profile of the user's, or a broken file of that name.

        Raises:
            ProfileError: if there is none, it ships with MemStab, or its file cannot be removed.
        """
        with self._guard:
            self._remove(self._own(name, "deleted: choose another profile instead of it"))

    def export(self, name: str) -> bytes:
        """A profile's file, byte for byte as MemStab writes it today; ProfileError if there is no usable one."""
        stored = self.find(name)
        if stored.profile is None:
            raise ProfileError(stored.error)
        return stored.profile.to_bytes()

    def find(self, name: str) -> Stored:
        """The profile file of that name, usable or not; ProfileError if there is none."""
        stored = self.all()
        for one in stored:
            if one.name == name:
                return one
        choice = f"choose one of {', '.join(one.name for one in stored)}" if stored else "calibrate, or import one"
        raise ProfileError(f"there is no profile {name[:80]!r}: {choice}")

    def _own(self, name: str, refused: str) -> Stored:
        stored = self.find(name)
        if not stored.own:
            raise ProfileError(f"{name} ships with MemStab and cannot be {refused}")
        return stored

    def _taken(self, name: str) -> Stored | None:
        alike = [one for one in self.all() if one.name.casefold() == name.casefold()]
        return min(alike, key=lambda one: one.name != name, default=None)

    def _remove(self, stored: Stored) -> None:
        try:
            stored.path.unlink()
        except OSError as error:
            raise ProfileError(f"{stored.path} cannot be removed ({error}): remove it yourself") from error
        self._read.pop(stored.path, None)

    def _stored(self, path: Path, own: bool) -> Stored:
        try:
            status = path.stat()
        except OSError as error:
            return Stored(path, own, None, str(error))
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._read.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        stored = read_file(path, own)
        if stored.profile is not None:
            self._read[path] = (stamp, stored)
        return stored


def read_file(path: Path, own: bool) -> Stored:
    """One profile file, usable or not."""
    try:
        return Stored(path, own, profiles.load(path))
    except ProfileError as error:
        return Stored(path, own, None, str(error))


def profile_files(folder: Path) -> list[Path]:
    """The files of a folder that are, or should be, profiles, by name; none if there is no such folder."""
    found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return [path for path in found if not path.name.endswith(".schema.json")]
