"""[memstab] in the WebUI's patterns of file and folder names."""

from __future__ import annotations

from typing import Any

from modules import images as webui_images

PATTERN = "memstab"


def add_pattern() -> None:
    """Teach the WebUI the pattern; where it has nothing to say, the text before it is left out too."""

    def verdict(names: Any, *only: str) -> Any:
        from lib_memstab.host import images

        return images.verdict_for_name(names.image, *only) or webui_images.NOTHING_AND_SKIP_PREVIOUS_TEXT

    webui_images.FilenameGenerator.replacements[PATTERN] = verdict
