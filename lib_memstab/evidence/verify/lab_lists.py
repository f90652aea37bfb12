"""The lab's own prompts and training pictures as lists, for a verification without any list of one's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lib_memstab.evidence.descriptors import Descriptor
from lib_memstab.evidence.prompt_lists import ListedPrompt, PromptList
from lib_memstab.evidence.similarity_command import training_pictures
from lib_memstab.evidence.verify.plan import Subject
from lib_memstab.evidence.verify.references import described
from lib_memstab.lab.corpus import Memorized
from lib_memstab.lab.experiment import load_splits

SPLIT = "final"
RATES = ("heavy", "medium")
"""How often the training picture was shown of the prompts that are taken: rarer ones are not memorized."""

KINDS = {"title": "verbatim", "caption": "verbatim", "template": "template"}


def lab_lists() -> tuple[PromptList, PromptList]:
    """Memorized prompts, kinds in turns so that the first few have all of them, and ordinary ones."""
    split = load_splits()[SPLIT]
    by_kind = [[row for row in _rows(split) if row["kind"] == kind] for kind in KINDS]
    turns = [row for rank in range(max(map(len, by_kind))) for rows in by_kind for row in rows[rank : rank + 1]]
    memorized = tuple(
        ListedPrompt(_text(row), place, KINDS[row["kind"]], str(row["scene"]))
        for place, row in enumerate(turns, start=1)
    )
    ordinary = dict.fromkeys(row["text"] for row in split["ordinary"])
    return (
        _list("lab, memorized", memorized),
        _list("lab, ordinary", tuple(ListedPrompt(text, place) for place, text in enumerate(ordinary, start=1))),
    )


def lab_references(subjects: Sequence[Subject], descriptor: Descriptor) -> dict[int, NDArray[Any]]:
    """Descriptor [D] of the training picture of each of the lab's memorized prompts among these."""
    pairs = {
        _text(row): Memorized(**{name: value for name, value in row.items() if name != "fillings"})
        for row in _rows(load_splits()[SPLIT])
    }
    own = [one for one in subjects if one.group == "memorized" and one.prompt.text in pairs]
    if not own:
        return {}
    pictures = training_pictures([pairs[one.prompt.text] for one in own])
    return described(dict(zip((one.number for one in own), pictures, strict=True)), descriptor)


def _rows(split: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in split["memorized"] if row["rate"] in RATES]


def _text(row: dict[str, Any]) -> str:
    """The prompt of a row; a template's first filling."""
    return str(row["fillings"][0]["text"] if row["kind"] == "template" else row["text"])


def _list(name: str, prompts: tuple[ListedPrompt, ...]) -> PromptList:
    digest = hashlib.sha256(json.dumps([one.text for one in prompts]).encode()).hexdigest()
    return PromptList(name, "lab", digest, prompts, ())
