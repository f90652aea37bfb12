"""The tab's part on profiles: a table of them, what the chosen one says, and everything that can be done with it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_memstab.core.profile import ProfileError
from lib_memstab.host import wording
from lib_memstab.host.tab import catalogue
from lib_memstab.host.tab.catalogue import Answer
from lib_memstab.host.tab.markup import picture, plain, sentence, table
from lib_memstab.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UPLOAD_HEIGHT = 130
"""Of a field for a file, in pixels."""


@dataclass(frozen=True)
class Section:
    """What the rest of the tab sees of this part: the chosen profile, and what `contents` fills.

    `contents` takes the chosen profile and the sentence on the one that applies.
    """

    chosen: Any
    outputs: list[Any]
    contents: Callable[[str, str], tuple[Any, ...]]


def build(store: Store, name: str) -> Section:
    """Make the part; all its elements' names begin with `name`."""
    downloads = tempfile.TemporaryDirectory(prefix="memstab-")
    applies = gr.HTML(elem_id=f"{name}_applies")
    everything = gr.HTML(elem_id=f"{name}_table")
    with gr.Row():
        chosen = _choice(wording.PROFILE, f"{name}_chosen")
        other = _choice(wording.COMPARE_WITH, f"{name}_other")
        compare = gr.Button(wording.COMPARE, elem_id=f"{name}_compare")
    with gr.Row():
        new = gr.Textbox(label=wording.NEW_NAME, max_lines=1, elem_id=f"{name}_new")
        rename = gr.Button(wording.RENAME, elem_id=f"{name}_rename")
        delete = gr.Button(wording.DELETE, elem_id=f"{name}_delete")
        export = gr.Button(wording.EXPORT, elem_id=f"{name}_export")
    answer = gr.HTML(elem_id=f"{name}_answer")
    file = gr.File(label=wording.DOWNLOAD, interactive=False, visible=False, elem_id=f"{name}_file")
    with gr.Row():
        upload = gr.File(
            label=wording.UPLOAD,
            type="binary",
            file_types=[".json"],
            height=UPLOAD_HEIGHT,
            elem_id=f"{name}_upload",
        )
        with gr.Column():
            replace = gr.Checkbox(label=wording.REPLACE, elem_id=f"{name}_replace")
            take_in = gr.Button(wording.IMPORT, elem_id=f"{name}_import")
    words = gr.HTML(elem_id=f"{name}_words")
    drawn = gr.HTML(elem_id=f"{name}_plot")
    armed, shown = gr.State(""), gr.State("")
    for field in (new, replace):
        field.do_not_save_to_config = True

    def listed(wanted: str) -> tuple[Any, ...]:
        stored = store.all()
        names = catalogue.names(stored)
        first = wanted if wanted in names else (names or [""])[0]
        rows = table(catalogue.HEADS, catalogue.rows(stored))
        return rows, gr.update(choices=names, value=first), gr.update(choices=names)

    def contents(wanted: str, sentence_on_it: str) -> tuple[Any, ...]:
        return sentence(sentence_on_it), *listed(wanted)

    def acted(result: Answer, name: str) -> tuple[Any, ...]:
        return sentence(result.message), result.armed, *listed(result.chosen or name)

    def show(name: str, shown: str = "") -> tuple[Any, ...]:
        if name == shown:
            return gr.update(), gr.update(), name
        return *_shown(lambda: catalogue.told(store, name), f"the regions of {name}"), name

    def compared(name: str, second: str) -> tuple[str, str]:
        return _shown(lambda: catalogue.compared(store, name, second), f"the bounds of {name} and {second}")

    def exported(name: str) -> tuple[Any, ...]:
        try:
            path = catalogue.export(store, name, Path(downloads.name))
        except (ProfileError, OSError) as error:
            return sentence(str(error)), gr.update(value=None, visible=False)
        return "", gr.update(value=str(path), visible=True)

    changed = [answer, armed, everything, chosen, other]

    def on(button: Any, act: Callable[..., Answer], inputs: list[Any]) -> None:
        button.click(
            lambda name, *more: acted(act(store, name, *more), name), [chosen, *inputs], changed, show_progress=False
        )

    on(rename, catalogue.rename, [new])
    on(delete, catalogue.delete, [armed])
    on(take_in, lambda held, _, data, again: catalogue.take_in(held, data, again), [upload, replace])
    # gradio drops a change that comes while it answers one: so look once more whether that was the last.
    told = [words, drawn, shown]
    chosen.change(show, [chosen], told, show_progress=False).then(show, [chosen, shown], told, show_progress=False)
    compare.click(compared, [chosen, other], [words, drawn], show_progress=False)
    export.click(exported, [chosen], [answer, file], show_progress=False)
    return Section(chosen, [applies, everything, chosen, other], contents)


def _choice(label: str, elem_id: str) -> Any:
    made = gr.Dropdown([], label=label, elem_id=elem_id)
    made.do_not_save_to_config = True
    return made


def _shown(work: Callable[[], tuple[str, Figure | None]], alt: str) -> tuple[str, str]:
    """Words and picture as HTML; why not, where there are none."""
    try:
        words, figure = work()
    except (ProfileError, OSError) as error:
        return sentence(str(error)), ""
    return plain(words), picture(figure, alt) if figure else ""
