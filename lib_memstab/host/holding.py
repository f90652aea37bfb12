"""Files of flagged images, where the user does not want them: the host's saving is asked first, image by image.

The host decides once for a batch whether it saves, and has no hook that could say no for one image. So its
`save_image` is stood before, once; whatever is not an image of a job that MemStab watches goes through as it came.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modules import images as webui_images

from lib_memstab.host.wording import HELD_BACK

if TYPE_CHECKING:
    from lib_memstab.core.report import ImageReport

log = logging.getLogger("memstab")

_OURS = "memstab_holds"


def stand_before(wanted: Callable[[], bool]) -> None:
    """Let flagged images of jobs that MemStab watches go unsaved while `wanted()`; a second call changes nothing."""
    original = webui_images.save_image
    if hasattr(original, _OURS):
        return

    @functools.wraps(original)
    def save_image(image: Any, *args: Any, **kwargs: Any) -> Any:
        p: Any = kwargs.get("p")
        if wanted() and not kwargs.get("grid") and _is_held(p, kwargs.get("suffix", "")):
            if HELD_BACK not in p.comments:
                p.comment(HELD_BACK)
                log.warning(HELD_BACK)
            return None, None
        return original(image, *args, **kwargs)

    setattr(save_image, _OURS, True)
    webui_images.save_image = save_image


def _is_held(p: Any, suffix: str) -> bool:
    """Whether the image that the job `p` is about to save was flagged; only its own, not those of jobs made of it."""
    from lib_memstab.host.hooks import job_of
    from lib_memstab.host.images import BEFORE_HIRES

    job = job_of(p)
    if job is None:
        return False
    if suffix == BEFORE_HIRES:
        held = _flagged(job.so_far(len(p.prompts)), job.saved_before_hires)
        # `images.carry` counts those that are saved.
        job.saved_before_hires += held
        return held
    return _flagged(job.batch, p.batch_index)


def _flagged(reports: list[ImageReport], place: int) -> bool:
    return place < len(reports) and reports[place].verdict == "flagged"
