"""MemStab's section of the WebUI's Settings page.

What the panel starts with is none of it: the WebUI keeps that for every field of txt2img and img2img by itself.
"""

from __future__ import annotations

import html
from collections.abc import Collection
from pathlib import Path

import gradio as gr
from modules import shared

from lib_memstab import badge
from lib_memstab.host.wording import FILES, LEARN, NOTES, OPTIONS, PARAMETERS
from lib_memstab.settings import TITLE

SECTION = ("memstab", TITLE)

_ENTRIES = (badge.KEYS, (badge.VERDICT_KEY,), ())
INFOTEXT: dict[str, Collection[str]] = dict(zip(PARAMETERS.choices, _ENTRIES, strict=True))
"""Entries of the generation parameters, by the user's choice."""


def add_options() -> None:
    """on_ui_settings."""
    for option in OPTIONS:
        kind = {"component": gr.Radio, "component_args": {"choices": list(option.choices)}} if option.choices else {}
        info = shared.OptionInfo(option.default, option.label, section=SECTION, **kind).info(option.help)
        shared.opts.add_option(option.name, info)
    for name, text in NOTES.items():
        note = shared.OptionHTML(html.escape(text))
        note.section = SECTION
        shared.opts.add_option(name, note)


def learning() -> bool:
    """Whether the user wants MemStab to learn."""
    return bool(getattr(shared.opts, LEARN.name, LEARN.default))


def infotext_keys() -> Collection[str]:
    """Which of MemStab's entries the generation parameters are to have."""
    return INFOTEXT.get(getattr(shared.opts, PARAMETERS.name, ""), badge.KEYS)


def holding_back() -> bool:
    """Whether the user wants no files of flagged images."""
    return getattr(shared.opts, FILES.name, FILES.default) == FILES.choices[1]


def output_folders() -> list[Path]:
    """The folders that the WebUI saves pictures in, as far as they are set."""
    values = [getattr(shared.opts, name) for name in shared.opts.data_labels if name.startswith("outdir_")]
    return [Path(value) for value in values if value]
