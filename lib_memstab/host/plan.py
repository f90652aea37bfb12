"""What a caller asks to calibrate, read strictly: every field named, checked and with a default of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from lib_memstab.core.profile import Mode, ProfileError, check_name
from lib_memstab.host.calibrate import SCALES, Plan
from lib_memstab.settings import SettingsError

MAX_PROMPTS = 4096
MODES: dict[str, tuple[Mode, ...]] = {"txt2img": ("txt2img",), "both": ("txt2img", "img2img")}


def read_plan(body: object, samplers: Collection[str], schedulers: Collection[str]) -> Plan:
    """A plan from JSON data; fields left out take their defaults.

    Raises:
        SettingsError: names the field and the values it may have.
    """
    if not isinstance(body, Mapping):
        raise SettingsError("body", "a JSON object", body)
    readers: dict[str, tuple[Any, Callable[[str, Any], Any]]] = {
        "name": ("", _name),
        "sampler": ("Euler", _one_of(samplers)),
        "scheduler": ("Automatic", _one_of(schedulers)),
        "steps": (20, _whole(1, 150)),
        "width": (512, _whole(64, 2048, 8)),
        "height": (512, _whole(64, 2048, 8)),
        "guidance": (None, _scales),
        "trajectories": (256, _whole(8, 4096)),
        "batch_size": (4, _whole(1, 64)),
        "modes": ("both", _one_of(MODES)),
        "prompts": (None, _prompts),
    }
    for field in body:
        if field not in readers:
            raise SettingsError(str(field)[:40], f"one of {', '.join(readers)}", field)
    values = {field: read(field, body.get(field, default)) for field, (default, read) in readers.items()}
    wanted = [values["guidance"]] if values["guidance"] else [SCALES[:count] for count in range(len(SCALES), 0, -1)]
    plans = [Plan(**{**values, "modes": MODES[values["modes"]], "guidance": scales}) for scales in wanted]
    plan = next((one for one in plans if one.trajectories >= one.fewest()), plans[-1])
    if plan.trajectories < plan.fewest():
        raise SettingsError("trajectories", f"at least {plan.fewest()} with these guidance scales", plan.trajectories)
    return plan


def _name(field: str, value: Any) -> str:
    if value == "":
        return ""
    try:
        return check_name(value) if isinstance(value, str) else check_name("")
    except ProfileError as error:
        raise SettingsError(field, f"a profile's name ({error})", value) from error


def _one_of(choices: Collection[str]) -> Callable[[str, Any], str]:
    def read(field: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise SettingsError(field, f"one of {', '.join(choices)}", value)
        return value

    return read


def _whole(low: int, high: int, step: int = 1) -> Callable[[str, Any], int]:
    def read(field: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high or value % step:
            raise SettingsError(
                field, f"a whole number from {low} to {high}" + (f" in steps of {step}" if step > 1 else ""), value
            )
        return value

    return read


def _scales(field: str, value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    scales = value if isinstance(value, list) else [value]
    fits = all(type(scale) in (int, float) and 1 <= scale <= 30 for scale in scales)
    if not (1 <= len(scales) <= 8 and fits and len(set(scales)) == len(scales)):
        raise SettingsError(field, "null, a number from 1 to 30, or up to 8 different ones", value)
    return tuple(float(scale) for scale in scales)


def _prompts(field: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    fits = isinstance(value, list) and 8 <= len(value) <= MAX_PROMPTS
    if not (fits and all(isinstance(one, str) and len(one) <= 2000 for one in value)):
        raise SettingsError(field, f"null, or 8 to {MAX_PROMPTS} texts", value)
    return tuple(value)
