"""The attacks: who knows what, and what is sampled.

Every attacker knows a memorized prompt and MemStab. Some hold the training picture too, or a bad copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib_memstab.core.monitor import Settings
from lib_memstab.core.region import Region
from lib_memstab.lab import scenes
from lib_memstab.lab.adversary import Watch, invert, lessons_of_picture, lessons_of_prompt
from lib_memstab.lab.attempt import COPY_NOISE, FAULTS, Attempt, Knows
from lib_memstab.lab.attempts import Play, attempts, carried
from lib_memstab.lab.composing import Composed, Edited
from lib_memstab.lab.corpus import Corpus, scene_of
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.figures import Judge
from lib_memstab.lab.sampling import Job, sample
from lib_memstab.lab.sd1_layout import LabModel
from lib_memstab.lab.trials import Trial
from lib_memstab.lab.wordings import WORDINGS, Wording, described, paraphrased

Regions = dict[str, Region]
"""By mode."""

NOISES = (0.1, 0.3, 0.6)
DRAWS = 4
LESSONS = 160
"""Noisy copies of the picture that an inversion learns from: eight at each noise level of the sampler."""

USUAL = 24
"""Ordinary prompts of which an attacker learns what update norms are usual."""

OTHER_SEEDS = 500_000
"""What is added to a seed where an attacker samples for himself."""

FAST, SLOW = 0.1, 0.03
"""Learning rates from a text that knows nothing of the picture, and from the memorized prompt's own."""


@dataclass(frozen=True)
class Effort:
    """How hard gradient attacks try: steps after which pictures are sampled, and weights of MemStab's statistic."""

    steps: tuple[int, ...]
    penalties: tuple[float, ...]


@dataclass(frozen=True)
class Attack:
    """One attack: what the attacker knows besides MemStab, and what is made of some trials.

    `gradient`: it takes the trials of one memorized pair at a time. `control`: the same without the prompt, for what an
    attack brings along by itself. `kinds`: of memorized prompts that it can be tried on. `mode`: its region's.
    """

    name: str
    knows: Knows
    run: Callable[[Judge, Regions, Sequence[Trial], Settings, Effort], list[Attempt]]
    gradient: bool = False
    control: bool = False
    kinds: tuple[str, ...] = ("title", "caption", "template")
    mode: str = "txt2img"


def _sampled(make: Callable[[LabModel, Sequence[Trial]], Play], name: str, mode: str = "txt2img") -> Callable[..., Any]:
    """What runs an attack that samples once."""

    def run(judge: Judge, regions: Regions, trials: Sequence[Trial], settings: Settings, _: Effort) -> list[Attempt]:
        return attempts(judge, make(judge.model, trials), trials, regions[mode], settings, name)

    return run


def job_of(trials: Sequence[Trial], **changes: Any) -> Job:
    """The job that samples these trials, with some settings changed."""
    return replace(Job([trial.text for trial in trials], [trial.seed for trial in trials]), **changes)


def _as_it_is(changes: dict[str, Any], model: LabModel, trials: Sequence[Trial]) -> Play:
    return Play(job_of(trials, **changes))


def _worded(wording: Wording, model: LabModel, trials: Sequence[Trial]) -> Play:
    texts = []
    for trial in trials:
        assert trial.pair is not None
        texts.append(wording(trial.text, trial.pair, np.random.default_rng([trial.seed, 3])))
    return Play(job_of(trials, prompts=texts))


def _noised(scale: float, model: LabModel, trials: Sequence[Trial]) -> Play:
    text = model.encode_prompts([trial.text for trial in trials])
    noise = torch.stack(
        [torch.randn(text.shape[1:], generator=torch.Generator().manual_seed(trial.seed)) for trial in trials]
    )
    text = text + scale * text.std() * noise.to(text)
    return Play(job_of(trials, text=text), carried(model, text))


def _others(trials: Sequence[Trial]) -> list[str]:
    """An ordinary caption for each trial."""
    return [Corpus().ordinary(f"attack-{trial.seed}", 1)[0].text for trial in trials]


def _edited(memorized_first: bool, share: float, model: LabModel, trials: Sequence[Trial]) -> Play:
    job = job_of(trials)
    one, other = _others(trials), list(job.prompts)
    texts = (other, one) if memorized_first else (one, other)
    return Play(job, wrap=lambda model, monitor: Edited(model, monitor, texts, round(share * job.steps)))


