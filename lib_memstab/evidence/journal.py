"""What an unfinished run has made, kept on disk picture by picture, so that the next call goes on from there.

A file of one JSON object a line. The first says how the run is set up; each other one tells of a picture. The pictures
themselves are not kept, only what the report asks of them, and that is not held in memory either.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lib_memstab.core.files import write_whole
from lib_memstab.core.plain import PlainDataError, from_plain, parse_object

log = logging.getLogger("memstab")

SCHEMA: Final = 1
_SHOWN = 80


class JournalError(ValueError):
    """A journal that this run cannot go on from; the message says what to do."""


class Record(Protocol):
    """What is kept of one picture: a dataclass of plain data with a descriptor of the picture among its fields."""

    @property
    def key(self) -> Hashable:
        """Which picture it is."""

    @property
    def subject(self) -> int:
        """Number of its prompt."""

    @property
    def descriptor(self) -> str:
        """What it is compared by, as `packed` has it; empty where it is not."""


R = TypeVar("R", bound=Record)


def packed(descriptor: NDArray[Any]) -> str:
    """A descriptor [D] of uint8 or float16 as text."""
    return f"{descriptor.dtype}:{base64.b64encode(descriptor.tobytes()).decode('ascii')}"


def unpacked(text: str) -> NDArray[Any]:
    """The descriptor in a text; JournalError if it holds none."""
    kind, _, data = text.partition(":")
    if kind not in ("uint8", "float16"):
        raise JournalError("a descriptor of another kind")
    try:
        return np.frombuffer(base64.b64decode(data, validate=True), kind)
    except (binascii.Error, ValueError) as error:
        raise JournalError("a descriptor that is broken") from error


class Journal(Generic[R]):
    """The pictures of one run that are made, by their `key`; `kind` is the dataclass of their records.

    Raises:
        JournalError: if the file is of another run, or no journal.
        OSError: if it cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], kind: type[R]) -> None:
        self.path = path
        self._kind, self._names = kind, tuple(one.name for one in fields(kind))  # type: ignore[arg-type]
        self.done: set[Hashable] = set()
        if path.exists():
            self._mend()
            self._check(settings)
            self.done = {entry.key for entry in self.entries()}
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, _line({"schema": SCHEMA, "settings": settings}))

    def add(self, entry: R) -> None:
        """Keep a picture, at once."""
        with self.path.open("ab") as file:
            file.write(_line({name: getattr(entry, name) for name in self._names}))
        self.done.add(entry.key)

    def entries(self) -> Iterator[R]:
        """Every picture once, in the order they were made, read from the disk."""
        seen: set[Hashable] = set()
        with self.path.open("rb") as file:
            file.readline()
            for number, line in enumerate(file, start=2):
                try:
                    content = parse_object(line)
                    descriptor = str(content.pop("descriptor", ""))
                    entry = from_plain(self._kind, {**content, "descriptor": ""})
                    if descriptor:
                        unpacked(descriptor)
                    # A descriptor is longer than any text that a stranger's file may have.
                    entry = self._kind(**{**self._shallow(entry), "descriptor": descriptor})
                except (PlainDataError, JournalError) as error:
                    log.warning(
                        "%s, line %d: a picture is made again, for its line is broken (%s)", self.path, number, error
                    )
                    continue
                if entry.key not in seen:
                    seen.add(entry.key)
                    yield entry

    def by_subject(self, count: int) -> Iterator[tuple[int, list[R]]]:
        """The pictures of each prompt numbered below `count`, as soon as the last of them is read."""
        last = {entry.subject: place for place, entry in enumerate(self.entries())}
        waiting: dict[int, list[R]] = {}
        for place, entry in enumerate(self.entries()):
            waiting.setdefault(entry.subject, []).append(entry)
            if last[entry.subject] == place and 0 <= entry.subject < count:
                yield entry.subject, waiting.pop(entry.subject)

    def _shallow(self, entry: R) -> dict[str, Any]:
        return {name: getattr(entry, name) for name in self._names}

    def _mend(self) -> None:
        """Drop a last line that was not written to its end."""
        with self.path.open("rb+") as file:
            size = file.seek(0, 2)
            if size == 0:
                return
            file.seek(max(0, size - (1 << 20)))
            tail = file.read()
            if not tail.endswith(b"\n"):
                file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)

    def _check(self, settings: Mapping[str, Any]) -> None:
        with self.path.open("rb") as file:
            first = file.readline(1 << 20)
        try:
            content = parse_object(first)
        except PlainDataError as error:
            raise JournalError(f"{self.path} is no journal of MemStab: name another --out") from error
        if content.get("schema") != SCHEMA or not isinstance(content.get("settings"), dict):
            raise JournalError(f"{self.path} is of another version of MemStab: name another --out")
        before, now = content["settings"], json.loads(json.dumps(dict(settings)))
        changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        if changed:
            told = "; ".join(
                f"{name}: {_short(before.get(name))} then, {_short(now.get(name))} now" for name in changed
            )
            raise JournalError(
                f"{self.path.parent} holds an unfinished or finished run with other settings ({told}): give the same "
                "settings to go on, or another --out to begin anew"
            )


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode("ascii") + b"\n"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
