"""The three callbacks around a denoiser evaluation, handed on to whoever watches the job they belong to.

The host calls them for every job there is, other extensions' inner jobs too; a job is known by `denoiser.p`, and only
the first callback names it. So an evaluation that was opened stays open until its last callback, never longer.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

_ATTRIBUTE = "memstab_watch"


class Watch(Protocol):
    """Watches one job."""

    def before(self, params: Any) -> None:
        """Before an evaluation; text rows may be replaced in `params`."""

    def after(self, params: Any, out: Tensor, guided: Any) -> None:
        """After it: `params` as they were used, `out` the rows' predictions, `guided.x` what goes on, replaceable."""


@dataclass
class _Open:
    watch: Watch
    params: Any
    out: Tensor | None = None


def attach(p: Any, watch: Watch | None) -> None:
    """Make `watch` the one that watches the job `p`; None: nobody does."""
    setattr(p, _ATTRIBUTE, None if watch is None else (weakref.ref(p), watch))


def watch_of(p: Any) -> Watch | None:
    """Who watches the job `p` itself: a copy of it, as other extensions make them for jobs of their own, is foreign."""
    owner, watch = getattr(p, _ATTRIBUTE, None) or (None, None)
    return watch if owner is not None and owner() is p else None


class Tap:
    """Receives the host's callbacks; holds nothing but the evaluation that is going on."""

    def __init__(self) -> None:
        self._open: _Open | None = None

    def before(self, params: Any) -> None:
        """on_cfg_denoiser."""
        self._open = None
        watch = watch_of(getattr(params.denoiser, "p", None))
        if watch is not None:
            self._open = _Open(watch, params)
            watch.before(params)

    def denoised(self, params: Any) -> None:
        """on_cfg_denoised."""
        if self._open is not None:
            self._open.out = params.x

    def after(self, params: Any) -> None:
        """on_cfg_after_cfg."""
        opened, self._open = self._open, None
        if opened is not None and opened.out is not None:
            opened.watch.after(opened.params, opened.out, params)