def _composed(halves: bool, model: LabModel, trials: Sequence[Trial]) -> Play:
    job = job_of(trials)
    parts = [list(job.prompts), _others(trials)]
    if halves:
        words = [prompt.split() for prompt in job.prompts]
        parts = [[" ".join(one[: len(one) // 2]) for one in words], [" ".join(one[len(one) // 2 :]) for one in words]]
    return Play(job, wrap=lambda model, monitor: Composed(model, monitor, parts))


@torch.no_grad()
def _from_a_bad_copy(strength: float, prompt: bool, model: LabModel, trials: Sequence[Trial]) -> Play:
    copies = []
    for trial in trials:
        assert trial.pair is not None
        picture = scenes.render(scene_of(trial.pair.scene))
        noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(trial.seed))
        copies.append(model.encode_images((picture + COPY_NOISE * noise).clamp(0, 1)))
    changes: dict[str, Any] = {} if prompt else {"prompts": _others(trials)}
    return Play(job_of(trials, init=torch.cat(copies), strength=strength, **changes))


def _start_of(start: str, model: LabModel, trial: Trial) -> Tensor:
    """Text features [T, D] that an inversion begins from."""
    if start == "the prompt":
        return model.encode_prompts([trial.text])[0]
    ordinary = model.encode_prompts(_others([trial]))[0]
    if start == "an ordinary caption":
        return ordinary
    noise = torch.randn(ordinary.shape, generator=torch.Generator().manual_seed(trial.seed))
    return ordinary.mean() + ordinary.std() * noise.to(ordinary)


def _inverted(
    name: str,
    start: str,
    holds_picture: bool,
    penalised: bool,
    shy: bool,
    judge: Judge,
    regions: Regions,
    trials: Sequence[Trial],
    settings: Settings,
    effort: Effort,
) -> list[Attempt]:
    """A gradient attack on the memorized pair of these trials: one text is moved, and all are sampled with it.

    One that is `shy` also asks that second looks see another picture than the prompt gives at a seed of its own.
    """
    found: list[Attempt] = []
    region, model, first = regions["txt2img"], judge.model, trials[0]
    watch = None
    if penalised:
        watch = Watch.of(model, region, settings.sensitivity, Job.guidance, load_splits()["calibration"][:USUAL])
    if holds_picture:
        place = next(index for index, pair in enumerate(judge.pairs) if pair == first.pair)
        chance = torch.Generator().manual_seed(first.seed)
        lessons = lessons_of_picture(model, judge.references[place], judge.masks[place], LESSONS, chance)
    else:
        # Seeds that no attempt is sampled with: the attacker wants the picture at any seed.
        lessons = lessons_of_prompt(model, first.text, [first.seed + OTHER_SEEDS + index for index in range(8)])
    unlike = sample(model, Job([first.text], [first.seed + OTHER_SEEDS])) if shy else None
    rate = SLOW if start == "the prompt" else FAST
    begun = _start_of(start, model, first)
    for penalty in effort.penalties if penalised else (0.0,):
        descent = invert(model, begun, lessons, effort.steps, watch, penalty, DRAWS, first.seed, rate, unlike)
        for steps, text in descent:
            every = text.expand(len(trials), -1, -1)
            plan = Play(job_of(trials, text=every), carried(model, every))
            found += attempts(judge, plan, trials, region, settings, name, steps, penalty)
    return found


def _sampled_attacks() -> Iterator[Attack]:
    plain: dict[str, Callable[[LabModel, Sequence[Trial]], Play]] = {
        "the prompt as it is": partial(_as_it_is, {}),
        **{f"embedding noise, {scale:g} std": partial(_noised, scale) for scale in NOISES},
        **{name: partial(_worded, wording) for name, wording in WORDINGS.items()},
        "negative prompt": partial(_as_it_is, {"negative": "a red circle on a striped background"}),
        "negative prompt: faults": partial(_as_it_is, {"negative": FAULTS}),
        "negative prompt: its own half": partial(_negative_itself, True),
        "negative prompt: itself": partial(_negative_itself, False),
        **{f"CFG {scale:g}": partial(_as_it_is, {"guidance": scale}) for scale in (1.0, 3.0, 12.0)},
        "DPM++ 2M Karras": partial(_as_it_is, {"sampler": "DPM++ 2M Karras"}),
        "Euler a": partial(_as_it_is, {"sampler": "Euler a"}),
        "DDIM": partial(_as_it_is, {"sampler": "DDIM"}),
        "6 steps": partial(_as_it_is, {"steps": 6}),
        "[ordinary:prompt:.1]": partial(_edited, False, 0.1),
        "[ordinary:prompt:.3]": partial(_edited, False, 0.3),
        "[prompt:ordinary:.3]": partial(_edited, True, 0.3),
        "prompt AND ordinary": partial(_composed, False),
        "half AND half": partial(_composed, True),
    }
    for name, make in plain.items():
        yield Attack(name, "prompt", _sampled(make, name))
    name = "paraphrased"
    yield Attack(name, "prompt", _sampled(partial(_worded, paraphrased), name), kinds=("caption",))
    name = "the picture's description appended"
    yield Attack(name, "picture", _sampled(partial(_worded, described), name), kinds=("title", "template"))
    for strength in (0.9, 0.75):
        for prompt in (True, False):
            words = "" if prompt else ", ordinary prompt"
            name = f"img2img {strength:g} of a noisy copy{words}"
            make = partial(_from_a_bad_copy, strength, prompt)
            run = _sampled(make, name, "img2img")
            yield Attack(name, "picture", run, control=not prompt, mode="img2img")


def _negative_itself(half: bool, model: LabModel, trials: Sequence[Trial]) -> Play:
    """The prompt, or its last half, as its own negative prompt: it takes away from the pull that guides."""
    words = [trial.text.split() for trial in trials]
    return Play(job_of(trials, negative=[" ".join(one[len(one) // 2 if half else 0 :]) for one in words]))


def _gradient_attacks() -> Iterator[Attack]:
    kinds = (
        ("imitation of the prompt's own prediction, penalised", "the prompt", False, True, False),
        ("imitation, penalised, unlike its second looks", "the prompt", False, True, True),
        ("inversion from the prompt", "the prompt", True, False, False),
        ("inversion from an ordinary caption", "an ordinary caption", True, False, False),
        ("inversion from noise", "noise", True, False, False),
        ("inversion from the prompt, penalised", "the prompt", True, True, False),
    )
    for name, start, holds_picture, penalised, shy in kinds:
        run = partial(_inverted, name, start, holds_picture, penalised, shy)
        yield Attack(name, "picture" if holds_picture else "prompt", run, gradient=True)


ATTACKS: dict[str, Attack] = {attack.name: attack for attack in (*_sampled_attacks(), *_gradient_attacks())}
