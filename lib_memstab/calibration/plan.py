"""What is calibrated, and how it is asked for: read strictly, every field named, checked and with a default."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lib_memstab.calibration.ordinary import FEWEST_WORDS
from lib_memstab.core.profile import Mode, ProfileError, check_name
from lib_memstab.core.region import MIN_TRAJECTORIES, RegionError
from lib_memstab.settings import SettingsError

STRENGTHS = (0.75, 0.5, 0.9, 0.3)
SCALES = (7.0, 3.0, 1.0, 12.0)
"""Guidance scales where the caller names none; as many of them as the trajectories are enough for."""

MOST_PROMPTS, IN_TURN = 128, 2
"""Most prompts that MemStab chooses, and how often at least each one is sampled, in other ways."""

WORDS, READ = 16, 1 / 2
"""Words of the vocabulary that are tried, and that prompts are made of, for each prompt that is chosen."""

CANDIDATES = 4
"""Candidates of each kind for each prompt that is chosen: only the strongest pull as hard as what users ask for."""

KINDS = (3 / 8, 3 / 8, 1 / 4)
"""Shares of the chosen prompts that are of the list, of frequent words, and of words that the checkpoint reads, at
most."""

GLANCED_AT = 2
"""Words or prompts that are looked at from two noises for each that is wanted, about."""

TIMESTEPS, SIGMAS = "DDIM", "Euler"
"""A sampler over timesteps begins below those over sigmas, and the lower the fewer its steps are: at its first
evaluation the model sees noise where it expects a part of a picture. A calibration tries both kinds.
"""
FEWEST_STEPS = 4
OVER_TIMESTEPS = ("DDIM", "DDIM CFG++", "PLMS", "UniPC")

ENOUGH = 16
"""Trajectories in each way of sampling that are left where one more is added."""

LOOK_STEPS = 5
"""Steps in which prompts are sampled once more: a replay is one in few steps too."""

FEWEST_PROMPTS, MAX_PROMPTS, LONGEST = 8, 4096, 2000
"""Fewest and most prompts of a caller, and most characters of one."""
MODES: dict[str, tuple[Mode, ...]] = {"txt2img": ("txt2img",), "both": ("txt2img", "img2img")}


@dataclass(frozen=True)
class Plan:
    """What to calibrate.

    Attributes:
        name: of the profile; empty: the checkpoint's.
        sampler, scheduler, steps, width, height: as in any job.
        guidance: scales to calibrate at; the first one gets most trajectories.
        prompts: ordinary prompts, gone round; empty: MemStab chooses those that the checkpoint reads.
        suffix: added to every prompt, such as the tag of a LoRA that is always in use.
        trajectories: ordinary images in each mode.
        batch_size: images at once; fewer where these do not fit the memory.
        resume: whether to go on from what the same calibration has measured when it was stopped.
        pictures: whether to decode and save the pictures, as those of any job.
        modes: what to calibrate for; img2img also serves hires passes, and needs txt2img before it.
    """

    sampler: str
    scheduler: str
    steps: int
    width: int
    height: int
    guidance: tuple[float, ...]
    prompts: tuple[str, ...] = ()
    name: str = ""
    suffix: str = ""
    trajectories: int = 256
    batch_size: int = 4
    modes: tuple[Mode, ...] = ("txt2img", "img2img")
    resume: bool = True
    pictures: bool = False

    def ways(self, mode: Mode) -> list[Way]:
        """Ways of sampling, each with its share of the trajectories."""
        first, *others = self.guidance
        if mode == "img2img":
            return [Way(first, self.sampler, strength=strength) for strength in STRENGTHS]
        other_kind = SIGMAS if self.sampler in OVER_TIMESTEPS else TIMESTEPS
        low = sorted(scale for scale in others if 2 <= scale < first)[:1]
        found = [
            Way(first, self.sampler),
            Way(first, self.sampler, negative=True),
            # With very few steps samplers over timesteps evaluate next to nothing.
            Way(first, other_kind if self.steps >= FEWEST_STEPS else self.sampler),
            Way(first, self.sampler),
            *(Way(scale, self.sampler) for scale in others),
            *(Way(scale, self.sampler, negative=True) for scale in low),
        ]
        few = self.steps // 2
        if few >= FEWEST_STEPS and self.trajectories >= ENOUGH * (len(found) + 1):
            found.append(Way(first, TIMESTEPS, steps=few))
        return found

    def without(self, prompts: Collection[str]) -> Plan:
        """The same with the other prompts.

        Raises:
            RegionError: if these are more than half of the prompts.
        """
        kept = tuple(prompt for prompt in self.prompts if prompt not in prompts)
        if len(kept) < len(self.prompts) / 2:
            raise RegionError(
                f"{len(prompts)} of {len(set(self.prompts))} prompts give the same picture with every seed: calibrate "
                "with other prompts"
            )
        return replace(self, prompts=kept)

    def fewest(self) -> int:
        """Trajectories below which some way of sampling has too few to make a band."""
        return MIN_TRAJECTORIES * max(len(self.ways(mode)) for mode in self.modes)

    def choosing(self) -> Choosing:
        """How many prompts MemStab chooses at most, and of how many; of none where the caller gave prompts."""
        return Choosing(0 if self.prompts else min(self.trajectories // IN_TURN, MOST_PROMPTS))

    def batches(self) -> int:
        """Batches in all, about where MemStab chooses the prompts."""
        turns = [(turn, len(ways)) for ways in map(self.ways, self.modes) for turn in range(len(ways))]
        jobs = [*self.choosing().jobs(), *(len(range(turn, self.trajectories, count)) for turn, count in turns)]
        return sum(math.ceil(images / self.batch_size) for images in [*jobs, self.looks()])

    def looks(self) -> int:
        """How many prompts are sampled once more, at most."""
        return len(set(self.prompts[: self.trajectories])) if self.prompts else self.choosing().prompts

    def with_suffix(self, prompt: str) -> str:
        """A prompt as it is sampled."""
        return f"{prompt} {self.suffix}" if self.suffix else prompt

    def evaluations(self) -> int:
        """Denoiser evaluations in all, about."""
        shares = [
            self.trajectories * sum(way.strength * (way.steps or self.steps) for way in ways) / len(ways)
            for ways in map(self.ways, self.modes)
        ]
        return sum(self.choosing().jobs()) + round(sum(shares)) + LOOK_STEPS * self.looks()

    def images(self) -> int:
        """Images in all, single evaluations of words and candidates among them; about where MemStab chooses."""
        return sum(self.choosing().jobs()) + self.trajectories * len(self.modes) + self.looks()


@dataclass(frozen=True)
class Choosing:
    """How many prompts are chosen at most, and among how many."""

    prompts: int

    @property
    def words(self) -> int:
        """Words of the vocabulary that are tried, the most frequent ones."""
        return WORDS * self.prompts

    @property
    def read(self) -> int:
        """Words that the checkpoint reads, which a kind of candidates is made of."""
        return max(round(READ * self.prompts), FEWEST_WORDS) if self.prompts else 0

    @property
    def candidates(self) -> int:
        """Candidates of each kind."""
        return CANDIDATES * self.prompts

    @property
    def kinds(self) -> list[int]:
        """Prompts that are chosen of each kind, at most."""
        return [round(share * self.prompts) for share in KINDS]

    def jobs(self) -> list[int]:
        """Images of one evaluation each, about, job by job: once all, then the strongest of these from two noises."""
        wanted = [self.read, *self.kinds]
        tried = [self.words, *[self.candidates] * len(KINDS)]
        twice = [[GLANCED_AT * want] * 2 for want in wanted]
        return [count for number, glances in zip(tried, twice, strict=True) for count in (number, *glances)]


@dataclass(frozen=True)
class Way:
    """One way of sampling: guidance scale, sampler, whether with a negative prompt, img2img's denoising strength.

    `steps`: None for the plan's.
    """

    guidance: float
    sampler: str
    negative: bool = False
    strength: float = 1.0
    steps: int | None = None


def read_plan(
    body: object, samplers: Collection[str], schedulers: Collection[str], size: tuple[int, int] = (512, 512)
) -> Plan:
    """A plan from JSON data; fields left out take their defaults, `size` (height, width) what the checkpoint is for.

    Raises:
        SettingsError: names the field and the values it may have.
    """
    if not isinstance(body, Mapping):
        raise SettingsError("body", "a JSON object", body)
    readers: dict[str, tuple[Any, Callable[[str, Any], Any]]] = {
        "name": ("", _name),
        "sampler": ("Euler", _one_of(samplers)),
        "scheduler": ("Automatic", _one_of(schedulers)),
        "steps": (20, _whole(1, 150)),
        "width": (size[1], _whole(64, 2048, 8)),
        "height": (size[0], _whole(64, 2048, 8)),
        "guidance": (None, _scales),
        "trajectories": (256, _whole(8, 4096)),
        "batch_size": (4, _whole(1, 64)),
        "modes": ("both", _one_of(MODES)),
        "prompts": (None, _prompts),
        "suffix": ("", _text),
        "resume": (True, _yes_or_no),
        "pictures": (False, _yes_or_no),
    }
    for field in body:
        if field not in readers:
            raise SettingsError(str(field)[:40], f"one of {', '.join(readers)}", field)
    values = {field: read(field, body.get(field, default)) for field, (default, read) in readers.items()}
    wanted = [values["guidance"]] if values["guidance"] else [SCALES[:count] for count in range(len(SCALES), 0, -1)]
    plans = [Plan(**{**values, "modes": MODES[values["modes"]], "guidance": scales}) for scales in wanted]
    plan = next((one for one in plans if one.trajectories >= one.fewest()), plans[-1])
    if plan.trajectories < plan.fewest():
        raise SettingsError("trajectories", f"at least {plan.fewest()} with these guidance scales", plan.trajectories)
    return plan


def _name(field: str, value: Any) -> str:
    if value == "":
        return ""
    try:
        return check_name(value) if isinstance(value, str) else check_name("")
    except ProfileError as error:
        raise SettingsError(field, f"a profile's name ({error})", value) from error


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise SettingsError(field, f"a text of up to {LONGEST} characters", value)
    return value.strip()


def _yes_or_no(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(field, "true or false", value)
    return value


def _one_of(choices: Collection[str]) -> Callable[[str, Any], str]:
    def read(field: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise SettingsError(field, f"one of {', '.join(choices)}", value)
        return value

    return read


def _whole(low: int, high: int, step: int = 1) -> Callable[[str, Any], int]:
    def read(field: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high or value % step:
            raise SettingsError(
                field, f"a whole number from {low} to {high}" + (f" in steps of {step}" if step > 1 else ""), value
            )
        return value

    return read


def _scales(field: str, value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    scales = value if isinstance(value, list) else [value]
    fits = all(type(scale) in (int, float) and 1 <= scale <= 30 for scale in scales)
    if not (1 <= len(scales) <= 8 and fits and len(set(scales)) == len(scales)):
        raise SettingsError(field, "null, a number from 1 to 30, or up to 8 different ones", value)
    return tuple(float(scale) for scale in scales)


def _prompts(field: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    fits = isinstance(value, list) and FEWEST_PROMPTS <= len(value) <= MAX_PROMPTS
    if not (fits and all(isinstance(one, str) and len(one) <= LONGEST for one in value)):
        raise SettingsError(field, f"null, or {FEWEST_PROMPTS} to {MAX_PROMPTS} texts", value)
    return tuple(value)
