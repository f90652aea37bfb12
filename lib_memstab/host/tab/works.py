"""The tab's controls of one kind of work: its buttons, its line, its result, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from lib_memstab.host import wording
from lib_memstab.host.background import Asked, Work
from lib_memstab.host.tab import working
from lib_memstab.host.tab.markup import sentence

BUTTON_WIDTH = 100
"""Least, in pixels: all of them share a row."""

A = TypeVar("A", bound=Asked)


@dataclass(frozen=True)
class Section:
    """What the rest of the tab sees of a part: what `contents` fills."""

    outputs: list[Any]
    contents: Callable[[], tuple[Any, ...]]


def build(
    name: str,
    words: tuple[str, Sequence[str], str],
    work: Callable[[], Work[A, Any]],
    given: Sequence[Any],
    read_form: Callable[[bool, Sequence[Any]], A],
    read_body: Callable[[Mapping[str, Any]], A],
    result: Callable[[Mapping[str, Any]], str],
) -> Section:
    """Make the controls; all their elements' names begin with `name`.

    Args:
        words: on the button that starts, below the buttons, and above the report's files.
        given: the fields that `read_form` is told the values of, after whether to go on.
        result: a report as HTML.
    """
    verb, notes, report = words
    with gr.Row():
        start = gr.Button(verb, variant="primary", min_width=BUTTON_WIDTH, elem_id=name)
        stop = gr.Button(wording.STOP, min_width=BUTTON_WIDTH, elem_id=f"{name}_stop")
        go_on = gr.Button(wording.GO_ON, min_width=BUTTON_WIDTH, elem_id=f"{name}_on")
        anew = gr.Button(wording.START_OVER, min_width=BUTTON_WIDTH, elem_id=f"{name}_anew")
    gr.HTML("".join(map(sentence, notes)))
    line = gr.HTML(elem_id=f"{name}_line")
    told = gr.HTML(elem_id=f"{name}_result")
    files = gr.File(label=report, file_count="multiple", interactive=False, visible=False, elem_id=f"{name}_files")
    tick, seen = gr.Button(visible=False, elem_id=f"{name}_tick"), gr.State("")

    def starting(resume: bool) -> Callable[..., str]:
        return lambda *values: working.start(work(), lambda: read_form(resume, values))

    def looked(state: str) -> tuple[Any, ...]:
        now = working.look(work(), result)
        if now.state == state:
            return now.line, gr.update(), gr.update(), state
        written = [str(path) for path in now.files]
        return now.line, now.html, gr.update(value=written or None, visible=bool(written)), now.state

    for button, resume in ((start, True), (anew, False)):
        button.click(starting(resume), list(given), [line], show_progress=False)
    go_on.click(lambda: working.go_on(work(), read_body), None, [line], show_progress=False)
    stop.click(lambda: working.stop(work()), None, [line], show_progress=False, queue=False)
    shown = [line, told, files, seen]
    tick.click(looked, [seen], shown, show_progress=False, queue=False)
    return Section(shown, lambda: looked("none"))
