"""What the panel's row of presets does: choose one, keep what the panel has under a name, delete one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lib_memstab.host import wording
from lib_memstab.presets import SETTINGS, PresetError, Presets, Values, check_name
from lib_memstab.settings import SettingsError


@dataclass(frozen=True)
class Answer:
    """What became of a click: a sentence, the name to show, and what a second click is armed for."""

    message: str
    chosen: str | None = None
    armed: str = ""


def listed(presets: Presets) -> tuple[list[str], str]:
    """The presets' names, and why there are none where their file cannot be used."""
    try:
        return list(presets.all()), ""
    except PresetError as error:
        return [], str(error)


def settings_of(presets: Presets, name: str | None) -> tuple[Sequence[Any], str]:
    """A preset's values in the order of `SETTINGS`, or as many None, which change nothing, and why."""
    try:
        found = presets.all().get(name or "")
        message = "" if found else f"There is no preset {name!r} any more."
    except PresetError as error:
        found, message = None, str(error)
    return [found[setting.attribute] if found else None for setting in SETTINGS], message


def save(presets: Presets, name: str | None, values: Sequence[Any], armed: str) -> Answer:
    """Keep the panel's values, in the order of `SETTINGS`; over a preset that says otherwise on a second click."""
    given: Values = {setting.attribute: value for setting, value in zip(SETTINGS, values, strict=True)}
    try:
        name = check_name(name or "")
        known = presets.all().get(name)
        if known not in (None, given) and armed != f"save {name}":
            return Answer(f"Click {wording.SAVE_PRESET} once more to replace {name}.", name, f"save {name}")
        presets.save(name, given)
    except (PresetError, SettingsError) as error:
        return Answer(str(error))
    return Answer(f"{name} is saved.", name)


def delete(presets: Presets, name: str | None, armed: str) -> Answer:
    """Forget a preset, on a second click."""
    if not name:
        return Answer(wording.NO_PRESET)
    try:
        if name in presets.all() and armed != f"delete {name}":
            return Answer(f"Click {wording.DELETE_PRESET} once more to delete {name}.", name, f"delete {name}")
        presets.delete(name)
    except PresetError as error:
        return Answer(str(error))
    return Answer(f"{name} is deleted.", "")
