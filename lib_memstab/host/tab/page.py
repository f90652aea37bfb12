"""MemStab's own tab in the WebUI: calibrate, look after profiles and what was learned, audit, and check the claims."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_memstab.core.profile import Checkpoint
from lib_memstab.core.report import AUTOMATIC
from lib_memstab.host import wording
from lib_memstab.host.accordion import SAMPLING
from lib_memstab.host.tab import audits as tab_audits
from lib_memstab.host.tab import evidence as tab_evidence
from lib_memstab.host.tab import learned as tab_learned
from lib_memstab.host.tab import profiles as tab_profiles
from lib_memstab.host.tab import watching
from lib_memstab.host.tab.form import FIELDS, Field, read_form, sampling_of, without_size
from lib_memstab.host.tab.markup import sentence
from lib_memstab.host.tab.profiles import UPLOAD_HEIGHT
from lib_memstab.host.tab.working import in_the_way
from lib_memstab.host.tab.works import Section
from lib_memstab.settings import TITLE
from lib_memstab.store import Store

if TYPE_CHECKING:
    from lib_memstab.calibration.calibrator import Calibrator
    from lib_memstab.calibration.plan import Plan
    from lib_memstab.host.attacker import Attacker
    from lib_memstab.host.background import Turn
    from lib_memstab.host.learner import Learner
    from lib_memstab.host.verifier import Verifier

log = logging.getLogger("memstab")

NAME = TITLE.lower()
"""The tab's name in the page; all its elements' names begin so. `memstab.js` knows them."""

ROWS = (
    ("sampler", "scheduler", "steps"),
    ("width", "height"),
    ("guidance", "trajectories", "batch_size"),
    ("suffix", "name"),
    ("img2img", "pictures"),
)
"""Fields that share a row."""


@dataclass(frozen=True)
class Behind:
    """What the tab speaks for.

    Attributes:
        checkpoint: the checkpoint, where one is loaded.
        status: which profile a choice and the fields of `accordion.SAMPLING` come to, and why.
        loaded: whether a checkpoint is loaded.
        size: height and width that the checkpoint is made for; it is loaded if it is not.
        samplers, schedulers: names a calibration may use.
        folders: where the WebUI saves pictures.
        serve: make the WebUI give these pictures to the page.
        verifier, attacker: run verifications and attacks.
        turn: says what is on its way.
    """

    store: Store
    calibrator: Callable[[], Calibrator]
    learner: Callable[[], Learner]
    checkpoint: Callable[[], Checkpoint]
    status: Callable[[str, Sequence[Any]], str]
    loaded: Callable[[], bool]
    size: Callable[[], tuple[int, int]]
    samplers: Callable[[], Collection[str]]
    schedulers: Callable[[], Collection[str]]
    folders: Callable[[], list[Path]]
    serve: Callable[[Sequence[Path]], None]
    verifier: Callable[[], Verifier]
    attacker: Callable[[], Attacker]
    turn: Callable[[], Turn]


class Tab:
    """What the WebUI shows as a tab, and puts into its page by `render`.

    Other tabs are `gr.Blocks` of their own, for each of which gradio makes an application that nobody calls; that would
    be the larger part of what this one costs at a start.
    """

    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self.children: list[Any] = []

    def render(self) -> None:
        """Make the elements; an error is told in their place, as the page is everybody's."""
        try:
            self.children = [build(self._behind)]
        except Exception as error:
            message = f"MemStab's tab could not be made ({type(error).__name__}: {error}): the console has the details."
            log.error(message, exc_info=error)
            gr.HTML(sentence(message), elem_id=f"{NAME}_missing")


def build(behind: Behind) -> gr.Column:
    """Make the tab's elements in the blocks that are being made."""
    with gr.Column() as tab:
        with gr.Tabs():
            with gr.Tab(wording.CALIBRATE, id="calibrate"), gr.Row():
                with gr.Column():
                    fields = _form(behind)
                    prompts = gr.File(
                        label=wording.PROMPTS,
                        type="binary",
                        file_types=[".txt"],
                        height=UPLOAD_HEIGHT,
                        elem_id=f"{NAME}_prompts",
                    )
                with gr.Column():
                    with gr.Row():
                        calibrate = gr.Button(wording.CALIBRATE, variant="primary", elem_id=f"{NAME}_calibrate")
                        stop = gr.Button(wording.STOP, elem_id=f"{NAME}_stop")
                        anew = gr.Button(wording.START_OVER, elem_id=f"{NAME}_anew")
                    gr.HTML(sentence(wording.KEPT))
                    line = gr.HTML(elem_id=f"{NAME}_line")
                    region = gr.HTML(elem_id=f"{NAME}_region")
            with gr.Tab(wording.PROFILES, id="profiles"):
                profiles = tab_profiles.build(behind.store, NAME)
            with gr.Tab(wording.LEARNED, id="learned"):
                learned = tab_learned.build(
                    behind.learner, lambda: behind.checkpoint() if behind.loaded() else None, NAME
                )
            with gr.Tab(wording.AUDIT, id="audit"):
                tab_audits.build(behind.folders, behind.serve, NAME)
            with gr.Tab(wording.EVIDENCE, id="evidence"):
                sources = behind.samplers, behind.schedulers, behind.size, behind.folders, behind.serve
                evidence = tab_evidence.build(tab_evidence.Behind(behind.verifier, behind.attacker, *sources), NAME)
        refresh = gr.Button(wording.REFRESH, size="sm", elem_id=f"{NAME}_refresh")
        tick = gr.Button(visible=False, elem_id=f"{NAME}_tick")
        seen, filled = gr.State(""), gr.State(None)
        parts = _Parts(fields, prompts, calibrate, stop, anew, line, region, refresh, tick, seen, filled)
        _connect(behind, parts, profiles, learned, evidence)
    return tab


