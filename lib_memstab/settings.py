"""The table of settings: one row a setting, which drives accordion, API, infotext and defaults, and its strict reader.

The order of the rows is the order of positional API arguments; new rows are appended, none is moved.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from lib_memstab.badge import JobSettings
from lib_memstab.core.report import AUTOMATIC, DEFAULT_RETRIES, DEFAULT_SENSITIVITY, PROFILE_NAME, JobMode

TITLE = "MemStab"

ARGS_SCHEMA = 1
"""Number of the argument object's schema; a new one is for changed meanings only."""


class SettingsError(ValueError):
    """A setting that cannot be used; the message names the field and the values it may have."""

    def __init__(self, field: str, allowed: str, found: object) -> None:
        super().__init__(f"MemStab: the field {field!r} should be {allowed}, not {ascii(found)[:60]}")
        self.field, self.allowed = field, allowed


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        attribute: name of the field in the API and in `Choice`.
        label: what the user reads.
        default: value without a word from the user.
        help: what it does, in one sentence.
        choices: the values of a text; empty where any profile's name will do.
        low, high, step: range of a number, and how finely the accordion's slider moves.

    A number whose default is an int is a whole one.
    """

    attribute: str
    label: str
    default: bool | str | float | int
    help: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0

    @property
    def infotext(self) -> str:
        """Name under which "Send to" carries the field; infotexts hold all settings in one value (`badge`)."""
        return f"{TITLE} {self.attribute}"

    def allowed(self, profiles: Sequence[str] | None = None) -> str:
        """The values this setting may have, in words; `profiles` are the names of those there are."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, int):
            return f"a whole number from {self.low:g} to {self.high:g}"
        if isinstance(self.default, float):
            return f"a number from {self.low:g} to {self.high:g}"
        if self.choices:
            return " or ".join(map(repr, self.choices))
        names = ", ".join(map(repr, profiles or ()))
        return f"{AUTOMATIC!r} or a profile's name" + (f" ({names})" if names else "")

    def read(self, value: object, profiles: Sequence[str] | None = None) -> Any:
        """The value itself if it is one of those allowed, else SettingsError; numbers as the default's kind."""
        if isinstance(self.default, bool):
            fits = isinstance(value, bool)
        elif isinstance(self.default, int | float):
            fits = self._in_range(value)
        elif self.choices:
            fits = isinstance(value, str) and value in self.choices
        else:
            fits = isinstance(value, str) and re.fullmatch(PROFILE_NAME, value) is not None
            fits = fits and (profiles is None or value == AUTOMATIC or value in profiles)
        if not fits:
            raise SettingsError(self.attribute, self.allowed(profiles), value)
        if isinstance(self.default, bool | str):
            return value
        assert isinstance(value, int | float)
        return type(self.default)(value)

    def _in_range(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and (isinstance(self.default, float) or float(value).is_integer())

    def schema(self) -> dict[str, Any]:
        """The same for programs, as JSON Schema; which profiles there are is not in it."""
        told = {"title": self.label, "description": self.help, "default": self.default}
        if isinstance(self.default, bool):
            return {**told, "type": "boolean"}
        if isinstance(self.default, int | float):
            kind_of = "number" if isinstance(self.default, float) else "integer"
            return {**told, "type": kind_of, "minimum": self.low, "maximum": self.high}
        kind = {"enum": list(self.choices)} if self.choices else {"type": "string", "pattern": f"^{PROFILE_NAME}$"}
        return {**told, **kind}

    def clamp(self, value: float) -> float:
        """A number brought into the range."""
        return min(max(value, self.low), self.high)


TABLE = (
    Setting("enabled", TITLE, False, "Watch the sampling, and give every image a badge."),
    Setting(
        "mode",
        "When an image looks like a replayed training picture",
        "suppress",
        "suppress steers the image away from the copy; detect only says so and changes nothing; "
        "stop ends its sampling; retry samples another seed instead.",
        choices=get_args(JobMode),
    ),
    Setting(
        "sensitivity",
        "False alarms: about 1 in N ordinary images, N =",
        DEFAULT_SENSITIVITY,
        "Small N finds more and is wrong more often.",
        low=2.0,
        high=100_000.0,
        step=1.0,
    ),
    Setting(
        "strength",
        "Strength",
        1.0,
        "How much of the suppression is applied: 0 touches nothing, 1 all of it.",
        low=0.0,
        high=1.0,
        step=0.05,
    ),
    Setting(
        "profile",
        "Profile",
        AUTOMATIC,
        "What ordinary images of the checkpoint look like; automatic takes the one made for the loaded checkpoint.",
    ),
    Setting(
        "retries",
        "Other seeds to try",
        DEFAULT_RETRIES,
        "Only for retry: how many other seeds a flagged image gets. "
        "If the last one is flagged too, the image is steered away.",
        low=1,
        high=20,
        step=1,
    ),
)
"""Every setting, in the order of positional API arguments."""


@dataclass(frozen=True)
class Choice:
    """What a user chose for one job: whether MemStab is on, and how."""

    enabled: bool
    settings: JobSettings


def row(attribute: str) -> Setting:
    """The table's row of this attribute."""
    return next(setting for setting in TABLE if setting.attribute == attribute)


def read_args(
    args: Sequence[object], profiles: Sequence[str] | None = None, changes: Mapping[str, object] | None = None
) -> Choice:
    """Arguments of the script as accordion and API give them: values in the table's order, or one object first.

    A short list, and fields an object leaves out, keep their defaults; what follows an object is ignored, because the
    WebUI fills the list up with defaults of its own. With `profiles`, a profile's name must be among these; `changes`
    go before what the arguments say.

    Raises:
        SettingsError: for a value of the wrong type or out of range, and for a field the table does not have.
    """
    if args and isinstance(args[0], Mapping):
        given = dict(args[0])
    else:
        given = {setting.attribute: value for setting, value in zip(TABLE, args, strict=False)}
    given.update(changes or {})
    known = {setting.attribute for setting in TABLE}
    for name in given:
        if name not in known:
            raise SettingsError(str(name)[:40], f"one of {', '.join(sorted(known))}", name)
    values = {
        setting.attribute: setting.read(given.get(setting.attribute, setting.default), profiles) for setting in TABLE
    }
    return Choice(values.pop("enabled"), JobSettings(**values))


def args_schema() -> dict[str, Any]:
    """JSON Schema of the argument object; `profiles/args.schema.json` is its text."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"memstab:args:{ARGS_SCHEMA}",
        "title": "MemStab arguments",
        "description": "The object in the list alwayson_scripts.MemStab.args of the WebUI's API. Every field may be "
        "left out; others may be added under a schema number; meanings never change.",
        "type": "object",
        "additionalProperties": False,
        "properties": {setting.attribute: setting.schema() for setting in TABLE},
    }
