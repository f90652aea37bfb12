"""What a WebUI must be like to be a place where pictures come from, over HTTP or in its own process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from lib_memstab.core.report import ImageReport
from lib_memstab.evidence.verify.plan import Mode, Sampling, SourceError
from lib_memstab.evidence.webui_prompt import COMMENT, COMMENT_SETTING, EMPHASIS_SETTING
from lib_memstab.host.wording import LEARN

FACTS: Final = ("sd_model_checkpoint", "sd_checkpoint_hash", "sd_vae", "CLIP_stop_at_last_layers", "randn_source")
"""The WebUI's names of the loaded checkpoint and of settings that change every picture."""

WATCHED: Final = (*FACTS, COMMENT_SETTING, EMPHASIS_SETTING, LEARN.name)
"""Names of all settings that are looked at."""


def facts_of(options: Mapping[str, Any], host: str, version: str) -> dict[str, str]:
    """What must be the same when a run goes on, of a WebUI with these settings; `host` and `version` are MemStab's."""
    return {"host": host, "MemStab": version, **{name: str(options.get(name, "")) for name in FACTS}}


def refuse_settings(options: Mapping[str, Any], sampler: str, samplers: Collection[str]) -> None:
    """SourceError if a WebUI with these settings cannot be verified with this sampler; it says what to change."""
    if sampler not in samplers:
        raise SourceError(f"the WebUI has no sampler {sampler!r}: it has {', '.join(samplers)}")
    if options.get(EMPHASIS_SETTING) == "None":
        raise SourceError(
            "the WebUI's Emphasis mode is None, so that brackets cannot be escaped: set Settings, Stable "
            "Diffusion, Emphasis mode to Original"
        )
    if options.get(LEARN.name):
        raise SourceError(
            "the WebUI learns from what it generates, and would learn these prompts and change its profile on the "
            f"way: switch off Settings, MemStab, {LEARN.label}"
        )


def refuse_comments(options: Mapping[str, Any], prompts: Sequence[str]) -> None:
    """SourceError if the WebUI would take a part of a prompt for a comment."""
    cut = [prompt for prompt in prompts if COMMENT in prompt]
    if cut and options.get(COMMENT_SETTING, False):
        raise SourceError(
            f"{len(cut)} prompts hold a {COMMENT}, and the WebUI would leave out what follows it (as in "
            f"{cut[0][:60]!r}): switch off Settings, Stable Diffusion, Enable comments"
        )


PLAIN: Final = {"prompt", "seed"}
"""What a plain job changes: MemStab must be able to measure it, or the checkpoint was not calibrated for this."""


class Watch:
    """Looks at every badge of a run: there where MemStab was on, whole, and measured at first."""

    def __init__(self) -> None:
        self._measured = False

    def look(self, report: ImageReport | None, mode: Mode, plain: bool = True) -> None:
        """SourceError if a picture in this mode cannot have such a badge; the first `plain` one must be measured."""
        if (report is not None) != (mode != "off"):
            raise SourceError(
                "the WebUI's picture has no badge although MemStab was switched on: is the extension the newest?"
                if report is None
                else "the WebUI's picture has a badge although MemStab was switched off: is another extension on?"
            )
        if report is None:
            return
        if report.partial is not None:
            raise SourceError("the job was interrupted in the WebUI: leave it alone until this is done, and call again")
        if not self._measured and plain:
            if report.verdict == "not measured":
                raise SourceError(
                    f"MemStab could not measure in the WebUI ({report.reason}): calibrate this checkpoint "
                    "first, in the MemStab tab or over /memstab/v1/calibrate"
                )
            self._measured = True


def job_of(sampling: Sampling, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A job in the WebUI's own words: a run's sampling with `changes`, which have prompt and seed."""
    sampler = {"sampler_name": sampling.sampler}
    if sampling.scheduler and "sampler_name" not in changes:
        sampler["scheduler"] = sampling.scheduler
    return {
        "negative_prompt": "",
        "steps": sampling.steps,
        "cfg_scale": sampling.guidance,
        "width": sampling.width,
        "height": sampling.height,
        **sampler,
        **changes,
    }


def arguments(sampling: Sampling, mode: Mode) -> dict[str, Any]:
    """MemStab's argument object for it."""
    return {
        "enabled": mode != "off",
        "mode": "detect" if mode == "off" else mode,
        "sensitivity": sampling.sensitivity,
    }
