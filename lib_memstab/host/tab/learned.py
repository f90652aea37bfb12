"""The tab's part on what was learned from the user's generations: how much there is, and how it is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_memstab.core.profile import Checkpoint
from lib_memstab.host import wording
from lib_memstab.host.tab.forgetting import forget, told

if TYPE_CHECKING:
    from lib_memstab.host.learner import Learner


@dataclass(frozen=True)
class Section:
    """What the rest of the tab sees of this part: what `contents` fills."""

    outputs: list[Any]
    contents: Callable[[], tuple[Any, ...]]


def build(learner: Callable[[], Learner], loaded: Callable[[], Checkpoint | None], name: str) -> Section:
    """Make the part; all its elements' names begin with `name`. `loaded` is the checkpoint, if one is loaded."""
    line = gr.HTML(elem_id=f"{name}_learned")
    with gr.Row():
        today = gr.Button(wording.FORGET_TODAY, elem_id=f"{name}_forget_today")
        everything = gr.Button(wording.FORGET_ALL, elem_id=f"{name}_forget_all")
    armed = gr.State("")
    today.click(lambda held: forget(learner(), loaded(), held, True), [armed], [line, armed], show_progress=False)
    everything.click(lambda held: forget(learner(), loaded(), held, False), [armed], [line, armed], show_progress=False)
    return Section([line, armed], lambda: (told(learner(), loaded()), ""))
