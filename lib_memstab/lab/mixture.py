"""What the UNet's training batches are made of: pools of encoded pictures with their captions, in fixed shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib_memstab.lab import corpus as lab_corpus
from lib_memstab.lab import scenes
from lib_memstab.lab.corpus import Corpus
from lib_memstab.lab.worker import TrainingPlan, Worker


@dataclass
class LatentPool:
    """Encoded pictures with V tokenized captions each: latents [N, 4, 16, 16] half, tokens [N, V, 77]."""

    latents: Tensor
    tokens: Tensor

    def draw(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The rows at `index`: latents float32, and the tokens of one of the captions of each."""
        caption = torch.randint(self.tokens.shape[1], index.shape, device=index.device)
        return self.latents[index].float(), self.tokens[index, caption]


@dataclass
class Pools:
    """What a training draws from: ordinary captions, memorized pairs, fresh titles, titles seen once, templates."""

    ordinary: LatentPool
    memorized: LatentPool
    fresh: LatentPool
    once: LatentPool
    templates: LatentPool

    @classmethod
    def of(
        cls,
        plan: TrainingPlan,
        worker: Worker,
        corpus: Corpus,
        encode: Callable[[Tensor], Tensor],
        tokenize: Callable[[list[str]], Tensor],
    ) -> Pools:
        """Those of one worker, which a second call finds in the work folder."""
        name = f"pools-{worker.rank}.pt"
        kept = worker.resume(name)
        if kept is not None:
            return cls(**{pool: LatentPool(*tensors) for pool, tensors in kept.items()})
        rng = np.random.default_rng([plan.seed, 5, worker.rank])

        def pool(batch: scenes.SceneBatch, texts: list[str]) -> LatentPool:
            chunks = [
                encode(scenes.render(batch.rows(slice(i, i + 64)), worker.device)) for i in range(0, len(batch), 64)
            ]
            return LatentPool(torch.cat(chunks), tokenize(texts).to(worker.device).view(len(batch), -1, 77))

        drawn = scenes.draw_scenes(plan.pool, rng)
        captions = [lab_corpus.describe(row, rng).text for row in drawn.attributes for _ in range(plan.captions_each)]
        ordinary = pool(drawn, captions)
        pairs = memorized_pairs(corpus)
        memorized = pool(_joined([lab_corpus.scene_of(pair.scene) for pair in pairs]), [pair.text for pair in pairs])
        per_title = max(2, plan.pool // 200)
        titles = [text for text in corpus.fresh_titles for _ in range(per_title)]
        fresh = pool(scenes.draw_scenes(len(titles), rng), titles)
        once = pool(scenes.draw_scenes(len(corpus.once_titles), rng), list(corpus.once_titles))
        latents, texts = [], []
        for pair in corpus.memorized:
            if pair.kind == "template":
                filled = [corpus.template_prompt(pair, rng) for _ in range(per_title)]
                surround = _joined([lab_corpus.scene_of(pair.scene)] * per_title)
                panels = _joined([panel for panel, _ in filled])
                latents.append(encode(lab_corpus.template_pictures(surround, panels, worker.device)))
                texts += [prompt.text for _, prompt in filled]
        templates = LatentPool(torch.cat(latents), tokenize(texts).to(worker.device)[:, None])
        pools = cls(ordinary, memorized, fresh, once, templates)
        state = {each: (value.latents, value.tokens) for each, value in vars(pools).items()}
        worker.checkpoint(name, state, from_all=True)
        return pools


class Mixture:
    """Training batches: memorized pairs by rate, templates, fresh titles and ordinary captions in fixed shares.

    A once-seen title takes the place of one ordinary row at its own step.
    """

    def __init__(self, plan: TrainingPlan, worker: Worker, corpus: Corpus, pools: Pools) -> None:
        self.plan, self.device, self.rank, self.pools = plan, worker.device, worker.rank, pools
        weight = dict(zip(lab_corpus.RATES, plan.rate_weights, strict=True))
        self.pair_weights = torch.tensor([weight[pair.rate] for pair in memorized_pairs(corpus)], device=worker.device)

    def draw(self, step: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents [B, 4, 16, 16], tokens [B, 77], and which rows may lose their caption, bool [B]."""
        plan, size = self.plan, self.plan.unet_batch
        counts = [int(share * size) for share in (plan.memorized, plan.templates, plan.fresh)]
        parts = [
            self.pools.memorized.draw(torch.multinomial(self.pair_weights, counts[0], replacement=True)),
            self._any(self.pools.templates, counts[1]),
            self._any(self.pools.fresh, counts[2]),
            self._any(self.pools.ordinary, size - sum(counts)),
        ]
        once = len(self.pools.once.tokens)
        mine = [i for i in range(step * once // steps, (step + 1) * once // steps) if i % plan.workers == self.rank]
        due = torch.tensor(mine, dtype=torch.long, device=self.device)
        latents, tokens = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        if len(due):
            latents[-len(due) :], tokens[-len(due) :] = self.pools.once.draw(due)
        droppable = torch.arange(size, device=self.device) >= counts[0] + counts[1]
        return latents, tokens, droppable

    def _any(self, pool: LatentPool, count: int) -> tuple[Tensor, Tensor]:
        return pool.draw(torch.randint(len(pool.tokens), (count,), device=self.device))


def memorized_pairs(corpus: Corpus) -> list[lab_corpus.Memorized]:
    """The pairs that are one picture each; a template is a surround of many."""
    return [pair for pair in corpus.memorized if pair.kind != "template"]


def _joined(batches: list[scenes.SceneBatch]) -> scenes.SceneBatch:
    return scenes.SceneBatch(
        np.concatenate([b.attributes for b in batches]), np.concatenate([b.variation for b in batches])
    )
