"""MemStab in AUTOMATIC1111's WebUI: connects hooks, panel and pages with `lib_memstab`, and does nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modules import script_callbacks, scripts, sd_samplers, sd_schedulers, shared

from lib_memstab.host import accordion, filenames, holding, localize, options, xyz
from lib_memstab.host.late import Late, LateError, NoHooks
from lib_memstab.host.places import own_folder, serve
from lib_memstab.host.tab import page
from lib_memstab.host.tap import Tap
from lib_memstab.presets import Presets
from lib_memstab.settings import TITLE
from lib_memstab.store import Store

STORE = Store(own_folder)
PRESETS = Presets(lambda: own_folder() / "presets")
TAP = Tap()


def works() -> Any:
    """What is behind the pages; its import is most of what MemStab costs, and only jobs and clicks need it."""
    from lib_memstab.host.works import Works

    return Works(STORE)


WORKS = Late(works)


def hooks() -> Any:
    """What follows jobs."""
    try:
        return WORKS().hooks
    except LateError as error:
        return NoHooks(str(error))


def calibrator() -> Any:
    """What calibrates, once it is asked for."""
    return WORKS().calibrator


def sampler_names() -> list[str]:
    """Names a calibration's sampler may have."""
    return [sampler.name for sampler in sd_samplers.all_samplers]


def scheduler_names() -> list[str]:
    """Names a calibration's noise schedule may have."""
    return [scheduler.label for scheduler in sd_schedulers.schedulers]


def status(wanted: str, fields: Sequence[Any]) -> str:
    """Which profile applies to the panel's tab, and why, or that none does and what to do."""
    try:
        return WORKS().status(wanted, fields)
    except LateError as error:
        return str(error)


class MemStab(scripts.Script):
    """The script: every method hands its hook on."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def title(self) -> str:
        """Its name in the API and the panel."""
        return TITLE

    def show(self, is_img2img: bool) -> object:
        """In every job."""
        return scripts.AlwaysVisible

    def after_component(self, component: Any, **kwargs: Any) -> None:
        """Remember the tab's own sampling fields."""
        tab, _, name = (kwargs.get("elem_id") or "").partition("_")
        if tab == ("img2img" if self.is_img2img else "txt2img") and name in accordion.SAMPLING:
            self._fields[name] = component

    def ui(self, is_img2img: bool) -> list[Any]:
        """The panel."""
        behind = accordion.Behind(
            STORE.names,
            STORE.file_names,
            PRESETS,
            status,
            calibrator,
            sampler_names,
            scheduler_names,
            lambda: WORKS().turn,
        )
        panel = accordion.build(self.elem_id, self._fields, behind)
        self.infotext_fields, self.paste_field_names = panel.infotext_fields, panel.paste_field_names
        return panel.inputs

    def process(self, p: Any, *args: object) -> None:
        """A job begins."""
        hooks().process(p, args)

    def process_batch(self, p: Any, *args: object, **kwargs: Any) -> None:
        """A batch begins."""
        hooks().process_batch(p)

    def process_before_every_sampling(self, p: Any, *args: object, **kwargs: Any) -> None:
        """A sampling pass begins."""
        hooks().before_sampling(p, kwargs["x"])

    def post_sample(self, p: Any, ps: Any, *args: object) -> None:
        """A batch has been sampled."""
        hooks().post_sample(p, ps.samples)

    def postprocess_image(self, p: Any, pp: Any, *args: object) -> None:
        """An image's infotext is about to be made."""
        hooks().postprocess_image(p)

    def postprocess_image_after_composite(self, p: Any, pp: Any, *args: object) -> None:
        """An image is as it will be saved."""
        hooks().after_composite(p, pp.image)

    def postprocess(self, p: Any, processed: Any, *args: object) -> None:
        """The job is over."""
        hooks().postprocess(p)


def add_pages(_: Any, app: Any) -> None:
    """The pages for programs, where the WebUI has its own; it imports what they need later than scripts."""
    if not (shared.cmd_opts.api or shared.cmd_opts.nowebui):
        return
    from lib_memstab.host import api

    credentials = shared.cmd_opts.api_auth or ""
    api.add_pages(
        app,
        api.Parts(
            lambda: WORKS().host.name,
            STORE,
            PRESETS,
            calibrator,
            lambda: WORKS().learner,
            lambda: WORKS().host.checkpoint(),
            lambda: WORKS().hooks.latest,
            sampler_names,
            scheduler_names,
            lambda: WORKS().sampling.size(),
            options.output_folders,
            lambda: WORKS().verifier,
            lambda: WORKS().attacker,
            lambda: WORKS().turn,
            credentials,
        ),
    )


def add_tab() -> list[tuple[Any, str, str]]:
    """MemStab's own tab."""
    behind = page.Behind(
        STORE,
        calibrator,
        lambda: WORKS().learner,
        lambda: WORKS().host.checkpoint(),
        status,
        lambda: WORKS().host.loaded(),
        lambda: WORKS().sampling.size(),
        sampler_names,
        scheduler_names,
        options.output_folders,
        serve,
        lambda: WORKS().verifier,
        lambda: WORKS().attacker,
        lambda: WORKS().turn,
    )
    return [(page.Tab(behind), TITLE, page.NAME)]


def carry(params: Any) -> None:
    """A picture is about to be saved."""
    hooks().carry(params)


def before_ui() -> None:
    """All extensions are there, and no page yet."""
    xyz.add_axes(scripts.scripts_data, STORE.names)
    filenames.add_pattern()
    holding.stand_before(options.holding_back)
    localize.add_translations()


script_callbacks.on_before_ui(before_ui)
script_callbacks.on_cfg_denoiser(TAP.before)
script_callbacks.on_cfg_denoised(TAP.denoised)
script_callbacks.on_cfg_after_cfg(TAP.after)
script_callbacks.on_before_image_saved(carry)
script_callbacks.on_ui_tabs(add_tab)
script_callbacks.on_ui_settings(options.add_options)
script_callbacks.on_app_started(add_pages)
script_callbacks.on_app_started(lambda *_: WORKS.prepare())