@dataclass(frozen=True)
class _Parts:
    """The tab's elements that do something."""

    fields: list[Any]
    prompts: Any
    calibrate: Any
    stop: Any
    anew: Any
    line: Any
    region: Any
    refresh: Any
    tick: Any
    seen: Any
    filled: Any


def _connect(
    behind: Behind,
    parts: _Parts,
    profiles: tab_profiles.Section,
    learned: tab_learned.Section,
    evidence: Section,
) -> None:
    view = watching.View(behind.calibrator)

    def plan(resume: bool, values: Sequence[Any]) -> Plan:
        prompts, *form = values
        return read_form(form, prompts, resume, behind.samplers(), behind.schedulers(), behind.size)

    def starting(resume: bool) -> Callable[..., str]:
        def begin(*values: Any) -> str:
            # A profile that changes on the way would be the end of a verification or an attack.
            refused = in_the_way(behind.turn())
            if refused:
                return watching.line(behind.calibrator(), refused)
            return watching.start(behind.calibrator(), lambda: plan(resume, values))

        return begin

    def looked(seen: str) -> tuple[Any, ...]:
        line, drawn, now = view.look(seen)
        return line, gr.update() if drawn is None else drawn, now

    def refreshed(chosen: str, filled: tuple[int, int] | None, *form: Any) -> tuple[Any, ...]:
        # Asking for the size would load a checkpoint where there is none yet.
        known = behind.size() if behind.loaded() else None
        sampling = sampling_of(without_size(form, filled), known)
        applies = behind.status(AUTOMATIC, [sampling[name] for name in SAMPLING])
        if known is None:
            size: tuple[Any, ...] = gr.update(), gr.update(), filled
            return *size, *looked(""), *profiles.contents(chosen, applies), *learned.contents(), *evidence.contents()
        size = sampling["width"], sampling["height"], known
        told = profiles.contents(chosen, f"Sampled as under Calibrate: {applies}")
        return *size, *looked(""), *told, *learned.contents(), *evidence.contents()

    for button, resume in ((parts.calibrate, True), (parts.anew, False)):
        button.click(starting(resume), [parts.prompts, *parts.fields], [parts.line], show_progress=False)
    parts.stop.click(lambda: watching.stop(behind.calibrator()), None, [parts.line], show_progress=False, queue=False)
    shown = [parts.line, parts.region, parts.seen]
    parts.tick.click(looked, [parts.seen], shown, show_progress=False, queue=False)
    size = [parts.fields[place] for place, field in enumerate(FIELDS) if field.name in ("width", "height")]
    outputs = [*size, parts.filled, *shown, *profiles.outputs, *learned.outputs, *evidence.outputs]
    parts.refresh.click(refreshed, [profiles.chosen, parts.filled, *parts.fields], outputs, show_progress=False)


def _form(behind: Behind) -> list[Any]:
    """The fields, in the order of `FIELDS`."""
    made: dict[str, Any] = {}
    for row in ROWS:
        with gr.Row():
            made.update({field.name: _field(field, behind) for field in FIELDS if field.name in row})
    return [made[field.name] for field in FIELDS]


def _field(field: Field, behind: Behind) -> Any:
    shared = {"value": field.default, "label": field.label, "info": field.help, "elem_id": f"{NAME}_{field.name}"}
    choices = {"sampler": behind.samplers, "scheduler": behind.schedulers}
    if field.kind in choices:
        made = gr.Dropdown(list(choices[field.kind]()), **shared)
    elif field.kind == "number":
        made = gr.Number(precision=0, **shared)
    elif field.kind == "tick":
        made = gr.Checkbox(**shared)
    else:
        made = gr.Textbox(max_lines=1, **shared)
    # The WebUI would keep what the fields were at its first start, and an empty number cannot be kept at all.
    made.do_not_save_to_config = True
    return made
