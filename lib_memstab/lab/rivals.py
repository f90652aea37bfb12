"""Published mitigations on the lab model: what becomes of a trajectory that other methods have their way with.

They run on every image from the first evaluation on, as their authors use them; none looks for a replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lib_memstab.core.evaluation import spread
from lib_memstab.lab.attention import masked, processed
from lib_memstab.lab.rival_detectors import rms
from lib_memstab.lab.sampling import Evaluate, Job
from lib_memstab.lab.sd1_layout import LabModel


class Mitigation:
    """Leaves everything as it is: no method. An object is for one batch.

    Attributes:
        extra: evaluations of the denoiser beside the sampler's own, [B]; None where there are none.
    """

    name: ClassVar[str] = "no method"
    extra: Tensor | None = None

    def prompts(self, model: LabModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """The prompts to sample in place of these."""
        return list(prompts)

    def sampling(self, model: LabModel, job: Job) -> AbstractContextManager[None]:
        """What is changed of the model while this batch is sampled."""
        return nullcontext()

    def condition(self, text: Tensor) -> Tensor:
        """The text as it is."""
        return text

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """Noise prediction to go on with, [B, C, H, W]."""
        return eps


class NoGuidance(Mitigation):
    """The unconditional prediction at every evaluation."""

    name = "guidance off"

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """The prediction without the prompt."""
        return eps_uncond


class HeldBack(Mitigation):
    """No guidance until the transition point, then full guidance (Jain et al. 2025).

    The dynamic transition point is where the guidance term's size passes its first local minimum. `before` is the
    guidance until then: 0, or negative for "opposite guidance".
    """

    name = "held back to the transition point (Jain 2025)"
    before: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self._size: Tensor | None = None
        self._falling: Tensor | None = None
        self._passed: Tensor | None = None

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """The held-back prediction of images that have not passed their transition point, the guided one of others."""
        delta = eps_cond - eps_uncond
        size = delta.float().flatten(1).norm(dim=1)
        if self._size is None or self._falling is None or self._passed is None:
            self._falling = torch.zeros_like(size, dtype=torch.bool)
            self._passed = torch.zeros_like(size, dtype=torch.bool)
        else:
            self._passed = self._passed | (self._falling & (size > self._size))
            self._falling = size < self._size
        self._size = size
        return torch.where(spread(self._passed, eps) > 0, eps, eps_uncond + self.before * delta)


class Opposite(HeldBack):
    """Guidance away from the prompt until the transition point, then full guidance (Jain et al. 2025)."""

    name = "opposite guidance to the transition point (Jain 2025)"
    before = -1.0


class RandomTokens(Mitigation):
    """Random words at random places of the prompt (Somepalli et al. 2023, "Understanding and Mitigating Copying").

    Their "random token addition" at inference, with the four words of their script. A word is one entry of the
    tokenizer's vocabulary; entries that are no letters, of which SD 1.4's vocabulary has few and the lab's a third, are
    left out. Drawn by the image's seed, so that the same words come again.
    """

    name = "random tokens (Somepalli 2023)"
    COUNT: ClassVar[int] = 4

    def prompts(self, model: LabModel, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Each prompt with the words inserted; its own keep their order."""
        decoded = (model.tokenizer.decode([token]).strip() for token in range(model.config.vocab_size - 2))
        words = [word for word in decoded if len(word) > 1 and word.isalpha() and word.isascii()]
        return [self._inserted(text, words, seed) for text, seed in zip(prompts, seeds, strict=True)]

    def _inserted(self, text: str, words: Sequence[str], seed: int) -> str:
        rng, told = np.random.default_rng(seed), text.split(" ")
        for _ in range(self.COUNT):
            told.insert(int(rng.integers(len(told) + 1)), words[int(rng.integers(len(words)))])
        return " ".join(told)


