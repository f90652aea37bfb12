"""MemStab's section of the WebUI's Settings page."""

from __future__ import annotations

from pathlib import Path

from modules import shared

from lib_memstab.settings import TITLE

LEARN = "memstab_learn"
SECTION = ("memstab", TITLE)


def add_options() -> None:
    """on_ui_settings."""
    shared.opts.add_option(
        LEARN,
        shared.OptionInfo(
            False, "Learn what ordinary images of a checkpoint look like while I generate", section=SECTION
        ).info(
            "every image that MemStab watches and does not flag adds to a profile named after the checkpoint, which is "
            "used from 64 images on; of a prompt only a digest is kept"
        ),
    )


def learning() -> bool:
    """Whether the user wants MemStab to learn."""
    return bool(getattr(shared.opts, LEARN, False))


def output_folders() -> list[Path]:
    """The folders that the WebUI saves pictures in, as far as they are set."""
    values = [getattr(shared.opts, name) for name in shared.opts.data_labels if name.startswith("outdir_")]
    return [Path(value) for value in values if value]
