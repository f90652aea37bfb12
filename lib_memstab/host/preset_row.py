"""The panel's row of presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_memstab.host import wording
from lib_memstab.host.presets import Answer, delete, listed, save, settings_of
from lib_memstab.host.tab.markup import sentence
from lib_memstab.presets import SETTINGS, Presets


@dataclass(frozen=True)
class Row:
    """The row's elements: the choice, a name to save under, buttons, and where answers stand."""

    chosen: Any
    name: Any
    save: Any
    delete: Any
    answer: Any


def build(presets: Presets, elem_id: Callable[[str], str]) -> Row:
    """Make the row; an unusable file of presets is told in it."""
    names, error = listed(presets)
    with gr.Row():
        chosen = gr.Dropdown(
            names, label=wording.PRESET, info=wording.PRESET_HELP, elem_id=elem_id("preset"), scale=2, min_width=120
        )
        name = gr.Textbox(
            label=wording.PRESET_NAME,
            info=wording.PRESET_NAME_HELP,
            max_lines=1,
            elem_id=elem_id("preset_name"),
            scale=2,
            min_width=120,
        )
        with gr.Column(scale=1, min_width=100):
            save = gr.Button(wording.SAVE_PRESET, elem_id=elem_id("preset_save"), size="sm")
            delete = gr.Button(wording.DELETE_PRESET, elem_id=elem_id("preset_delete"), size="sm")
    for field in (chosen, name):
        # The WebUI would keep what was chosen as what the panel starts with, without its settings.
        field.do_not_save_to_config = True
    return Row(chosen, name, save, delete, gr.HTML(value=sentence(error), elem_id=elem_id("preset_answer")))


def connect(row: Row, presets: Presets, enabled: Any, fields: Mapping[str, Any]) -> None:
    """Give the row's elements something to do with the panel, its switch and its `fields` by their attribute."""
    armed = gr.State("")
    own = [fields[setting.attribute] for setting in SETTINGS]

    def shown(answer: Answer) -> tuple[Any, ...]:
        names, error = listed(presets)
        choice = {} if answer.chosen is None else {"value": answer.chosen or None}
        named = gr.update() if answer.chosen is None or answer.armed else ""
        return sentence(answer.message or error), answer.armed, gr.update(choices=names, **choice), named

    def choose(name: str | None) -> tuple[Any, ...]:
        values, message = settings_of(presets, name)
        return *(gr.update() if value is None else value for value in values), sentence(message), ""

    # A page has the presets of the WebUI's start, and a list that is open does not change: look before it opens.
    for asked in (enabled.change, row.chosen.focus):
        asked(lambda: gr.update(choices=listed(presets)[0]), None, [row.chosen], show_progress=False)
    row.chosen.select(choose, [row.chosen], [*own, row.answer, armed], show_progress=False)
    changed = [row.answer, armed, row.chosen, row.name]
    row.save.click(
        lambda name, chosen, state, *values: shown(save(presets, name.strip() or chosen, values, state)),
        [row.name, row.chosen, armed, *own],
        changed,
        show_progress=False,
    )
    row.delete.click(
        lambda name, state: shown(delete(presets, name, state)), [row.chosen, armed], changed, show_progress=False
    )
