"""The tab's part on evidence: a verification of MemStab on the user's own checkpoint, lists and seeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from lib_memstab.host import wording
from lib_memstab.host.tab import extracting, verifying
from lib_memstab.host.tab.auditing import folders
from lib_memstab.host.tab.form import Field
from lib_memstab.host.tab.markup import sentence
from lib_memstab.host.tab.profiles import UPLOAD_HEIGHT
from lib_memstab.host.tab.verifying import FIELDS
from lib_memstab.host.verification import Verification, read_verification
from lib_memstab.host.verifier import Verifier

ROWS = (
    ("seeds", "limit", "sensitivity"),
    ("sampler", "scheduler", "steps"),
    ("width", "height", "guidance"),
    ("reference",),
)
"""Fields that share a row."""

BUTTON_WIDTH = 100
"""Least, in pixels: all of them share a row."""


@dataclass(frozen=True)
class Section:
    """What the rest of the tab sees of this part: what `contents` fills."""

    outputs: list[Any]
    contents: Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class Behind:
    """What this part speaks for; as `page.Behind` has it."""

    verifier: Callable[[], Verifier]
    samplers: Callable[[], Collection[str]]
    schedulers: Callable[[], Collection[str]]
    size: Callable[[], tuple[int, int]]
    folders: Callable[[], list[Path]]
    serve: Callable[[Sequence[Path]], None]


def build(behind: Behind, name: str) -> Section:
    """Make the part; all its elements' names begin with `name`."""
    gr.HTML(sentence(wording.EVIDENCE_IS))
    with gr.Row():
        with gr.Column():
            memorized = gr.File(
                label=wording.MEMORIZED, type="binary", height=UPLOAD_HEIGHT, elem_id=f"{name}_memorized"
            )
            pasted = gr.Textbox(label=wording.PASTED, lines=3, max_lines=8, elem_id=f"{name}_pasted")
            ordinary = gr.File(label=wording.ORDINARY, type="binary", height=UPLOAD_HEIGHT, elem_id=f"{name}_ordinary")
            fields = _form(behind, name)
        with gr.Column():
            with gr.Row():
                verify = gr.Button(wording.VERIFY, variant="primary", min_width=BUTTON_WIDTH, elem_id=f"{name}_verify")
                stop = gr.Button(wording.STOP, min_width=BUTTON_WIDTH, elem_id=f"{name}_verify_stop")
                go_on = gr.Button(wording.GO_ON, min_width=BUTTON_WIDTH, elem_id=f"{name}_verify_on")
                anew = gr.Button(wording.START_OVER, min_width=BUTTON_WIDTH, elem_id=f"{name}_verify_anew")
            gr.HTML(sentence(wording.MADE_KEPT) + sentence(wording.IN_BETWEEN))
            line = gr.HTML(elem_id=f"{name}_verify_line")
            result = gr.HTML(elem_id=f"{name}_verify_result")
            files = gr.File(
                label=wording.REPORT,
                file_count="multiple",
                interactive=False,
                visible=False,
                elem_id=f"{name}_verify_files",
            )
    _replays(behind, name)
    tick, seen = gr.Button(visible=False, elem_id=f"{name}_verify_tick"), gr.State("")
    pasted.do_not_save_to_config = True

    def read(body: object) -> Verification:
        return read_verification(body, behind.samplers(), behind.schedulers(), behind.size, behind.folders())

    def starting(resume: bool) -> Callable[..., str]:
        def begin(lists: bytes | None, text: str, others: bytes | None, *form: Any) -> str:
            return verifying.start(
                behind.verifier(), lambda: verifying.read_form(form, lists, text or "", others, resume, read)
            )

        return begin

    def looked(state: str) -> tuple[Any, ...]:
        now = verifying.look(behind.verifier())
        if now.state == state:
            return now.line, gr.update(), gr.update(), state
        written = [str(path) for path in now.files]
        return now.line, now.html, gr.update(value=written or None, visible=bool(written)), now.state

    given = [memorized, pasted, ordinary, *fields]
    for button, resume in ((verify, True), (anew, False)):
        button.click(starting(resume), given, [line], show_progress=False)
    go_on.click(lambda: verifying.go_on(behind.verifier(), read), None, [line], show_progress=False)
    stop.click(lambda: verifying.stop(behind.verifier()), None, [line], show_progress=False, queue=False)
    shown = [line, result, files, seen]
    tick.click(looked, [seen], shown, show_progress=False, queue=False)
    return Section(shown, lambda: looked("none"))


def _replays(behind: Behind, name: str) -> None:
    """Look for replays in folders of pictures that are there already."""
    gr.HTML(sentence(wording.REPLAYS_ARE))
    folder = gr.Dropdown(
        folders(behind.folders()),
        value=wording.EVERYTHING,
        label=wording.FOLDER,
        allow_custom_value=True,
        elem_id=f"{name}_replays_folder",
    )
    start = gr.Button(wording.LOOK_FOR_REPLAYS, elem_id=f"{name}_replays_start")
    result = gr.HTML(elem_id=f"{name}_replays_result")
    folder.do_not_save_to_config = True

    def find(chosen: str) -> str:
        return extracting.replays(chosen, wording.EVERYTHING, behind.folders(), behind.serve)

    start.click(find, [folder], [result])


def _form(behind: Behind, name: str) -> list[Any]:
    """The fields, in the order of `FIELDS`."""
    made: dict[str, Any] = {}
    for row in ROWS:
        with gr.Row():
            made.update({field.name: _field(field, behind, name) for field in FIELDS if field.name in row})
    return [made[field.name] for field in FIELDS]


def _field(field: Field, behind: Behind, name: str) -> Any:
    shared = {
        "value": field.default,
        "label": field.label,
        "info": field.help,
        "elem_id": f"{name}_verify_{field.name}",
    }
    choices = {"sampler": behind.samplers, "scheduler": behind.schedulers}
    if field.kind in choices:
        made = gr.Dropdown(list(choices[field.kind]()), **shared)
    elif field.kind == "number":
        made = gr.Number(precision=None if isinstance(field.default, float) else 0, **shared)
    else:
        made = gr.Textbox(max_lines=1, **shared)
    # As under Calibrate: the WebUI would keep what the fields were at its first start.
    made.do_not_save_to_config = True
    return made
