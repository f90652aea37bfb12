"""A verification as a page asks for it: read strictly, every field named, checked and with a default."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_memstab.calibration.ordinary import KEPT, candidates
from lib_memstab.calibration.plan import MOST_PROMPTS, SCALES
from lib_memstab.host.audit import permitted
from lib_memstab.settings import Setting, SettingsError, row

if TYPE_CHECKING:
    from lib_memstab.evidence.prompt_lists import PromptList
    from lib_memstab.evidence.verify.plan import Group, Sampling

MOST_PICTURES = 1_000_000
"""Prompts times seeds times modes: more than a year of pictures, and a table that still fits the memory."""

SIDES = (64, 2048, 8)
"""Shortest and longest side of a picture, and what it is a multiple of."""

LONGEST_NAME = 80
OWN = "MemStab's own ordinary prompts"
LISTS = ("memorized", "ordinary")

NUMBERS = (
    Setting("seeds", "Pictures of each prompt", 4, "Each with a seed of its own.", low=1, high=1000, step=1),
    Setting("steps", "Steps", 20, "As many as you use most.", low=2, high=150, step=1),
    Setting("guidance", "CFG scale", SCALES[0], "The one you use most.", low=1, high=30, step=0.5),
    row("sensitivity"),
)
"""Fields that are numbers, with their ranges."""

TEXTS: Mapping[str, object] = {
    "memorized": None,
    "memorized_name": "memorized prompts",
    "ordinary": None,
    "ordinary_name": "ordinary prompts",
    "limit": None,
    "sampler": "Euler",
    "scheduler": "Automatic",
    "width": None,
    "height": None,
    "reference": None,
    "resume": True,
}
"""The other fields, with what they are at first; `memorized` has to be given."""


@dataclass(frozen=True)
class Verification:
    """What to verify.

    Attributes:
        memorized: prompts that are known to replay.
        ordinary: prompts that do not; None: MemStab's own, as many as there are others.
        limit: only so many prompts of each list.
        seeds: pictures of each prompt, in each mode.
        reference: folder of training pictures; without it copies are told by other seeds.
        resume: whether to go on from what the same verification has made when it was stopped.
        body: the same as JSON data that `read_verification` reads.
    """

    memorized: PromptList
    ordinary: PromptList | None
    limit: int | None
    seeds: int
    sampling: Sampling
    reference: Path | None
    resume: bool
    body: Mapping[str, Any]

    def lists(self, vocabulary: Callable[[], Sequence[str]]) -> list[tuple[Group, PromptList]]:
        """Both lists; `vocabulary` are words that the checkpoint's text model has, asked for MemStab's own prompts."""
        count = len(self.memorized.prompts[: self.limit])
        ordinary = self.ordinary or own_prompts(vocabulary(), count)
        return [("memorized", self.memorized), ("ordinary", ordinary)]


def read_verification(
    body: object,
    samplers: Collection[str],
    schedulers: Collection[str],
    size: Callable[[], tuple[int, int]],
    folders: Sequence[Path],
) -> Verification:
    """The verification that a page's JSON body asks for.

    Args:
        size: height and width that the loaded checkpoint is made for, asked only where the body does not say.
        folders: the host's output folders; training pictures are read in these alone.

    Raises:
        SettingsError: names the field and the values it may have.
        ForbiddenError: for training pictures in another folder.
        FileNotFoundError: for such a folder that is not there.
    """
    from lib_memstab.evidence.verify.plan import MODES, Sampling

    if not isinstance(body, Mapping):
        raise SettingsError("body", "a JSON object", body)
    known = {**TEXTS, **{one.attribute: one.default for one in NUMBERS}}
    for field in body:
        if field not in known:
            raise SettingsError(str(field)[:40], f"one of {', '.join(known)}", field)
    given = {field: body.get(field, default) for field, default in known.items()}
    numbers = {one.attribute: one.read(given[one.attribute]) for one in NUMBERS}
    names = {field: _name(f"{field}_name", given[f"{field}_name"]) for field in LISTS}
    memorized = _list("memorized", given["memorized"], names["memorized"])
    ordinary = None if given["ordinary"] is None else _list("ordinary", given["ordinary"], names["ordinary"])
    limit, reference, resume = given["limit"], given["reference"], given["resume"]
    if not (limit is None or (type(limit) is int and limit >= 1)):
        raise SettingsError("limit", "null, or a whole number from 1 on", limit)
    if not (reference is None or isinstance(reference, str)):
        raise SettingsError("reference", "null, or the path of a folder", reference)
    if not isinstance(resume, bool):
        raise SettingsError("resume", "true or false", resume)
    for field, choices in (("sampler", samplers), ("scheduler", schedulers)):
        if not (isinstance(given[field], str) and given[field] in choices):
            raise SettingsError(field, f"one of {', '.join(choices)}", given[field])
    if reference is None and numbers["seeds"] < 2:
        raise SettingsError("seeds", "2 or more without training pictures, as other seeds tell copies", 1)
    count = len(memorized.prompts[:limit])
    pictures = (count + (len(ordinary.prompts[:limit]) if ordinary else count)) * numbers["seeds"] * len(MODES)
    if pictures > MOST_PICTURES:
        raise SettingsError("limit", f"so small that there are at most {MOST_PICTURES:,} pictures", pictures)
    sides = {field: given[field] if given[field] is None else _side(field, given[field]) for field in _SIDE_NAMES}
    if None in sides.values():
        sides = {field: side or own for (field, side), own in zip(sides.items(), size(), strict=True)}
    sampling = Sampling(
        given["sampler"],
        given["scheduler"],
        numbers["steps"],
        numbers["guidance"],
        sides["width"],
        sides["height"],
        numbers["sensitivity"],
    )
    place = None if reference is None else permitted(reference, folders)
    return Verification(
        memorized, ordinary, limit, numbers["seeds"], sampling, place, resume, {**given, **numbers, **sides}
    )


def own_prompts(vocabulary: Sequence[str], count: int) -> PromptList:
    """So many ordinary prompts of MemStab's, always the same; none that a calibration chooses from."""
    from lib_memstab.evidence.prompt_lists import ListedPrompt, PromptList

    # The first half of candidates is MemStab's list, of which a calibration takes no more than its beginning.
    used = round(MOST_PROMPTS / KEPT)
    texts = candidates(vocabulary, 2 * (used + count))[used : used + count]
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    prompts = tuple(ListedPrompt(text, line) for line, text in enumerate(texts, start=1))
    return PromptList(OWN, "own", digest, prompts, ())


_SIDE_NAMES = ("height", "width")
_SHAPES = "prompts as text, one a line, or a list as JSONL or CSV"


def _list(field: str, value: object, name: str) -> PromptList:
    from lib_memstab.evidence.prompt_lists import PromptListError, parse_list

    if not isinstance(value, str):
        raise SettingsError(field, _SHAPES, value)
    try:
        return parse_list(name, value.encode("utf-8", "surrogateescape"))
    except (PromptListError, UnicodeEncodeError) as error:
        raise SettingsError(field, f"{_SHAPES} ({error})", value) from error


def _name(field: str, value: object) -> str:
    if not (isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST_NAME):
        raise SettingsError(field, f"a name of 1 to {LONGEST_NAME} characters", value)
    return value


def _side(field: str, value: object) -> int:
    low, high, step = SIDES
    if type(value) is not int or not low <= value <= high or value % step:
        raise SettingsError(field, f"null, or a whole number from {low} to {high} in steps of {step}", value)
    return value
