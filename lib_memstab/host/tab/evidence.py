"""The tab's part on evidence: verify MemStab on the user's own checkpoint and lists, attack it, look for replays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from lib_memstab.host import wording
from lib_memstab.host.asking import Host
from lib_memstab.host.attack import Attack, read_attack
from lib_memstab.host.attacker import Attacker
from lib_memstab.host.tab import attacking, extracting, verifying, works
from lib_memstab.host.tab.auditing import folders
from lib_memstab.host.tab.form import UNKNOWN_SIZE, Field
from lib_memstab.host.tab.markup import sentence
from lib_memstab.host.tab.profiles import UPLOAD_HEIGHT
from lib_memstab.host.tab.verifying import FIELDS
from lib_memstab.host.tab.works import Section
from lib_memstab.host.verification import Verification, read_verification
from lib_memstab.host.verifier import Verifier

ROWS = (
    ("seeds", "limit", "sensitivity"),
    ("sampler", "scheduler", "steps"),
    ("width", "height", "guidance"),
    ("reference",),
)
"""Fields that share a row."""


@dataclass(frozen=True)
class Behind:
    """What this part speaks for; as `page.Behind` has it."""

    verifier: Callable[[], Verifier]
    attacker: Callable[[], Attacker]
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
            listed = gr.File(label=wording.MEMORIZED, type="binary", height=UPLOAD_HEIGHT, elem_id=f"{name}_memorized")
            pasted = gr.Textbox(label=wording.PASTED, lines=3, max_lines=8, elem_id=f"{name}_pasted")
            ordinary = gr.File(label=wording.ORDINARY, type="binary", height=UPLOAD_HEIGHT, elem_id=f"{name}_ordinary")
            fields = _form(behind, name)
        with gr.Column():
            given = [listed, pasted, ordinary, *fields]
            verify, attack = _verify(behind, name, given), _attack(behind, name, given)
    _replays(behind, name)
    pasted.do_not_save_to_config = True
    return Section([*verify.outputs, *attack.outputs], lambda: (*verify.contents(), *attack.contents()))


def _verify(behind: Behind, name: str, given: Sequence[Any]) -> Section:
    """A verification's controls; `given` are the lists and the fields."""

    def read(body: object) -> Verification:
        return read_verification(body, _host(behind, behind.size))

    def read_form(resume: bool, values: Sequence[Any]) -> Verification:
        listed, pasted, ordinary, *form = values
        return verifying.read_form(form, listed, pasted or "", ordinary, resume, read)

    words = wording.VERIFY, (wording.MADE_KEPT, wording.IN_BETWEEN), wording.REPORT
    return works.build(
        f"{name}_verify",
        words,
        behind.verifier,
        given,
        read_form,
        lambda body: verifying.read_body(body, read),
        verifying.result,
    )


def _attack(behind: Behind, name: str, given: Sequence[Any]) -> Section:
    """An attack's controls: which attacks, how many pictures that is, and the rest as a verification's are."""
    gr.HTML(sentence(wording.ATTACK_IS))
    every = attacking.choices(behind.samplers())
    attacks = gr.Dropdown(
        every,
        value=every,
        multiselect=True,
        label=attacking.ATTACKS,
        info=attacking.ATTACKS_HELP,
        elem_id=f"{name}_attack_attacks",
    )
    attacks.do_not_save_to_config = True
    about = gr.HTML(sentence(verifying.NO_PROMPTS), elem_id=f"{name}_attack_about")
    fields = [attacks, *given]

    def reading(size: Callable[[], tuple[int, int]]) -> Callable[[object], Attack]:
        return lambda body: read_attack(body, _host(behind, size))

    def read_form(resume: bool, values: Sequence[Any], read: attacking.Read) -> Attack:
        chosen, listed, pasted, lines, *form = values
        return attacking.read_form(form, chosen, listed, pasted or "", lines, resume, behind.samplers(), read)

    def counted(*values: Any) -> str:
        # The checkpoint is not loaded for its size: that does not change how many pictures it is.
        return attacking.about(lambda: read_form(True, values, reading(lambda: UNKNOWN_SIZE)))

    for field in fields:
        field.change(counted, fields, [about], show_progress=False, queue=False)
    read = reading(behind.size)
    return works.build(
        f"{name}_attack",
        (wording.ATTACK, (wording.ATTEMPTS_KEPT,), wording.ATTEMPTS),
        behind.attacker,
        fields,
        lambda resume, values: read_form(resume, values, read),
        lambda body: attacking.read_body(body, read),
        attacking.result,
    )


def _host(behind: Behind, size: Callable[[], tuple[int, int]]) -> Host:
    return Host(behind.samplers(), behind.schedulers(), size, behind.folders())


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
