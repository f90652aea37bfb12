"""What is loaded after the WebUI's start and not during it, as everybody waits for that and only jobs need the rest."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from lib_memstab.settings import SettingsError, read_args

log = logging.getLogger("memstab")

T = TypeVar("T")


class LateError(RuntimeError):
    """Something could not be loaded; the message says what to do."""


class Late(Generic[T]):
    """Something that is made once: when it is first asked for, or before in the background.

    If that fails it is told once in the log, and to everyone who asks; it is not tried again, as half of a program
    that was updated under a running WebUI does not fit the other half.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._guard = make, threading.Lock()
        self._made: T | None = None
        self._error: str = ""

    def __call__(self) -> T:
        """What was made; LateError if it cannot be."""
        with self._guard:
            if self._made is None:
                self._made = self._try()
            return self._made

    def prepare(self) -> threading.Thread:
        """Make it in the background, so that nobody has to wait for it."""
        thread = threading.Thread(target=self._quietly, name="MemStab loads", daemon=True)
        thread.start()
        return thread

    def _quietly(self) -> None:
        try:
            self()
        except LateError:
            return

    def _try(self) -> T:
        if self._error:
            raise LateError(self._error)
        try:
            return self._make()
        except Exception as error:
            self._error = (
                f"MemStab could not be loaded ({type(error).__name__}: {error}), so nothing is measured: restart the "
                "WebUI; if that does not help, update the extension or install it anew."
            )
            log.error(self._error, exc_info=error)
            raise LateError(self._error) from error


class NoHooks:
    """In place of `Hooks` where these could not be loaded: says so beside the pictures of jobs that have MemStab on."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def process(self, p: Any, args: Sequence[object]) -> None:
        """A job begins."""
        try:
            enabled = read_args(args).enabled
        except SettingsError:
            enabled = True
        if enabled:
            p.comment(self.reason)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Nothing follows."""
        return lambda *_: None
