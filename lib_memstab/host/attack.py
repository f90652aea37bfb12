"""An attack as a page asks for it: read strictly, every field named, checked and with a default."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_memstab.evidence.live.names import NAMES, WITH_PICTURE, chosen_attacks, most_pictures
from lib_memstab.host.asking import (
    OTHERS,
    Host,
    fields_of,
    read_list,
    read_reference,
    read_sampling,
    refuse_too_many,
)
from lib_memstab.settings import SettingsError

if TYPE_CHECKING:
    from lib_memstab.evidence.prompt_lists import PromptList
    from lib_memstab.evidence.verify.plan import Group, Sampling

TEXTS: Mapping[str, object] = {
    "prompts": None,
    "prompts_name": "prompts",
    "ordinary": None,
    "ordinary_name": "ordinary prompts",
    "attacks": None,
    **OTHERS,
}
"""Fields that are no numbers, with what they are at first; `prompts` has to be given."""

NOTHING_TO_BEGIN_FROM = "img2img of a noisy copy, for there are no training pictures"


@dataclass(frozen=True)
class Attack:
    """What to attack, and how.

    Attributes:
        prompts: that are known to replay.
        ordinary: captions that attacks join to a prompt; None: a few everyday ones.
        limit: only so many prompts of each list.
        seeds: pictures of each prompt and attack, without MemStab and with it.
        names: attacks, in the order in which they are tried; `left_out` is what is not, in words.
        reference: folder of training pictures; without it copies are told by other seeds.
        resume: whether to go on from what the same attack has made when it was stopped.
        body: the same as JSON data that `read_attack` reads.
    """

    prompts: PromptList
    ordinary: PromptList | None
    limit: int | None
    seeds: int
    names: Sequence[str]
    left_out: Sequence[str]
    sampling: Sampling
    reference: Path | None
    resume: bool
    body: Mapping[str, Any]

    def lists(self) -> list[tuple[Group, PromptList]]:
        """The lists there are."""
        ordinary: list[tuple[Group, PromptList]] = [] if self.ordinary is None else [("ordinary", self.ordinary)]
        return [("memorized", self.prompts), *ordinary]

    def pictures(self) -> int:
        """How many that is at most."""
        return most_pictures(len(self.prompts.prompts[: self.limit]), self.seeds, self.names, bool(self.reference))


def read_attack(body: object, host: Host) -> Attack:
    """The attack that a page's JSON body asks for.

    Raises:
        SettingsError: names the field and the values it may have.
        ForbiddenError: for training pictures in another folder.
        FileNotFoundError: for such a folder that is not there.
    """
    given = fields_of(body, TEXTS)
    prompts = read_list("prompts", given)
    ordinary = None if given["ordinary"] is None else read_list("ordinary", given)
    names, left_out = _attacks(given["attacks"], host.samplers, given["reference"] is not None)
    limit, seeds = given["limit"], given["seeds"]
    refuse_too_many(most_pictures(len(prompts.prompts[:limit]), seeds, names, given["reference"] is not None))
    sampling, reference = read_sampling(given, host), read_reference(given, host)
    return Attack(prompts, ordinary, limit, seeds, names, left_out, sampling, reference, given["resume"], given)


def _attacks(asked: object, samplers: Collection[str], pictures: bool) -> tuple[list[str], list[str]]:
    """The attacks that are tried, and what is left out, in words; `pictures` says whether there are training pictures.

    What was named and cannot be tried is refused; what comes with all of them is told.
    """
    if not (asked is None or (isinstance(asked, list) and asked and all(one in NAMES for one in asked))):
        raise SettingsError("attacks", f"null for all, or a list of {', '.join(map(repr, NAMES))}", asked)
    names, lacking = chosen_attacks(asked, samplers)
    if asked is not None and lacking:
        raise SettingsError("attacks", f"a list without {lacking[0]!r}: the WebUI has no such sampler", asked)
    blind = [name for name in names if name not in WITH_PICTURE]
    if pictures or blind == names:
        return names, [f"the WebUI has no sampler {name!r}" for name in lacking]
    if not blind:
        raise SettingsError("attacks", "others than img2img without `reference`, whose pictures it begins from", asked)
    return blind, [*(f"the WebUI has no sampler {name!r}" for name in lacking), NOTHING_TO_BEGIN_FROM]
