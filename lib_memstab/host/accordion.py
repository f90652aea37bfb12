"""The panel in txt2img and img2img: made from the table of settings, with a status line and the calibration button."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from modules.ui_components import InputAccordion

from lib_memstab import badge
from lib_memstab.core.report import AUTOMATIC
from lib_memstab.host import preset_row, wording
from lib_memstab.host.tab.markup import sentence
from lib_memstab.host.tab.working import in_the_way
from lib_memstab.presets import Presets
from lib_memstab.settings import TABLE, TITLE, Setting, SettingsError, row

if TYPE_CHECKING:
    from lib_memstab.calibration.calibrator import Calibrator
    from lib_memstab.host.background import Turn

SAMPLING = ("sampling", "scheduler", "steps", "width", "height", "cfg_scale")
"""The WebUI's own fields, by the end of their element's name, that say how a job samples."""

STEPS = "Steps"
"""An infotext's entry that every picture's has and no prompt."""

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Panel:
    """The panel's inputs in the table's order, and what pasting an infotext does to them."""

    inputs: list[Any]
    infotext_fields: list[tuple[Any, Any]]
    paste_field_names: list[str]


@dataclass(frozen=True)
class Behind:
    """What the panel speaks for: profiles, presets, the status line for a choice, and the calibrator.

    `names` are those of usable profiles; `file_names`, quickly told, are what the panel starts with. `turn`
    says what keeps a calibration from beginning, as it would change the profile on the way.
    """

    names: Callable[[], list[str]]
    file_names: Callable[[], list[str]]
    presets: Presets
    status: Callable[[str, Sequence[Any]], str]
    calibrator: Callable[[], Calibrator]
    samplers: Callable[[], Sequence[str]]
    schedulers: Callable[[], Sequence[str]]
    turn: Callable[[], Turn]


def build(elem_id: Callable[[str], str], sampling: Mapping[str, Any], behind: Behind) -> Panel:
    """Make the panel; `sampling` are the WebUI's fields of `SAMPLING` in this tab, as far as there are any."""
    with InputAccordion(row("enabled").default, label=TITLE, elem_id=elem_id("enable")) as enabled:
        chooser = preset_row.build(behind.presets, elem_id)
        with gr.Row():
            fields = {setting.attribute: _field(setting, elem_id, behind.file_names) for setting in TABLE[1:]}
        status = gr.HTML(value="", elem_id=elem_id("status"))
        with gr.Row():
            check = gr.Button(wording.WHICH, elem_id=elem_id("check"))
            calibrate = gr.Button(wording.CALIBRATE_THIS, elem_id=elem_id("calibrate"))
            stop = gr.Button(wording.STOP_CALIBRATION, elem_id=elem_id("stop"))
    own = [sampling[name] for name in SAMPLING if name in sampling]
    profile = fields["profile"]

    def look(wanted: str, *values: Any) -> Any:
        return gr.update(choices=[AUTOMATIC, *behind.names()]), sentence(behind.status(wanted, values))

    def calibrating(*values: Any) -> Iterator[str]:
        yield from _calibrating(behind, values)

    check.click(look, [profile, *own], [profile, status], show_progress=False)
    profile.change(lambda wanted, *values: sentence(behind.status(wanted, values)), [profile, *own], [status])
    enabled.change(lambda wanted, *values: sentence(behind.status(wanted, values)), [profile, *own], [status])
    calibrate.click(calibrating, own, [status], show_progress=False)
    stop.click(lambda: behind.calibrator().stop() and None, None, None)
    preset_row.connect(chooser, behind.presets, enabled, fields)
    inputs = [enabled, *fields.values()]
    return Panel(
        inputs,
        # Twice: as a function for pasting, and by name for "Send to", which carries named fields only.
        [(field, _restorer(setting, field)) for setting, field in zip(TABLE, inputs, strict=True)]
        + [(field, setting.infotext) for setting, field in zip(TABLE, inputs, strict=True)],
        [setting.infotext for setting in TABLE],
    )


def _field(setting: Setting, elem_id: Callable[[str], str], names: Callable[[], list[str]]) -> Any:
    name = elem_id(setting.attribute)
    if not isinstance(setting.default, bool | str):
        return gr.Slider(
            minimum=setting.low,
            maximum=setting.high,
            step=setting.step,
            value=setting.default,
            label=setting.label,
            info=setting.help,
            elem_id=name,
        )
    if setting.choices:
        return gr.Radio(
            list(setting.choices), value=setting.default, label=setting.label, info=setting.help, elem_id=name
        )
    return gr.Dropdown(
        [AUTOMATIC, *names()],
        value=setting.default,
        label=setting.label,
        info=setting.help,
        elem_id=name,
        allow_custom_value=True,
    )


def _restorer(setting: Setting, field: Any) -> Callable[[Mapping[str, Any]], Any]:
    """What an infotext does to a field: the settings it has of MemStab, or what the panel starts with for a picture
    made without it. A prompt alone, and a text that has a verdict but no settings that can be read, change nothing.
    """

    def restore(params: Mapping[str, Any]) -> Any:
        if STEPS in params and not params.keys() & set(badge.KEYS):
            return field.value
        try:
            found = badge.settings_from_infotext(params[badge.SETTINGS_KEY])
        except (KeyError, badge.BadgeError):
            return None
        if setting.attribute == "enabled":
            return True
        value = getattr(found, setting.attribute)
        return value if isinstance(value, str) else setting.clamp(value)

    return restore


def _calibrating(behind: Behind, values: Sequence[Any]) -> Iterator[str]:
    """Start a calibration with the tab's own settings and tell how far it is until it ends."""
    from lib_memstab.calibration.plan import SCALES, read_plan

    refused = in_the_way(behind.turn())
    if refused:
        yield sentence(refused)
        return
    names = {"sampling": "sampler", "cfg_scale": "guidance"}
    body = {names.get(name, name): value for name, value in zip(SAMPLING, values, strict=False)}
    for whole in ("steps", "width", "height"):
        body[whole] = int(body[whole])
    body["guidance"] = [body["guidance"], *(scale for scale in SCALES if scale != body["guidance"])]
    try:
        plan = read_plan(body, behind.samplers(), behind.schedulers())
    except SettingsError as error:
        yield sentence(str(error))
        return
    calibrator = behind.calibrator()
    calibrator.start(plan)
    while calibrator.busy:
        yield sentence(calibrator.progress.line())
        time.sleep(POLL_SECONDS)
    yield sentence(calibrator.progress.message)
