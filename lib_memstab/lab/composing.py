"""Prompts that change while sampling, `[a:b:n]`, and prompts of several parts, `a AND b`, as the WebUI samples them.

Each is a watcher around a monitor: the lab's sampler has one text for an image, so the others are brought here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lib_memstab.core.measurement import measure
from lib_memstab.core.monitor import Monitor
from lib_memstab.core.second_look import Of
from lib_memstab.lab.experiment import text_rows
from lib_memstab.lab.sampling import Evaluate
from lib_memstab.lab.sd1_layout import LabModel


class Edited:
    """`[a:b:n]`: the first of two texts for each image in the first `until` evaluations, the other afterwards.

    Evaluations are steps only with samplers of one evaluation a step.
    """

    def __init__(
        self, model: LabModel, monitor: Monitor, texts: tuple[Sequence[str], Sequence[str]], until: int
    ) -> None:
        self.monitor, self.until, self.done = monitor, until, 0
        self._texts = [model.encode_prompts(list(prompts)) for prompts in texts]
        self._rows = [text_rows(model, prompts) for prompts in texts]

    def condition(self, text: Tensor) -> Tensor:
        """The text of now, as the monitor leaves it."""
        now = int(self.done >= self.until)
        self.monitor.rows = self._rows[now]
        return self.monitor.condition(self._texts[now])

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """As the monitor has it."""
        self.done += 1
        return self.monitor.evaluated(x, sigma, eps_cond, eps_uncond, eps, evaluate)


class Composed:
    """`a AND b`: each part pulls by itself and the pulls add up (Liu et al. 2022); judged as in the WebUI.

    `parts`: for each part the prompts of the batch's images. Its other parts cost one evaluation each.
    """

    def __init__(self, model: LabModel, monitor: Monitor, parts: Sequence[Sequence[str]]) -> None:
        self.monitor = monitor
        images, self._count = len(parts[0]), len(parts)
        flat = [part[image] for image in range(images) for part in parts]
        owner = torch.arange(images, device=model.device).repeat_interleave(self._count)
        self._texts = model.encode_prompts(flat)
        self._joined = model.encode_prompts([" ".join(own) for own in zip(*parts, strict=True)])
        monitor.rows = replace(text_rows(model, flat), owner=owner)
        self._empty = monitor.rows.empty
        self._now = self._texts

    def condition(self, text: Tensor) -> Tensor:
        """The first part's text; the others' are kept for `evaluated`."""
        self._now = self.monitor.condition(self._texts)
        return self._now[:: self._count]

    def evaluated(
        self, x: Tensor, sigma: Tensor, eps_cond: Tensor, eps_uncond: Tensor, eps: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """The parts added up, as the monitor leaves it."""
        others = [evaluate(x, sigma, self._now[part :: self._count]) for part in range(1, self._count)]
        parts = [eps_cond, *others]
        pull = torch.stack([one - eps_uncond for one in parts]).sum(0)
        hardest, which = torch.stack([measure(sigma, one, eps_uncond).update_norm() for one in parts]).max(0)
        return self.monitor.evaluated(
            x,
            sigma,
            eps_uncond + pull,
            eps_uncond,
            eps_uncond + self.monitor.guidance * pull,
            evaluate,
            judged=eps_uncond + pull / self._count,
            hardest=hardest,
            again=partial(self._again, evaluate, which),
        )

    def _again(
        self, evaluate: Evaluate, hardest: Tensor, images: Tensor, x: Tensor, sigma: Tensor, of: Of
    ) -> tuple[Tensor, Tensor]:
        """See `lib_memstab.core.second_look.Again`."""
        eps_uncond = evaluate(x, sigma, self._empty.expand(len(x), -1, -1))
        if of == "hardest part":
            return evaluate(x, sigma, self._now[images * self._count + hardest[images]]), eps_uncond
        if of == "one text":
            return evaluate(x, sigma, self._joined[images]), eps_uncond
        parts = [evaluate(x, sigma, self._now[part :: self._count][images]) for part in range(self._count)]
        return eps_uncond + torch.stack([one - eps_uncond for one in parts]).sum(0), eps_uncond
