"""What the WebUI's /openapi.json says of MemStab's pages.

Plain dictionaries, which FastAPI takes over as they are: models would have to suit Pydantic 1 and 2.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from lib_memstab.calibration.plan import FEWEST_PROMPTS, LONGEST, MAX_PROMPTS, MODES, SCALES
from lib_memstab.core.report import PROFILE_NAME
from lib_memstab.evidence.audit import STATES
from lib_memstab.host.audit import MAX_ROWS
from lib_memstab.host.evidence_openapi import EVIDENCE_PAGES
from lib_memstab.host.schemas import ERROR, REFUSAL, TEXT, WHOLE, Schema, list_of, object_of, optional, said
from lib_memstab.settings import TITLE


def described(path: str, method: str) -> dict[str, Any]:
    """What `add_api_route` takes beside the page: summary, description, request body and every answer.

    Raises:
        KeyError: if nothing is written of this page.
    """
    summary, description, body, answers = _PAGES[path, method]
    extra = {} if body is None else {"requestBody": {"required": False, "content": _json(body)}}
    first = min(answers)
    return {
        "summary": summary,
        "description": description,
        "tags": [TITLE],
        "status_code": first,
        "response_description": _TOLD[first],
        "responses": {
            status: {"description": _TOLD[status], "content": _json(schema)}
            for status, schema in {**answers, 401: _REJECTED}.items()
        },
        "openapi_extra": extra,
    }


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


_TOLD = {
    200: HTTPStatus.OK.phrase,
    202: "Accepted: it goes on by itself",
    401: "The WebUI asks for a password (--api-auth), and it is missing or wrong",
    403: "A folder that is none of the WebUI's output folders, which are `allowed`",
    404: "There is no such folder",
    409: "Not now: `error` says what to do",
    422: "A field that cannot be used: which, and the values it may have",
}
_REJECTED = object_of({"detail": TEXT})
_CHECKPOINT = object_of({"name": TEXT, "sha256": said(optional(TEXT), "null: the WebUI was told not to hash")})
_REPORT = object_of(
    {"verdict": {"type": "string", "enum": ["clear", "flagged", "suppressed", "not measured"]}, "reason": TEXT},
    description="The badge of an image; GET /memstab/v1/schema gives all its fields as 'badge'.",
)
_PROFILE = object_of(
    {
        "name": TEXT,
        "own": {"type": "boolean", "description": "false: it ships with MemStab"},
        "error": said(optional(TEXT), "Why it cannot be used."),
        "sha256": said(optional(TEXT), "Its checksum."),
        "checkpoint": optional(_CHECKPOINT),
        "modes": list_of({"type": "string", "enum": list(MODES["both"])}),
        "second_looks": said(
            list_of({"type": "string", "enum": list(MODES["both"])}),
            "Modes in which suspicious images get a second look; calibrate again where one is missing.",
        ),
    }
)
_PRESET = object_of(
    {
        "name": TEXT,
        "settings": said({"type": "object"}, "An argument object; GET /memstab/v1/schema gives its fields as 'args'."),
    }
)
_PROGRESS = object_of(
    {
        "state": {"type": "string", "enum": ["idle", "waiting", "running", "done", "stopped", "failed"]},
        "done": said(WHOLE, "Images so far."),
        "total": said(WHOLE, "Images in all."),
        "message": TEXT,
        "profile": said(TEXT, "The profile that came of it; empty before."),
        "seconds_left": optional({"type": "number", "description": "null while nobody can know"}),
        "resumed": said(WHOLE, "Images that were measured before it was stopped."),
    }
)
_LEARNED = object_of(
    {
        "checkpoint": _CHECKPOINT,
        "learning": {"type": "boolean", "description": "Whether the user switched it on."},
        "images": WHOLE,
        "prompts": WHOLE,
        "message": TEXT,
    }
)
_SCALE: Schema = {"type": "number", "minimum": 1, "maximum": 30}
_USUAL = ", ".join(map("{:g}".format, SCALES))
_SIDE: Schema = {"type": "integer", "minimum": 64, "maximum": 2048, "multipleOf": 8}
_PROMPTS: Schema = {"minItems": FEWEST_PROMPTS, "maxItems": MAX_PROMPTS, **list_of({**TEXT, "maxLength": LONGEST})}
PLAN = object_of(
    {
        "name": {
            "description": "Name of the profile; empty: the checkpoint's.",
            "default": "",
            **TEXT,
            "pattern": f"^(?:{PROFILE_NAME})?$",
        },
        "sampler": {"description": "As in any job.", "default": "Euler", **TEXT},
        "scheduler": {"description": "As in any job.", "default": "Automatic", **TEXT},
        "steps": {"type": "integer", "minimum": 1, "maximum": 150, "default": 20},
        "width": said(_SIDE, "Left out: what the checkpoint is made for."),
        "height": said(_SIDE, "Left out: what the checkpoint is made for."),
        "guidance": {
            "description": f"Different CFG scales, yours first. null: of {_USUAL} as many as the trajectories allow.",
            "nullable": True,
            "anyOf": [_SCALE, {"minItems": 1, "maxItems": 8, "uniqueItems": True, **list_of(_SCALE)}],
        },
        "trajectories": {
            "description": "Images in each mode.",
            "type": "integer",
            "minimum": 8,
            "maximum": 4096,
            "default": 256,
        },
        "batch_size": {"description": "Images at once.", "type": "integer", "minimum": 1, "maximum": 64, "default": 4},
        "modes": {"description": "both: img2img and hires passes too.", **TEXT, "enum": [*MODES], "default": "both"},
        "prompts": said(optional(_PROMPTS), "Prompts of your own; null: MemStab's."),
        "suffix": {"description": "Added to every prompt.", "default": "", **TEXT, "maxLength": LONGEST},
        "resume": {"description": "Go on where the same one was stopped.", "type": "boolean", "default": True},
        "pictures": {"description": "Save the pictures.", "type": "boolean", "default": False},
    },
    additionalProperties=False,
)
PLAN.pop("required")
_DAY = object_of({"since": {**TEXT, "pattern": r"^(\d{4}-\d{2}-\d{2})?$", "default": ""}}, ("since",))

_STATE: Schema = {**TEXT, "enum": list(STATES)}
AUDIT = object_of(
    {
        "folder": said(optional(TEXT), "One of the WebUI's output folders, or inside one; null: all of them."),
        "recursive": {"description": "Folders in folders too.", "type": "boolean", "default": True},
        "only": {"description": "Rows of these states only; empty: all.", "default": [], **list_of(_STATE)},
        "since": said(optional(TEXT), "Files modified on this day or time, such as 2026-11-25, or later."),
    },
    additionalProperties=False,
)
AUDIT.pop("required")

_PAGES: dict[tuple[str, str], tuple[str, str, Schema | None, dict[int, Schema]]] = {
    ("/version", "GET"): (
        "Versions",
        "MemStab's version, the program around it, and the number of the badge's schema.",
        None,
        {200: object_of({"version": TEXT, "host": TEXT, "schema": WHOLE})},
    ),
    ("/schema", "GET"): (
        "JSON Schemas and settings",
        "`args` is the JSON Schema of the object in `alwayson_scripts: {MemStab: {args: [{…}]}}` of the WebUI's "
        "/sdapi/v1/txt2img and img2img, `badge` that of a report, `profile` that of a profile's file. `settings` has "
        "label, default and range of each setting, and the profiles there are now. An object that does not fit `args` "
        "makes these pages answer 422, whose `detail` has `message`, `field` and `allowed`.",
        None,
        {
            200: object_of(
                {
                    **{name: {"type": "object"} for name in ("args", "badge", "profile")},
                    "settings": list_of({"type": "object"}),
                }
            )
        },
    ),
    ("/profiles", "GET"): (
        "Profiles",
        "Every profile there is, those that cannot be used with the reason.",
        None,
        {200: list_of(_PROFILE)},
    ),
    ("/presets", "GET"): (
        "The user's presets",
        "Sets of the panel's settings that the user saved; 409 where their file cannot be used.",
        None,
        {200: list_of(_PRESET), 409: ERROR},
    ),
    ("/reports/last", "GET"): (
        "Reports of the last job",
        "The badges of its images, in their order; empty before the first job with MemStab.",
        None,
        {200: list_of(_REPORT)},
    ),
    ("/learned", "GET"): (
        "What was learned",
        "What MemStab took down of your own generations with the loaded checkpoint.",
        None,
        {200: _LEARNED},
    ),
    ("/learned", "DELETE"): (
        "Forget what was learned",
        "Of the loaded checkpoint: all of it, or what came on the day `since` (YYYY-MM-DD) and later. The learned "
        "profile is made anew of the rest, or deleted where that is too little.",
        _DAY,
        {
            200: object_of({"forgotten": said(WHOLE, "Images."), **_LEARNED["properties"]}),
            409: ERROR,
            422: REFUSAL,
        },
    ),
    ("/audit", "GET"): (
        "Where pictures can be looked through",
        "The WebUI's output folders, and the states that pictures can be in, the gravest first.",
        None,
        {200: object_of({"folders": list_of(TEXT), "states": list_of(_STATE)})},
    ),
    ("/audit", "POST"): (
        "What pictures say of themselves",
        "Reads badges and generation parameters in the WebUI's output folders, without following links.",
        AUDIT,
        {
            200: object_of(
                {
                    "counts": object_of(dict.fromkeys(STATES, WHOLE)),
                    "rows": list_of(object_of({"path": TEXT, "state": _STATE})),
                    "truncated": {"type": "boolean", "description": f"There are more than {MAX_ROWS} rows."},
                }
            ),
            403: object_of({**ERROR["properties"], "allowed": list_of(TEXT)}),
            404: ERROR,
            422: REFUSAL,
        },
    ),
    ("/calibrate", "GET"): ("How far a calibration is", "The one on its way, or the last one.", None, {200: _PROGRESS}),
    ("/calibrate", "POST"): (
        "Start a calibration",
        "Of the loaded checkpoint, in the WebUI's queue. Every field may be left out.",
        PLAN,
        {202: _PROGRESS, 409: ERROR, 422: REFUSAL},
    ),
    ("/calibrate", "DELETE"): (
        "Stop the calibration",
        "What it measured is kept, and the same calibration goes on from there.",
        None,
        {202: _PROGRESS, 409: ERROR},
    ),
    **EVIDENCE_PAGES,
}
