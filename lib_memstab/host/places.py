"""Folders and files of the WebUI's: where MemStab keeps what is the user's, and which pictures a page may have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modules import paths, shared, ui_tempdir

from lib_memstab.settings import TITLE


def own_folder() -> Path:
    """Where the user's profiles and presets are, what was learned, and calibrations that are not finished."""
    return Path(paths.models_path) / TITLE


def serve(pictures: Sequence[Path]) -> None:
    """Make the page give these pictures, as it gives those of its galleries."""
    for picture in pictures:
        ui_tempdir.register_tmp_file(shared.demo, str(picture))