class MaskedPadding(Mitigation):
    """Cross-attention that cannot read the padding, and reads the begin mark more (Ren et al. 2024).

    The authors' command for SD 1.4: the padding is masked in both rows of the guidance, by the prompt's length; the
    begin mark's logits are multiplied by 1.25 in the prompt's row. Nothing was chosen for the lab model.
    """

    name = "padding masked (Ren 2024)"
    BEGIN: ClassVar[float] = 1.25
    end: ClassVar[int] = 1
    """How many end marks can still be read."""

    def sampling(self, model: LabModel, job: Job) -> AbstractContextManager[None]:
        """The masked cross-attention, of rows with the prompt and then rows without."""
        _, ends = model.tokenize(job.prompts)
        visible = torch.arange(model.config.text_positions, device=ends.device)[None] < (ends + self.end)[:, None]
        begin = torch.full_like(ends, self.BEGIN, dtype=torch.float32)
        return processed(model.unet, masked(visible.repeat(2, 1), torch.cat([begin, torch.ones_like(begin)])))


class MaskedEnd(MaskedPadding):
    """The same with the end mark masked as well, which the authors' program has an option for (Ren et al. 2024)."""

    name = "end and padding masked (Ren 2024)"
    end = 0


class AdjustedPrompt(Mitigation):
    """The prompt's features moved until the guidance term is small at the first step (Wen et al. 2024).

    Steps on the features as the authors take them: AdamW at a rate of 0.05, whose decay alone moves the begin mark, ten
    at most, and none once the size is below the target. They set the target by hand, in the size of SD 1.4's latents;
    here it is the usual size of the lab model (`rivalry.usual_size`). The features of an image that is below it from
    the start stay as they are. An evaluation with gradients counts as one.
    """

    name = "prompt adjusted (Wen 2024)"
    RATE: ClassVar[float] = 0.05
    STEPS: ClassVar[int] = 10

    def __init__(self, target: float) -> None:
        self.target = target
        self._guidance = 1.0
        self._text: Tensor | None = None
        self._settled = False

    def sampling(self, model: LabModel, job: Job) -> AbstractContextManager[None]:
        """Nothing is changed."""
        self._guidance = job.guidance
        return nullcontext()

    def condition(self, text: Tensor) -> Tensor:
        """The text as it is, and as it was adjusted from the second evaluation on."""
        if self._text is None:
            self._text = text
        return self._text

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """At the first evaluation the prediction of the adjusted text, after that the prediction as it is."""
        if self._settled:
            return eps
        self._settled = True
        small = rms(eps_cond - eps_uncond) <= self.target
        cond = self._adjust(x, sigma, eps_uncond, small, evaluate)
        return torch.where(spread(small, eps) > 0, eps, eps_uncond + self._guidance * (cond - eps_uncond))

    @torch.enable_grad()
    def _adjust(self, x: Tensor, sigma: Tensor, eps_uncond: Tensor, small: Tensor, evaluate: Evaluate) -> Tensor:
        """Settle the text of images that are not `small` [B] yet; their predictions with it [B, C, h, w]."""
        assert self._text is not None
        done, self.extra = small.clone(), torch.zeros_like(sigma)
        text = self._text.detach().clone().requires_grad_()
        settled, found = self._text.clone(), torch.zeros_like(eps_uncond)
        optimizer = torch.optim.AdamW([text], lr=self.RATE)
        for step in range(self.STEPS + 1):
            if done.all():
                break
            cond = evaluate(x, sigma, text)
            size = rms(cond - eps_uncond)
            self.extra += ~done
            now = ~done & ((size <= self.target) | (step == self.STEPS))
            settled[now], found[now] = text.detach()[now], cond.detach()[now]
            done = done | now
            (text.grad,) = torch.autograd.grad(size.sum(), text)
            text.grad[:, 0] = 0
            optimizer.step()
        self._text = settled
        return found


MITIGATIONS: tuple[type[Mitigation], ...] = (NoGuidance, HeldBack, Opposite, MaskedPadding, MaskedEnd, RandomTokens)
"""Those that need nothing but the model; `AdjustedPrompt` is given its target."""
