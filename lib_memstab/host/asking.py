"""What verifications and attacks have in common as a page asks for them: lists, sampling, limits, training pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_memstab.calibration.plan import SCALES
from lib_memstab.host.audit import permitted
from lib_memstab.settings import Setting, SettingsError, row

if TYPE_CHECKING:
    from lib_memstab.evidence.prompt_lists import PromptList
    from lib_memstab.evidence.verify.plan import Sampling

MOST_PICTURES = 1_000_000
"""More than a year of pictures, and a table that still fits the memory."""

SIDES = (64, 2048, 8)
"""Shortest and longest side of a picture, and what it is a multiple of."""

LONGEST_NAME = 80
NAME = "_name"
"""How a field ends that names the list in another one."""

NUMBERS = (
    Setting("seeds", "Pictures of each prompt", 4, "Each with a seed of its own.", low=1, high=1000, step=1),
    Setting("steps", "Steps", 20, "As many as you use most.", low=2, high=150, step=1),
    Setting("guidance", "CFG scale", SCALES[0], "The one you use most.", low=1, high=30, step=0.5),
    row("sensitivity"),
)
"""Fields that are numbers, with their ranges."""

OTHERS: Mapping[str, object] = {
    "limit": None,
    "sampler": "Euler",
    "scheduler": "Automatic",
    "width": None,
    "height": None,
    "reference": None,
    "resume": True,
}
"""Fields that are none, with what they are at first."""

_SIDE_NAMES = ("height", "width")
_SHAPES = "prompts as text, one a line, or a list as JSONL or CSV"


@dataclass(frozen=True)
class Host:
    """What a body is held to.

    Attributes:
        samplers, schedulers: names of those there are.
        size: height and width that the loaded checkpoint is made for, asked only where the body does not say.
        folders: the host's output folders; training pictures are read in these alone.
    """

    samplers: Collection[str]
    schedulers: Collection[str]
    size: Callable[[], tuple[int, int]]
    folders: Sequence[Path]


def fields_of(body: object, texts: Mapping[str, object]) -> dict[str, Any]:
    """Every field of a JSON body, `texts` with their defaults and `NUMBERS`; lists, attacks and sampling unchecked.

    Raises:
        SettingsError: names the field and the values it may have.
    """
    if not isinstance(body, Mapping):
        raise SettingsError("body", "a JSON object", body)
    known = {**texts, **{one.attribute: one.default for one in NUMBERS}}
    for field in body:
        if field not in known:
            raise SettingsError(str(field)[:40], f"one of {', '.join(known)}", field)
    given = {field: body.get(field, default) for field, default in known.items()}
    given.update({one.attribute: one.read(given[one.attribute]) for one in NUMBERS})
    for field, name in given.items():
        if field.endswith(NAME) and not _is_name(name):
            raise SettingsError(field, f"a name of 1 to {LONGEST_NAME} characters", name)
    limit, reference, resume = given["limit"], given["reference"], given["resume"]
    if not (limit is None or (type(limit) is int and limit >= 1)):
        raise SettingsError("limit", "null, or a whole number from 1 on", limit)
    if not (reference is None or isinstance(reference, str)):
        raise SettingsError("reference", "null, or the path of a folder", reference)
    if not isinstance(resume, bool):
        raise SettingsError("resume", "true or false", resume)
    if reference is None and given["seeds"] < 2:
        raise SettingsError("seeds", "2 or more without training pictures, as other seeds tell copies", 1)
    return given


def read_list(field: str, given: Mapping[str, Any]) -> PromptList:
    """The list in a field, by its name in another one; SettingsError if it is none."""
    from lib_memstab.evidence.prompt_lists import PromptListError, parse_list

    value = given[field]
    if not isinstance(value, str):
        raise SettingsError(field, _SHAPES, value)
    try:
        return parse_list(given[f"{field}{NAME}"], value.encode("utf-8", "surrogateescape"))
    except (PromptListError, UnicodeEncodeError) as error:
        raise SettingsError(field, f"{_SHAPES} ({error})", value) from error


def read_sampling(given: dict[str, Any], host: Host) -> Sampling:
    """How is sampled; sides that are not given become the checkpoint's own, in `given` too.

    Raises:
        SettingsError: names the field and the values it may have.
    """
    from lib_memstab.evidence.verify.plan import Sampling

    for field, choices in (("sampler", host.samplers), ("scheduler", host.schedulers)):
        if not (isinstance(given[field], str) and given[field] in choices):
            raise SettingsError(field, f"one of {', '.join(choices)}", given[field])
    sides = {field: given[field] if given[field] is None else _side(field, given[field]) for field in _SIDE_NAMES}
    if None in sides.values():
        sides = {field: side or own for (field, side), own in zip(sides.items(), host.size(), strict=True)}
    given.update(sides)
    return Sampling(
        given["sampler"],
        given["scheduler"],
        given["steps"],
        given["guidance"],
        given["width"],
        given["height"],
        given["sensitivity"],
    )


def read_reference(given: Mapping[str, Any], host: Host) -> Path | None:
    """The folder of training pictures; ForbiddenError for one elsewhere, FileNotFoundError for none."""
    return None if given["reference"] is None else permitted(given["reference"], host.folders)


def refuse_too_many(pictures: int) -> None:
    """SettingsError if this is more than anybody could make."""
    if pictures > MOST_PICTURES:
        raise SettingsError("limit", f"so small that there are at most {MOST_PICTURES:,} pictures", pictures)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST_NAME


def _side(field: str, value: object) -> int:
    low, high, step = SIDES
    if type(value) is not int or not low <= value <= high or value % step:
        raise SettingsError(field, f"null, or a whole number from {low} to {high} in steps of {step}", value)
    return value
