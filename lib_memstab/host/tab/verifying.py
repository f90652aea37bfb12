"""How the tab's fields become a verification, and how a verification's report is told in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib_memstab.host.asking import NUMBERS
from lib_memstab.host.tab import working
from lib_memstab.host.tab.form import Field, FormError
from lib_memstab.host.tab.markup import sentence
from lib_memstab.host.verification import Verification
from lib_memstab.settings import Setting

NO_PROMPTS = "Give prompts that are known to replay: a list as a file, or pasted."
TWO_LISTS = "Give a file or paste prompts, not both."
LIMITS = (
    "What this does not show: it tells of these prompts, seeds and settings, and of nothing else. A picture that is "
    "not flagged is not shown to be original. What counts as a copy here is what this comparison takes for one."
)
ANSWERS = (NO_PROMPTS, TWO_LISTS, LIMITS)
"""What the tab answers."""

MEMORIZED = "Prompts that are known to replay: text (one a line), JSONL or CSV"
ORDINARY = "Ordinary prompts, if you have some; else MemStab's own are taken"


def _number(one: Setting) -> Field:
    assert isinstance(one.default, int | float)
    return Field(one.attribute, "number", one.label, one.default, one.help)


_SEEDS, _STEPS, _GUIDANCE, _SENSITIVITY = map(_number, NUMBERS)

FIELDS = (
    _SEEDS,
    Field("limit", "number", "Prompts of each list", None, "Only the first so many. 0: all."),
    _SENSITIVITY,
    Field("sampler", "sampler", "Sampling method", "Euler", "The one you use most."),
    Field("scheduler", "scheduler", "Schedule type", "Automatic", "The one you use most."),
    _STEPS,
    Field("width", "number", "Width", None, "0: the checkpoint's own."),
    Field("height", "number", "Height", None, "0: the checkpoint's own."),
    _GUIDANCE,
    Field(
        "reference",
        "text",
        "Folder of training pictures",
        "",
        "Among the output folders, each picture named as the list's index. Empty: other seeds tell copies.",
    ),
)
"""Every field, in the order of the tab; the names are those of a verification's JSON body, and of an attack's."""

LABELS = {"ordinary": ORDINARY, **{field.name: field.label for field in FIELDS}}

_NONE_IS_0 = ("limit", "width", "height")

Read = Callable[[object], Verification]


def body_of(
    form: Sequence[Any], name: str, listed: bytes | None, pasted: str, ordinary: bytes | None, resume: bool
) -> dict[str, Any]:
    """The JSON body that the fields' values, in the order of `FIELDS`, and lists ask for; `name` is the first list's.

    Raises:
        FormError: if there is no list, or two.
    """
    if listed is not None and pasted.strip():
        raise FormError(TWO_LISTS)
    if listed is None and not pasted.strip():
        raise FormError(NO_PROMPTS)
    given = {field.name: value for field, value in zip(FIELDS, form, strict=True)}
    # The browser shows a number without a value as 0.
    body = {
        field: value for field, value in given.items() if value not in (None, "") and (value or field not in _NONE_IS_0)
    }
    # What is no UTF-8 stays what it is, so that the reader of lists can name the line.
    body[name] = pasted if listed is None else listed.decode("utf-8", "surrogateescape")
    if ordinary is not None:
        body["ordinary"] = ordinary.decode("utf-8", "surrogateescape")
    return {**body, "resume": resume}


def read_form(
    form: Sequence[Any], memorized: bytes | None, pasted: str, ordinary: bytes | None, resume: bool, read: Read
) -> Verification:
    """The verification that the fields ask for.

    Raises:
        FormError: names the field by its label, and the values it may have.
    """
    return read_body(body_of(form, "memorized", memorized, pasted, ordinary, resume), read)


def read_body(body: Mapping[str, Any], read: Read) -> Verification:
    """The verification that a body asks for; FormError as `read_form` has it."""
    return working.read_body(body, read, {"memorized": MEMORIZED, **LABELS})


def result(report: Mapping[str, Any]) -> str:
    """A report in sentences, and what it does not show."""
    from lib_memstab.evidence.verify.words import sentences

    told = [*sentences(report["figures"], report["settings"]["sensitivity"]), report["copies_by"], *report["notes"]]
    return working.listed(told, report["lists"]) + sentence(LIMITS)
