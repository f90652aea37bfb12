"""What attempts came to, counted: copies without MemStab and with it, attack by attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lib_memstab.lab.attempt import Attempt


def rates(attempts: Sequence[Attempt], copied: Callable[[float], bool]) -> list[dict[str, Any]]:
    """A row for each attack, effort and penalty: copies without MemStab and with it, and prompts won."""
    rows = []
    for key in dict.fromkeys((one.attack, one.effort, one.penalty) for one in attempts):
        own = [one for one in attempts if (one.attack, one.effort, one.penalty) == key]
        rows.append({"attack": key[0], "effort": key[1], "penalty": key[2], **counts(own, copied)})
    return rows


def counts(attempts: Sequence[Attempt], copied: Callable[[float], bool]) -> dict[str, Any]:
    """What a row counts; `copied` says of a likeness whether the picture is a copy."""
    before = [copied(one.without) for one in attempts]
    after = [copied(one.suppressed) for one in attempts]
    prompts = {one.prompt for one in attempts}
    return {
        "attempts": len(attempts),
        "copies_without": sum(before),
        "copies_with": sum(after),
        "copies_flagged": sum(one.flagged and copy for one, copy in zip(attempts, before, strict=True)),
        "prompts": len(prompts),
        "prompts_won": len({one.prompt for one, copy in zip(attempts, after, strict=True) if copy}),
    }
