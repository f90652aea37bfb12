"""MemStab's axes in the WebUI's X/Y/Z plot: every cell is a job with settings, and so with verdicts, of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lib_memstab.core.report import AUTOMATIC
from lib_memstab.settings import TITLE, Setting, SettingsError, row

OFF = "off"
"""On the axis of modes: without MemStab."""

AXES = {
    "mode": f"[{TITLE}] Mode",
    "sensitivity": f"[{TITLE}] False alarms (1 in N)",
    "strength": f"[{TITLE}] Strength",
    "profile": f"[{TITLE}] Profile",
}
"""The axes' names, by the setting that they change."""

_CHANGES = "memstab_axes"
_SCRIPT = ("xyz_grid.py", "scripts.xyz_grid")
_DIGITS = 6
"""Ranges such as 0-1 (+0.1) make numbers such as 0.30000000000000004."""


def add_axes(loaded: Iterable[Any], profiles: Callable[[], list[str]]) -> None:
    """Add the axes to the plot's script, if it is among the `loaded` ones and does not have them."""
    plot = next((one.module for one in loaded if one.script_class.__module__ in _SCRIPT), None)
    if plot is None or any(option.label in AXES.values() for option in plot.axis_options):
        return
    choices = {"mode": lambda: [OFF, *row("mode").choices], "profile": lambda: [AUTOMATIC, *profiles()]}
    for attribute, label in AXES.items():
        setting = row(attribute)
        kind = float if isinstance(setting.default, float) else str
        option = plot.AxisOption(
            label, kind, _applier(setting), confirm=_confirmer(setting, profiles), choices=choices.get(attribute)
        )
        plot.axis_options.append(option)


def changes_of(p: Any) -> dict[str, object]:
    """What the plot changes in the settings of the job `p`; nothing if it is no cell of such a plot."""
    return getattr(p, _CHANGES, {})


def _applier(setting: Setting) -> Callable[[Any, Any, Any], None]:
    """Puts an axis' value on a cell's job: MemStab is on there, unless the axis of modes says off."""

    def apply(p: Any, value: Any, values: Any) -> None:
        before = changes_of(p)
        if setting.attribute != "mode":
            own = {"enabled": True, **before, setting.attribute: _exact(value)}
        elif value == OFF:
            own = {**before, "enabled": False}
        else:
            own = {**before, "enabled": True, "mode": value}
        setattr(p, _CHANGES, own)

    return apply


def _confirmer(setting: Setting, profiles: Callable[[], list[str]]) -> Callable[[Any, Sequence[Any]], None]:
    """Refuses an axis with no value, or with one that cannot be used, before the first cell."""

    def confirm(p: Any, values: Sequence[Any]) -> None:
        names = profiles()
        allowed = setting.allowed(names) + (f" or {OFF!r}" if setting.attribute == "mode" else "")
        if not values:
            raise SettingsError(AXES[setting.attribute], allowed, "nothing")
        for value in values:
            if setting.attribute == "mode" and value == OFF:
                continue
            try:
                setting.read(_exact(value), names)
            except SettingsError as error:
                raise SettingsError(AXES[setting.attribute], allowed, value) from error

    return confirm


def _exact(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value
