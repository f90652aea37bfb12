"""The user's presets: named sets of the panel's settings, in one file that is read strictly and written in one stroke.

What the table of settings has is in every preset; a preset from before a setting was added takes that one's default.
"""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib_memstab.core.files import write_whole
from lib_memstab.core.plain import PlainDataError, check_schema, parse_object, to_plain
from lib_memstab.settings import TABLE, SettingsError

SCHEMA = 1
FILE = "presets.json"
SETTINGS = TABLE[1:]
"""What a preset holds: everything but whether MemStab is on."""

MAX_NAME = 60
MAX_PRESETS = 200
MAX_BYTES = 1 << 20

Values = dict[str, Any]
"""A preset's settings by their attribute, as the argument object of the API has them."""


class PresetError(ValueError):
    """A preset, or their file, that cannot be used; the message says what to do."""


class Presets:
    """The presets in `folder`; a file that cannot be read is never written over."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._guard = threading.Lock()

    def all(self) -> dict[str, Values]:
        """Every preset by its name, in the order in which they were saved; PresetError if the file is not usable."""
        path = self._folder() / FILE
        try:
            # Opening a pipe would wait for its other end.
            if not path.is_file():
                path.lstat()
                raise PlainDataError("it is no regular file")
            with path.open("rb") as file:
                return _read(file.read(MAX_BYTES + 1))
        except FileNotFoundError:
            return {}
        except (OSError, PlainDataError) as error:
            raise PresetError(
                f"the presets in {path} cannot be used: {error}. Repair the file, or move it away to begin anew; until "
                "then it stays as it is"
            ) from error

    def save(self, name: str, values: Mapping[str, object]) -> None:
        """Keep settings under a name, over what was there.

        Raises:
            SettingsError: for a value that a setting cannot have.
            PresetError: for a bad name, too many presets, or a file that cannot be read or written.
        """
        name, kept = check_name(name), _checked(values)
        with self._guard:
            presets = {**self.all(), name: kept}
            if len(presets) > MAX_PRESETS:
                raise PresetError(f"there are {MAX_PRESETS} presets already: delete one first")
            self._write(presets)

    def delete(self, name: str) -> None:
        """Forget a preset; PresetError if there is none of that name, or for the file as `save`."""
        with self._guard:
            presets = self.all()
            if name not in presets:
                raise PresetError(f"there is no preset {name[:MAX_NAME]!r}: choose one from the list")
            del presets[name]
            self._write(presets)

    def _write(self, presets: Mapping[str, Values]) -> None:
        rows = [{"name": name, "settings": to_plain(values)} for name, values in presets.items()]
        text = json.dumps({"schema": SCHEMA, "presets": rows}, ensure_ascii=False, indent=1) + "\n"
        folder = self._folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / FILE, text.encode("utf-8"))
        except OSError as error:
            raise PresetError(f"{folder / FILE} cannot be written ({error}): free some space") from error


def check_name(name: str) -> str:
    """The name without blanks around it; PresetError unless it is one line of 1 to `MAX_NAME` visible characters."""
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= MAX_NAME or any(unicodedata.category(sign)[0] == "C" for sign in name):
        raise PresetError(f"a preset's name has 1 to {MAX_NAME} characters, without line breaks: type one")
    return name


def _read(data: bytes) -> dict[str, Values]:
    """The presets in a file's content; PlainDataError for anything `Presets.save` does not write."""
    if len(data) > MAX_BYTES:
        raise PlainDataError(f"it is larger than {MAX_BYTES} bytes")
    content = parse_object(data)
    check_schema(content.get("schema"), SCHEMA)
    rows = content.get("presets")
    if content.keys() != {"schema", "presets"} or not isinstance(rows, list) or len(rows) > MAX_PRESETS:
        raise PlainDataError(f"it should hold 'schema' and a list 'presets' of at most {MAX_PRESETS}")
    presets: dict[str, Values] = {}
    for row in rows:
        if not isinstance(row, dict) or row.keys() != {"name", "settings"}:
            raise PlainDataError("each preset should have a 'name' and 'settings', and nothing else")
        name, values = row["name"], row["settings"]
        if not isinstance(name, str) or not isinstance(values, dict):
            raise PlainDataError("a preset's name should be a text, its settings an object")
        try:
            if check_name(name) != name or name in presets:
                raise PlainDataError("a preset's name stands there twice, or has blanks around it")
            presets[name] = _checked(values)
        except (PresetError, SettingsError) as error:
            raise PlainDataError(str(error)) from error
    return presets


def _checked(values: Mapping[str, object]) -> Values:
    """The values of all settings, defaults where one is missing; SettingsError if one cannot be used."""
    known = {setting.attribute for setting in SETTINGS}
    for name in values:
        if name not in known:
            raise SettingsError(str(name)[:40], f"one of {', '.join(sorted(known))}", name)
    return {setting.attribute: setting.read(values.get(setting.attribute, setting.default)) for setting in SETTINGS}
