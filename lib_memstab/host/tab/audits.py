"""The tab's part that looks through folders of pictures: what their badges say, counted, listed and to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from lib_memstab.evidence.audit import STATES
from lib_memstab.host import wording
from lib_memstab.host.tab.auditing import TOLD, folders, own_run


def build(allowed: Callable[[], list[Path]], serve: Callable[[Sequence[Path]], None], name: str) -> None:
    """Make the part; all its elements' names begin with `name`. `allowed` are folders that may be looked through."""
    with gr.Row():
        chosen = gr.Dropdown(
            folders(allowed()),
            value=wording.EVERYTHING,
            label=wording.FOLDER,
            allow_custom_value=True,
            elem_id=f"{name}_audit_folder",
        )
        recursive = gr.Checkbox(True, label=wording.RECURSIVE, elem_id=f"{name}_audit_recursive")
    only = gr.CheckboxGroup(list(STATES), value=list(TOLD), label=wording.ONLY, elem_id=f"{name}_audit_only")
    with gr.Row():
        start = gr.Button(wording.LOOK_THROUGH, variant="primary", elem_id=f"{name}_audit_start")
        stop = gr.Button(wording.STOP_LOOKING, elem_id=f"{name}_audit_stop")
    result = gr.HTML(elem_id=f"{name}_audit_result")
    files = gr.File(
        label=wording.DOWNLOAD, file_count="multiple", interactive=False, visible=False, elem_id=f"{name}_audit_files"
    )
    for field in (chosen, recursive, only):
        field.do_not_save_to_config = True

    def look(folder: str, inside: bool, states: Sequence[str]) -> Iterator[tuple[Any, Any]]:
        yield "", gr.update(visible=False)
        for found in own_run(folder, inside, states, allowed(), serve):
            written = [str(path) for path in found.files]
            yield found.html, gr.update(value=written or None, visible=bool(written))

    looking = start.click(look, [chosen, recursive, only], [result, files], show_progress=False)
    stop.click(None, None, None, cancels=[looking])
