"""A small invented model with ordinary prompts and replays, and a region that knows how alike its pictures are."""

from functools import cache
from itertools import pairwise

import numpy as np
import torch

from lib_memstab.core.calibration import Recorder, learn, with_likeness
from lib_memstab.core.evaluation import spread
from lib_memstab.core.likeness import likeness
from lib_memstab.core.measurement import measure
from lib_memstab.core.monitor import Monitor, Settings
from lib_memstab.core.region import Conditions
from lib_memstab.core.second_look import GUIDANCE, LEVELS
from lib_memstab.core.suppression import TextRows, Windows

SIGMAS = (*np.exp(np.linspace(np.log(14.6), np.log(0.03), 20)), 0.0)
SHAPE = (4, 16, 16)
SHARED = 0.3
"""Share of an ordinary prompt's picture that it gives whatever the noise is."""


def noise(*seeds):
    return torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


class Prompts:
    """A batch of prompts: how hard each pulls, whether it replays, and a number that makes it another prompt.

    The pictures of a prompt are around one of its own: an ordinary one gives another at each seed, that has little in
    common with the first; a replay gives the same. `fading`: how many times as hard it pulls above noise level 5.
    """

    def __init__(self, strengths, replays=None, numbers=None, fading=None):
        count = len(strengths)
        self.fading = torch.tensor([1.0] * count if fading is None else fading)
        self.strengths = torch.tensor([float(one) for one in strengths])
        self.replays = torch.tensor([False] * count if replays is None else replays)
        self.numbers = [*range(count)] if numbers is None else list(numbers)
        self.calls = []

    def __len__(self):
        return len(self.numbers)

    def some(self, places):
        strengths, replays, fading = (
            [one.tolist()[place] for place in places] for one in (self.strengths, self.replays, self.fading)
        )
        return Prompts(strengths, replays, [self.numbers[place] for place in places], fading)

    def picture(self, again):
        own, other = (
            noise(*(kind + number for number in self.numbers)) for kind in (10_000, 30_000 if again else 20_000)
        )
        found = torch.where(spread(self.replays, own) > 0, own, SHARED * own + (1 - SHARED**2) ** 0.5 * other)
        return spread(self.strengths, found) * found

    def predict(self, x, sigma, again=False, images=None):
        """Noise predictions with and without the prompt of Gaussian pictures around the prompt's, and around none."""
        images = torch.arange(len(self)) if images is None else images
        picture = self.picture(again)[images]
        picture = spread(torch.where(sigma > 5, self.fading[images], torch.ones_like(sigma)), x) * picture
        return tuple(spread(sigma / (1 + sigma**2), x) * (x - one) for one in (picture, torch.zeros_like(x)))

    def again(self, images, x, sigma, of="prompt"):
        self.calls.append(images.tolist())
        return self.predict(x, sigma, True, images)


def sample(prompts, watch, guidance=GUIDANCE, sigmas=SIGMAS):
    """Euler's method; `watch` is shown every evaluation and gives the prediction to go on with. Final latents."""
    x = sigmas[0] * noise(*(40_000 + number for number in prompts.numbers))
    for level, below in pairwise(sigmas):
        sigma = torch.full((len(prompts),), float(level))
        cond, uncond = prompts.predict(x, sigma)
        x = x + (below - level) * watch(x, sigma, cond, uncond, uncond + guidance * (cond - uncond))
    return x


def strengths_of(count, seed):
    return np.exp(np.random.default_rng(seed).normal(np.log(0.3), 0.1, count))


@cache
def learned(with_looks=True):
    """The region of 128 ordinary prompts, calibrated as a calibration does it."""
    recorder, prompts = Recorder(), Prompts(strengths_of(128, 1), numbers=range(1000, 1128))

    def watch(x, sigma, cond, uncond, eps):
        recorder.update(measure(sigma, cond, uncond))
        return eps

    latents = sample(prompts, watch)
    curves, starts = recorder.curves()
    conditions = [Conditions(GUIDANCE, round(float(one), 3)) for one in starts]
    region = learn(curves, conditions)
    if not with_looks:
        return region
    x = LEVELS[0] * noise(*range(50_000, 50_128))
    for level, below in zip(LEVELS, (*LEVELS[1:], 0.0), strict=True):
        cond, uncond = prompts.predict(x, torch.full((128,), level), True)
        x = x + (below - level) * (uncond + GUIDANCE * (cond - uncond))
    return with_likeness(region, conditions, likeness(latents, x).double().numpy())


def monitor(count, region=None, mode="detect", sensitivity=100.0, rule=Windows, calibrated=True):
    rows = TextRows(torch.zeros(1, 6, 5), torch.arange(6)[None].expand(count, -1) < 3)
    region = learned() if region is None else region
    return Monitor(region, Settings(mode, sensitivity), rule(), GUIDANCE, rows, calibrated=calibrated)


def watched(prompts, again="own", spoil=None, **settings):
    """What a monitor reports of these prompts, and their final latents; `again` None: the host cannot look twice."""
    watching, looks = monitor(len(prompts), **settings), prompts.again if again == "own" else again

    def watch(x, sigma, cond, uncond, eps):
        if spoil is not None:
            spoil(x, cond)
        return watching.evaluated(x, sigma, cond, uncond, eps, again=looks)

    return watching, sample(prompts, watch)


@cache
def strength_at(rate, number=0, replay=True, by="score"):
    """How hard a prompt has to pull for its score, or its reach, to be what one ordinary image in `rate` reaches."""
    tried = np.linspace(0.2, 1.0, 400)
    watching, _ = watched(Prompts(tried, [replay] * len(tried), [number] * len(tried)), again=None)
    scores = getattr(watching.detector, by).numpy()
    assert scores.min() < learned().threshold(rate) < scores.max()
    return float(np.interp(learned().threshold(rate), np.maximum.accumulate(scores), tried))
