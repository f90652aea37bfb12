"""What the WebUI's /openapi.json says of the pages of the evidence."""

from __future__ import annotations

from collections.abc import Mapping

from lib_memstab.evidence.audit import STATES
from lib_memstab.evidence.live.names import NAMES
from lib_memstab.host import attack, verification
from lib_memstab.host.asking import LONGEST_NAME, NUMBERS, SIDES
from lib_memstab.host.extracts import LARGEST_CLIQUE
from lib_memstab.host.schemas import ERROR, REFUSAL, TEXT, WHOLE, Schema, list_of, object_of, optional, said

_FORBIDDEN = object_of({**ERROR["properties"], "allowed": list_of(TEXT)})
_NAME: Schema = {**TEXT, "minLength": 1, "maxLength": LONGEST_NAME}
_LIST = "Prompts as text, one a line, or a list as JSONL or CSV; what is in it decides how it is read."
_SIDE: Schema = {"type": "integer", "minimum": SIDES[0], "maximum": SIDES[1], "multipleOf": SIDES[2]}

_REPLAYED = said({**TEXT, "minLength": 1}, f"Prompts known to replay. {_LIST}")
_ORDINARY = optional({**TEXT, "minLength": 1})
_CALLED = said(_NAME, "What the report calls them.")

_OTHERS: dict[str, Schema] = {
    "limit": said(optional({"type": "integer", "minimum": 1}), "Only the first so many prompts of each list."),
    "sampler": said(TEXT, "As in any job."),
    "scheduler": said(TEXT, "As in any job."),
    "width": said(optional(_SIDE), "null: what the checkpoint is made for."),
    "height": said(optional(_SIDE), "null: what the checkpoint is made for."),
    "reference": said(
        optional(TEXT), "A folder of training pictures, one of the WebUI's output folders or inside one; null: none."
    ),
    "resume": {"description": "Go on where the same one was stopped.", "type": "boolean"},
}


def _asked(first: str, own: dict[str, Schema], defaults: Mapping[str, object]) -> Schema:
    """A body of these fields and those that both have; the first has to be given."""
    fields = {**own, **_OTHERS}
    known = {name: {**one, "default": defaults[name]} for name, one in fields.items() if name != first}
    numbers = {one.attribute: one.schema() for one in NUMBERS}
    made = object_of({**known, first: fields[first], **numbers}, additionalProperties=False)
    return {**made, "required": [first]}


VERIFICATION = _asked(
    "memorized",
    {
        "memorized": _REPLAYED,
        "memorized_name": _CALLED,
        "ordinary": said(_ORDINARY, f"Prompts that do not; null: MemStab's own. {_LIST}"),
        "ordinary_name": _CALLED,
    },
    verification.TEXTS,
)
ATTACK = _asked(
    "prompts",
    {
        "prompts": _REPLAYED,
        "prompts_name": _CALLED,
        "ordinary": said(_ORDINARY, f"Captions that attacks join to a prompt; null: a few everyday ones. {_LIST}"),
        "ordinary_name": _CALLED,
        "attacks": said(
            optional({"minItems": 1, **list_of({**TEXT, "enum": [*NAMES]})}),
            "What is tried; null: all. Those with img2img begin from a picture of `reference`.",
        ),
    },
    attack.TEXTS,
)


def _progress(total: str) -> Schema:
    return object_of(
        {
            "state": {"type": "string", "enum": ["idle", "waiting", "running", "done", "stopped", "failed"]},
            "done": said(WHOLE, "Pictures so far."),
            "total": said(WHOLE, total),
            "message": said(TEXT, "What it does, what came of it, or why it failed and what to do."),
            "seconds_left": optional({"type": "number", "description": "null while nobody can know"}),
            "resumed": said(WHOLE, "Pictures that were made before it was stopped."),
            "summary": said(list_of(TEXT), "What came of it in sentences; empty before."),
            "report": said(optional({"type": "object"}), "All figures, as in the report's JSON file; null before."),
        }
    )


