"""Installs nothing: the WebUI has all that MemStab needs. Says in one line what is too old, if anything is."""

import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NEEDED = {"torch": (2, 0), "numpy": (1, 23)}
HOOK = "def process_before_every_sampling"


def too_old(webui: Path) -> list[str]:
    """What is missing for MemStab, in words."""
    found = []
    if sys.version_info < (3, 10):  # noqa: UP036 - the WebUI chooses the Python
        found.append("Python 3.10 or newer")
    for package, least in NEEDED.items():
        try:
            there = tuple(int(part) for part in version(package).split("+")[0].split(".")[:2])
        except (PackageNotFoundError, ValueError):
            continue
        if there < least:
            found.append(f"{package} {least[0]}.{least[1]} or newer")
    hooks = webui / "modules" / "scripts.py"
    if hooks.is_file() and HOOK not in hooks.read_text(encoding="utf-8", errors="replace"):
        found.append("a WebUI of version 1.10 or newer")
    return found


if __name__ == "__main__":
    missing = too_old(Path.cwd())
    if missing:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("memstab").warning(
            "MemStab needs %s; pictures will be marked 'not measured'", ", ".join(missing)
        )
