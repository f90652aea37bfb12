"""A verification as a page asks for it: read strictly, every field named, checked and with a default."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_memstab.calibration.ordinary import listed
from lib_memstab.calibration.plan import KINDS, MOST_PROMPTS, Choosing
from lib_memstab.host.asking import (
    OTHERS,
    Host,
    fields_of,
    read_list,
    read_reference,
    read_sampling,
    refuse_too_many,
)

if TYPE_CHECKING:
    from lib_memstab.evidence.prompt_lists import PromptList
    from lib_memstab.evidence.verify.plan import Group, Sampling

OWN = "MemStab's own ordinary prompts"

TEXTS: Mapping[str, object] = {
    "memorized": None,
    "memorized_name": "memorized prompts",
    "ordinary": None,
    "ordinary_name": "ordinary prompts",
    **OTHERS,
}
"""Fields that are no numbers, with what they are at first; `memorized` has to be given."""


@dataclass(frozen=True)
class Verification:
    """What to verify.

    Attributes:
        memorized: prompts that are known to replay.
        ordinary: prompts that do not; None: MemStab's own, as many as there are others.
        limit: only so many prompts of each list.
        seeds: pictures of each prompt, in each mode.
        reference: folder of training pictures; without it copies are told by other seeds.
        resume: whether to go on from what the same verification has made when it was stopped.
        body: the same as JSON data that `read_verification` reads.
    """

    memorized: PromptList
    ordinary: PromptList | None
    limit: int | None
    seeds: int
    sampling: Sampling
    reference: Path | None
    resume: bool
    body: Mapping[str, Any]

    def lists(self, vocabulary: Callable[[], Sequence[str]]) -> list[tuple[Group, PromptList]]:
        """Both lists; `vocabulary` are words that the checkpoint's text model has, asked for MemStab's own prompts."""
        count = len(self.memorized.prompts[: self.limit])
        ordinary = self.ordinary or own_prompts(vocabulary(), count)
        return [("memorized", self.memorized), ("ordinary", ordinary)]


def read_verification(body: object, host: Host) -> Verification:
    """The verification that a page's JSON body asks for.

    Raises:
        SettingsError: names the field and the values it may have.
        ForbiddenError: for training pictures in another folder.
        FileNotFoundError: for such a folder that is not there.
    """
    from lib_memstab.evidence.verify.plan import MODES

    given = fields_of(body, TEXTS)
    memorized = read_list("memorized", given)
    ordinary = None if given["ordinary"] is None else read_list("ordinary", given)
    limit, seeds = given["limit"], given["seeds"]
    count = len(memorized.prompts[:limit])
    refuse_too_many((count + (len(ordinary.prompts[:limit]) if ordinary else count)) * seeds * len(MODES))
    sampling, reference = read_sampling(given, host), read_reference(given, host)
    return Verification(memorized, ordinary, limit, seeds, sampling, reference, given["resume"], given)


def own_prompts(vocabulary: Sequence[str], count: int) -> PromptList:
    """So many ordinary prompts of MemStab's, always the same; none that a calibration chooses from."""
    from lib_memstab.evidence.prompt_lists import ListedPrompt, PromptList

    # Of MemStab's list a calibration takes no more than its beginning, all candidates where the model says no words.
    used = Choosing(MOST_PROMPTS).candidates * len(KINDS)
    texts = listed(vocabulary, used + count)[used:]
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    prompts = tuple(ListedPrompt(text, line) for line, text in enumerate(texts, start=1))
    return PromptList(OWN, "own", digest, prompts, ())
