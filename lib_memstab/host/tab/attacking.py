"""How the tab's fields become an attack, how many pictures that is, and how an attack's report is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lib_memstab.evidence.live.names import HEADS, NAMES, SAMPLERS
from lib_memstab.host.attack import Attack
from lib_memstab.host.tab import working
from lib_memstab.host.tab.form import FormError
from lib_memstab.host.tab.markup import sentence, table
from lib_memstab.host.tab.verifying import LABELS, MEMORIZED, body_of

ATTACKS = "Attacks"
ATTACKS_HELP = "What is tried on each prompt."
NO_ATTACKS = "Choose at least one attack."
LIMITS = (
    "What this does not show: it tells of these prompts, seeds, settings and attacks, and of nothing else. An attack "
    "that got no copy here may get one elsewhere, and attacks that need the checkpoint's weights are not among these. "
    "What counts as a copy here is what this comparison takes for one."
)
ANSWERS = (NO_ATTACKS, LIMITS)
"""What the tab answers."""

Read = Callable[[object], Attack]


def choices(samplers: Collection[str]) -> list[str]:
    """Attacks that can be tried where there are these samplers."""
    return [name for name in NAMES if name not in SAMPLERS or name in samplers]


def read_form(
    form: Sequence[Any],
    attacks: Sequence[str] | None,
    listed: bytes | None,
    pasted: str,
    ordinary: bytes | None,
    resume: bool,
    samplers: Collection[str],
    read: Read,
) -> Attack:
    """The attack that the fields' values, in the order of `verifying.FIELDS`, attacks and lists ask for.

    Raises:
        FormError: names the field by its label, and the values it may have.
    """
    body = body_of(form, "prompts", listed, pasted, ordinary, resume)
    if not attacks:
        raise FormError(NO_ATTACKS)
    # All of them stand for whatever there is, so that the report says what this WebUI lacks.
    body["attacks"] = None if set(choices(samplers)) <= set(attacks) else list(attacks)
    return read_body(body, read)


def read_body(body: Mapping[str, Any], read: Read) -> Attack:
    """The attack that a body asks for; FormError as `read_form` has it."""
    return working.read_body(body, read, {"prompts": MEMORIZED, "attacks": ATTACKS, **LABELS})


def about(asked: Callable[[], Attack]) -> str:
    """How many pictures an attack would be, or why it cannot be made, in a sentence."""
    try:
        one = asked()
    except FormError as error:
        return sentence(str(error))
    count = len(one.prompts.prompts[: one.limit])
    return sentence(
        f"This attack is at most {one.pictures():,} pictures: {_of(count, 'prompt')}, {_of(len(one.names), 'attack')}, "
        f"{_of(one.seeds, 'seed')}, each without MemStab and with it. A prompt that is not replayed takes "
        f"{2 * one.seeds:,} of them."
    )


def result(report: Mapping[str, Any]) -> str:
    """A report as a table and in sentences, and what it does not show."""
    from lib_memstab.evidence.live.judging import cells, sentences

    made = table(HEADS, cells(report)) if report["attempts"] else ""
    return made + working.listed([*sentences(report), *report["notes"]], report["lists"]) + sentence(LIMITS)


def _of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
