"""Translations of MemStab's texts, for people whose WebUI speaks another language already.

The WebUI takes the files of ONE name, and those of MemStab have names of their own: so they are added to every
localization of their language, before its own file, whose words therefore win.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from pathlib import Path

from modules import localization

FOLDER = Path(__file__).parents[2] / "localizations"
LANGUAGES = {
    "zh-Hans (MemStab)": r"(zh([-_](cn|sg|hans))?|chinese)(?![\w-])",
    "ja (MemStab)": r"(ja([-_]jp)?|japanese)(?![\w-])",
    "de (MemStab)": r"(de([-_](de|at|ch))?|german)(?![\w-])",
}
"""MemStab's files, each with what the names of localizations of its language begin with."""


def add_translations() -> None:
    """Once all localizations are listed."""
    join(localization.localizations)


def join(listed: MutableMapping[str, list[str]]) -> None:
    """Add MemStab's files to the lists of files, by name, that they belong to."""
    for own, beginning in LANGUAGES.items():
        file = FOLDER / f"{own}.json"
        for name, files in listed.items():
            if re.match(beginning, name, re.IGNORECASE) and file.name not in {Path(one).name for one in files}:
                files.insert(0, str(file))