_PROGRESS = _progress("Pictures in all: every prompt and seed three times.")
_ATTEMPTS = _progress(
    "Pictures in all: every prompt, attack and seed twice; fewer once it is known which prompts are replayed."
)
EXTRACTION = object_of(
    {
        "folder": said(optional(TEXT), "One of the WebUI's output folders, or inside one; null: all of them."),
        "recursive": {"description": "Folders in folders too.", "type": "boolean", "default": True},
        "distance": {
            "description": "Two pictures below it are near-duplicates; left out: the one that docs/attacks.md tells.",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1,
        },
        "clique": {
            "description": "So many pictures have to be near-duplicates of each other.",
            "type": "integer",
            "minimum": 2,
            "maximum": LARGEST_CLIQUE,
        },
    },
    additionalProperties=False,
)
EXTRACTION.pop("required")
_GROUP = object_of(
    {
        "prompt": TEXT,
        "checkpoint": TEXT,
        "suppressed": {
            "type": "boolean",
            "description": "Those that were steered away are a group of their own.",
        },
        "pictures": said(WHOLE, "Of different seeds."),
        "memorized": {"type": "boolean"},
        "tightest": optional({"type": "number", "description": "Smallest distance at which there is such a clique."}),
        "clique": said(list_of(TEXT), "Paths of the near-duplicates."),
        "states": {"type": "object", "description": f"How many pictures are {', '.join(STATES)}."},
    }
)

EVIDENCE_PAGES: dict[tuple[str, str], tuple[str, str, Schema | None, dict[int, Schema]]] = {
    ("/verify", "GET"): (
        "How far a verification is",
        "The one on its way, or the last one with what came of it.",
        None,
        {200: _PROGRESS},
    ),
    ("/verify", "POST"): (
        "Start a verification",
        "Every prompt with every seed without MemStab, in detect and in suppress mode, with the loaded checkpoint: "
        "each in its turn in the WebUI's queue. The same body goes on where it was stopped.",
        VERIFICATION,
        {202: _PROGRESS, 403: _FORBIDDEN, 404: ERROR, 409: ERROR, 422: REFUSAL},
    ),
    ("/verify", "DELETE"): (
        "Stop the verification",
        "What it made is kept, and the same verification goes on from there.",
        None,
        {202: _PROGRESS, 409: ERROR},
    ),
    ("/verify/report", "GET"): (
        "The report of the last verification",
        "The figures as JSON; with `?format=html` a page with plots, with `?format=csv` a line for each picture.",
        None,
        {200: {"type": "object"}, 404: ERROR, 422: REFUSAL},
    ),
    ("/attack", "GET"): (
        "How far an attack is",
        "The one on its way, or the last one with what came of it.",
        None,
        {200: _ATTEMPTS},
    ),
    ("/attack", "POST"): (
        "Start an attack",
        "Every prompt that is replayed is reworded, sampled in other ways and begun from noisy copies, without MemStab "
        "and in suppress mode, with the loaded checkpoint: each picture in its turn in the WebUI's queue. The same "
        "body goes on where it was stopped.",
        ATTACK,
        {202: _ATTEMPTS, 403: _FORBIDDEN, 404: ERROR, 409: ERROR, 422: REFUSAL},
    ),
    ("/attack", "DELETE"): (
        "Stop the attack",
        "What it made is kept, and the same attack goes on from there.",
        None,
        {202: _ATTEMPTS, 409: ERROR},
    ),
    ("/attack/report", "GET"): (
        "The report of the last attack",
        "The figures and every attempt as JSON; with `?format=csv` a line for each attempt.",
        None,
        {200: {"type": "object"}, 404: ERROR, 422: REFUSAL},
    ),
    ("/extract", "POST"): (
        "Prompts that give the same picture again and again",
        "The attack of Carlini et al. 2023 on the pictures in the WebUI's output folders, without following links.",
        EXTRACTION,
        {
            200: object_of(
                {
                    "memorized": said(WHOLE, "Prompts that do."),
                    "prompts": said(WHOLE, "Prompts with enough pictures."),
                    "too_few_pictures": said(WHOLE, "Prompts of which nothing is known."),
                    "groups": list_of(_GROUP),
                    "left_out": list_of(object_of({"path": TEXT, "reason": TEXT})),
                    "truncated": {"type": "boolean", "description": "There are more than are told."},
                }
            ),
            403: _FORBIDDEN,
            404: ERROR,
            422: REFUSAL,
        },
    ),
}
