"""A calibration as the tab asks for it: its fields, the user's own prompts, and refusals in the tab's words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lib_memstab.settings import SettingsError

if TYPE_CHECKING:
    from lib_memstab.calibration.plan import Plan

STEPS = 20
UNKNOWN_SIZE = (512, 512)
COMMENT = "#"
NO_TEXT = "The file of prompts is no plain text in UTF-8: save it as .txt in UTF-8, one prompt a line."
GUIDANCE = "up to 8 different numbers from 1 to 30, such as 7, 3, 1, 12"

Kind = Literal["text", "number", "sampler", "scheduler", "tick"]


class FormError(ValueError):
    """A form that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Field:
    """One field of the form: its name (`plan.read_plan` has the same), kind and label, what it is at first, and help.

    A number may be left empty (None).
    """

    name: str
    kind: Kind
    label: str
    default: str | float | bool | None
    help: str


FIELDS = (
    Field("sampler", "sampler", "Sampling method", "Euler", "The one you use most."),
    Field("scheduler", "scheduler", "Schedule type", "Automatic", "The one you use most."),
    Field("steps", "number", "Steps", STEPS, "As many as you use most."),
    Field("width", "number", "Width", None, "Empty: the checkpoint's own."),
    Field("height", "number", "Height", None, "Empty: the checkpoint's own."),
    Field(
        "guidance",
        "text",
        "Guidance scales (CFG)",
        "",
        "Yours first. Empty: 7, 3, 1, 12.",
    ),
    Field("trajectories", "number", "Pictures in each mode", 256, "More allow rarer false alarms."),
    Field("batch_size", "number", "Pictures at once", 4, "Fewer, if memory runs out."),
    Field("img2img", "tick", "img2img and hires passes too", True, "About twice the time of txt2img alone."),
    Field("suffix", "text", "Added to every prompt", "", "Such as the tag of a LoRA."),
    Field("name", "text", "Name of the profile", "", "Empty: the checkpoint's."),
    Field("pictures", "tick", "Save the pictures", False, "As in txt2img; takes more time."),
)
"""Every field, in the order of the tab."""


def read_form(
    form: Sequence[Any],
    prompts: bytes | None,
    resume: bool,
    samplers: Collection[str],
    schedulers: Collection[str],
    size: Callable[[], tuple[int, int]],
) -> Plan:
    """The plan that the fields' values, in the order of `FIELDS`, and a file of prompts ask for.

    `size`: height and width of the checkpoint, asked only where the form does not say.

    Raises:
        FormError: names the field by its label, and the values it may have.
    """
    from lib_memstab.calibration.plan import read_plan

    body = {field.name: value for field, value in zip(FIELDS, form, strict=True) if value is not None and value != ""}
    body["modes"] = "both" if body.pop("img2img") else "txt2img"
    body["resume"] = resume
    if "guidance" in body:
        body["guidance"] = read_scales(body["guidance"])
    if prompts is not None:
        body["prompts"] = read_prompts(prompts)
    known = (0, 0) if {"width", "height"} <= body.keys() else size()
    try:
        return read_plan(body, samplers, schedulers, known)
    except SettingsError as error:
        label = next((field.label for field in FIELDS if field.name == error.field), error.field)
        allowed = GUIDANCE if error.field == "guidance" else error.allowed
        raise FormError(f"“{label}” should be {allowed}.") from error


def without_size(form: Sequence[Any], size: tuple[int, int] | None) -> list[Any]:
    """The form with width and height empty where they still are `size`, which another checkpoint filled in."""
    filled = {} if size is None else {"height": size[0], "width": size[1]}
    return [
        None if field.name in filled and value == filled[field.name] else value
        for field, value in zip(FIELDS, form, strict=True)
    ]


def sampling_of(form: Sequence[Any], size: tuple[int, int] | None) -> dict[str, Any]:
    """What a job samples with if it is like the form's calibration, by the names of `accordion.SAMPLING`.

    `size`: height and width of the checkpoint, where it is known.
    """
    from lib_memstab.calibration.plan import SCALES

    values = {field.name: value for field, value in zip(FIELDS, form, strict=True)}
    height, width = size or UNKNOWN_SIZE
    try:
        scales = read_scales(values["guidance"] or "")
    except FormError:
        scales = []
    return {
        "sampling": values["sampler"],
        "scheduler": values["scheduler"],
        "steps": values["steps"] or STEPS,
        "width": values["width"] or width,
        "height": values["height"] or height,
        "cfg_scale": scales[0] if scales else SCALES[0],
    }


def read_scales(text: str) -> list[float]:
    """Numbers with commas or blanks between them; FormError if there are other words."""
    try:
        return [float(word) for word in text.replace(",", " ").replace(";", " ").split()]
    except ValueError as error:
        label = next(field.label for field in FIELDS if field.name == "guidance")
        raise FormError(f"“{label}” should be {GUIDANCE}.") from error


def read_prompts(data: bytes) -> list[str]:
    """The prompts of a text file: one a line, without empty lines, comments and repetitions.

    Raises:
        FormError: if it is no such file, or has too few or too long prompts.
    """
    from lib_memstab.calibration.plan import FEWEST_PROMPTS, LONGEST, MAX_PROMPTS

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise FormError(NO_TEXT)
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST:
            raise FormError(f"Line {number} of the file of prompts is longer than {LONGEST} characters: shorten it.")
    found = list(dict.fromkeys(line for line in lines if line and not line.startswith(COMMENT)))
    if not FEWEST_PROMPTS <= len(found) <= MAX_PROMPTS:
        raise FormError(
            f"The file of prompts has {len(found)} different prompts: give {FEWEST_PROMPTS} to {MAX_PROMPTS}, one a "
            "line (100 or more are good), or no file for MemStab's own."
        )
    return found
