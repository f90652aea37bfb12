"""What the WebUI's /openapi.json says of the pages of the evidence."""

from __future__ import annotations

from lib_memstab.evidence.audit import STATES
from lib_memstab.host.extracts import LARGEST_CLIQUE
from lib_memstab.host.schemas import ERROR, REFUSAL, TEXT, WHOLE, Schema, list_of, object_of, optional, said
from lib_memstab.host.verification import LONGEST_NAME, NUMBERS, SIDES, TEXTS

_FORBIDDEN = object_of({**ERROR["properties"], "allowed": list_of(TEXT)})
_NAME: Schema = {**TEXT, "minLength": 1, "maxLength": LONGEST_NAME}
_LIST = "Prompts as text, one a line, or a list as JSONL or CSV; what is in it decides how it is read."
_SIDE: Schema = {"type": "integer", "minimum": SIDES[0], "maximum": SIDES[1], "multipleOf": SIDES[2]}

_FIELDS: dict[str, Schema] = {
    "memorized": said({**TEXT, "minLength": 1}, f"Prompts known to replay. {_LIST}"),
    "memorized_name": said(_NAME, "What the report calls them."),
    "ordinary": said(optional({**TEXT, "minLength": 1}), f"Prompts that do not; null: MemStab's own. {_LIST}"),
    "ordinary_name": said(_NAME, "What the report calls them."),
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
VERIFICATION = object_of(
    {
        **{name: {**one, "default": TEXTS[name]} for name, one in _FIELDS.items() if name != "memorized"},
        "memorized": _FIELDS["memorized"],
        **{one.attribute: one.schema() for one in NUMBERS},
    },
    additionalProperties=False,
)
VERIFICATION["required"] = ["memorized"]

_PROGRESS = object_of(
    {
        "state": {"type": "string", "enum": ["idle", "waiting", "running", "done", "stopped", "failed"]},
        "done": said(WHOLE, "Pictures so far."),
        "total": said(WHOLE, "Pictures in all: every prompt and seed three times."),
        "message": said(TEXT, "What it does, what came of it, or why it failed and what to do."),
        "seconds_left": optional({"type": "number", "description": "null while nobody can know"}),
        "resumed": said(WHOLE, "Pictures that were made before it was stopped."),
        "summary": said(list_of(TEXT), "What came of it in sentences; empty before."),
        "report": said(optional({"type": "object"}), "All figures, as in the report's JSON file; null before."),
    }
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
