"""MemStab's section of the WebUI's Settings page.

What the panel starts with is none of it: the WebUI keeps that for every field of txt2img and img2img by itself.
"""

from __future__ import annotations

import html
from collections.abc import Collection
from dataclasses import dataclass

import gradio as gr
from modules import shared

from lib_memstab import badge
from lib_memstab.host.images import KEYS
from lib_memstab.settings import TITLE

SECTION = ("memstab", TITLE)


@dataclass(frozen=True)
class Option:
    """One option: its name in the WebUI, what the user reads, what it is at first, and the values of a text."""

    name: str
    label: str
    default: bool | str
    help: str
    choices: tuple[str, ...] = ()


INFOTEXT: dict[str, Collection[str]] = {
    "settings and verdict": KEYS,
    "verdict": (badge.VERDICT_KEY,),
    "nothing": (),
}
"""Entries of the generation parameters, by the choice."""

LEARN = Option(
    "memstab_learn",
    "Learn what ordinary images of a checkpoint look like while I generate",
    False,
    "every image that MemStab watches and does not flag adds to a profile named after the checkpoint, which is used "
    "from 64 images on; of a prompt only a digest is kept",
)
PARAMETERS = Option(
    "memstab_infotext",
    "What MemStab writes into the generation parameters",
    next(iter(INFOTEXT)),
    "without the settings, pasting an image's parameters does not bring them back; a PNG has the whole badge in a part "
    "of its own whatever you choose",
    tuple(INFOTEXT),
)
GALLERY = Option("memstab_gallery", "Show MemStab's badges in the gallery", True, "the files have them anyway")
OPTIONS = (LEARN, PARAMETERS, GALLERY)

NOTES = {
    "memstab_note_names": "File names: [memstab] in a pattern (Saving images/grids; Paths for saving) becomes clear, "
    "flagged, suppressed or not-measured. The folder pattern [date]/[memstab<flagged><suppressed>] puts flagged images "
    "into folders of their own.",
    "memstab_note_defaults": "What the panel starts with in txt2img and in img2img: set it there; then Settings, "
    "Defaults, View changes, Apply.",
}
"""What is set elsewhere, and where."""


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
    return INFOTEXT.get(getattr(shared.opts, PARAMETERS.name, ""), KEYS)
