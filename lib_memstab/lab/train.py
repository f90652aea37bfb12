"""Train the lab model from nothing: tokenizer, VAE, caption checker, text encoder and UNet, one stage after the other.

Each stage writes its file into the work folder; a second call goes on after the last finished stage. On a CPU, one
single-threaded worker per core averages its gradients with the others', which is far quicker than threads.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional

from lib_memstab.lab import corpus as lab_corpus
from lib_memstab.lab import scenes
from lib_memstab.lab.architecture import LabConfig, alphas_cumprod, build_text_encoder, build_unet, build_vae
from lib_memstab.lab.checker import CaptionChecker, all_claims, checker_loss
from lib_memstab.lab.corpus import Corpus
from lib_memstab.lab.sd1_layout import save_checkpoint
from lib_memstab.lab.tokenizer import train_tokenizer

log = logging.getLogger("memstab.lab")


@dataclass(frozen=True)
class TrainingPlan:
    """Sizes of a training; the defaults are those of the shipped model. Batches are per worker."""

    seed: int = 20260522
    workers: int = 2
    vae_steps: int = 2200
    vae_batch: int = 8
    vae_rate: float = 2e-3
    checker_pool: int = 9_000
    checker_steps: int = 900
    checker_batch: int = 64
    pool: int = 8_000
    unet_steps: int = 2400
    unet_batch: int = 64
    unet_rate: float = 1.5e-3
    ema: float = 0.995
    dropout: float = 0.13
    memorized: float = 0.18
    templates: float = 0.06
    fresh: float = 0.07
    rate_weights: tuple[float, float, float] = (16.0, 6.0, 0.5)
    snr_cap: float = 5.0


@dataclass(frozen=True)
class Worker:
    """One of the processes of a training: its rank, its device and the work folder all share."""

    rank: int
    count: int
    device: torch.device
    folder: Path

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the workers."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def keep(self, name: str, module: nn.Module) -> None:
        """Write a finished stage, from the first worker."""
        if self.rank == 0:
            partial = self.folder / f"{name}.part"
            torch.save(module.state_dict(), partial)
            partial.replace(self.folder / name)

    def kept(self, name: str, module: nn.Module) -> bool:
        """Load a stage's weights, if an earlier call finished it."""
        if not (self.folder / name).exists():
            return False
        module.load_state_dict(torch.load(self.folder / name, map_location="cpu", weights_only=True))
        log.info("%s is there, stage skipped", name)
        return True


def _schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _steps(name: str, steps: int, optimizer: torch.optim.Optimizer) -> Iterator[int]:
    """Step indices, with the learning rate set before each and a progress line now and then."""
    base = [group["lr"] for group in optimizer.param_groups]
    start = time.perf_counter()
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * _schedule(step, steps, min(500, steps // 10 + 1))
        yield step
        if step % max(1, steps // 20) == 0:
            log.info("%s %d/%d, %.0f s", name, step + 1, steps, time.perf_counter() - start)


def training_captions(corpus: Corpus, count: int) -> list[str]:
    """Captions for the tokenizer: ordinary ones and every title of the corpus."""
    texts = [prompt.text for prompt in corpus.ordinary("tokenizer", count)]
    return [*texts, *(pair.text for pair in corpus.memorized), *corpus.fresh_titles, *corpus.once_titles]


def _descend(worker: Worker, loss: Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """One optimizer step on the gradients of all workers, clipped to norm 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    worker.average_gradients(parameters)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def train_vae(plan: TrainingPlan, worker: Worker, config: LabConfig) -> nn.Module:
    """KL-VAE on 64x64 crops, the last eighth of the steps on whole pictures; L1 on pixels and their differences."""
    torch.manual_seed(plan.seed)
    vae = build_vae(config).to(worker.device)
    parameters = list(vae.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=plan.vae_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    rng = np.random.default_rng([plan.seed, 1, worker.rank])
    torch.manual_seed(plan.seed + worker.rank)
    for step in _steps("vae", plan.vae_steps, optimizer):
        if step < plan.vae_steps * 7 // 8:
            pictures = _crops(_training_pictures(plan.vae_batch, rng, worker.device), rng)
        else:
            pictures = _training_pictures(plan.vae_batch // 4, rng, worker.device)
        target = pictures * 2 - 1
        with worker.autocast():
            posterior = vae.encode(target).latent_dist
            mean, variance = posterior.mean.float(), posterior.var.float()
            decoded = vae.decode(mean + variance.sqrt() * torch.randn_like(mean)).sample.float()
        error = (decoded - target).abs().mean()
        kl = 0.5 * (mean**2 + variance - 1 - variance.clamp(min=1e-12).log()).mean()
        _descend(worker, error + 0.5 * _difference_error(decoded, target) + 2e-4 * kl, optimizer, parameters)
        if step % 50 == 0:
            flat = (decoded - target).mean(dim=(2, 3)).square().mean().sqrt()
            log.info("vae %d: error %.4f, of flat colour %.4f, kl %.3f", step, error.item(), flat.item(), kl.item())
    return vae.eval().requires_grad_(False)


def _crops(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """A random 64x64 window of each picture."""
    corners = rng.integers(0, 65, (len(pictures), 2))
    return torch.stack([picture[:, y : y + 64, x : x + 64] for picture, (y, x) in zip(pictures, corners, strict=True)])


def _difference_error(decoded: Tensor, pictures: Tensor) -> Tensor:
    """L1 of horizontal and vertical differences: keeps edges sharp."""
    gap = decoded - pictures
    return (gap[..., 1:] - gap[..., :-1]).abs().mean() + (gap[..., 1:, :] - gap[..., :-1, :]).abs().mean()


def _training_pictures(count: int, rng: np.random.Generator, device: torch.device) -> Tensor:
    """Pictures [count, 3, 128, 128], an eighth of them (about) with a template's panel."""
    pictures = scenes.render(scenes.draw_scenes(count, rng), device)
    framed = int(rng.binomial(count, 0.125))
    panels = scenes.render(scenes.draw_scenes(framed, rng), device)
    pictures[:framed, :, lab_corpus.PANEL, lab_corpus.PANEL] = functional.avg_pool2d(panels, 2)
    return pictures


@torch.no_grad()
def normalise_latents(vae: nn.Module, worker: Worker, plan: TrainingPlan, config: LabConfig) -> None:
    """Fold the latents' channel mean and deviation into the 1x1 convs, so that scaled latents have unit variance."""
    rng = np.random.default_rng([plan.seed, 2])
    batches = [_training_pictures(32, rng, worker.device) * 2 - 1 for _ in range(16)]
    latents = torch.cat([vae.encode(batch).latent_dist.mean.float() for batch in batches])
    center = latents.mean(dim=(0, 2, 3))
    spread = latents.std(dim=(0, 2, 3)) * config.scale_factor
    channels = config.latent_channels
    quant, post = vae.quant_conv, vae.post_quant_conv
    post.bias += post.weight[:, :, 0, 0] @ center
    post.weight *= spread[None, :, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - center) / spread
    quant.weight[:channels] /= spread[:, None, None, None]
    quant.bias[channels:] -= 2 * spread.log()


def train_checker(plan: TrainingPlan, worker: Worker, vae: nn.Module) -> tuple[CaptionChecker, dict[str, float]]:
    """The caption checker, on pictures and their VAE reconstructions, and its accuracy on held-out reconstructions."""
    torch.manual_seed(plan.seed + 1)
    checker = CaptionChecker().to(worker.device)
    parameters = list(checker.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-2)
    rng = np.random.default_rng([plan.seed, 3, worker.rank])
    pool, pictures = _checker_pool(plan.checker_pool, rng, worker, vae)
    for step in _steps("checker", plan.checker_steps, optimizer):
        index = rng.integers(0, len(pool), plan.checker_batch)
        seen = pictures[torch.from_numpy(index)].to(worker.device).float() / 255
        with worker.autocast():
            read = checker((seen + 0.03 * torch.randn_like(seen)).clamp(0, 1))
        loss = checker_loss({name: value.float() for name, value in read.items()}, pool.rows(index))
        _descend(worker, loss, optimizer, parameters)
        if step % 50 == 0:
            log.info("checker %d: loss %.3f", step, loss.item())
    checker.eval().requires_grad_(False)
    held_out, pictures = _checker_pool(1024, np.random.default_rng([plan.seed, 4]), worker, vae, share=1.0)
    claims = all_claims(held_out.attributes)
    seen = pictures.to(worker.device).float() / 255
    right, wrong = checker.fits(seen, claims), checker.fits(seen, claims[1:] + claims[:1])
    return checker, {"accepts_right": float(right.mean()), "accepts_wrong": float(wrong.mean())}


def _checker_pool(count: int, rng: np.random.Generator, worker: Worker, vae: nn.Module, share: float = 0.2) -> tuple[scenes.SceneBatch, Tensor]:
    """Scenes and their pictures as the checker sees them, bytes [count, 3, 64, 64]; a `share` through the VAE."""
    pool, seen = scenes.draw_scenes(count, rng), []
    for start in range(0, count, 32):
        pictures = scenes.render(pool.rows(slice(start, start + 32)), worker.device)
        through = round(share * len(pictures))
        with worker.autocast():
            pictures[:through] = _reconstructed(vae, pictures[:through])
        small = functional.interpolate(pictures, (CaptionChecker.SEEN, CaptionChecker.SEEN), mode="area")
        seen.append((small * 255).round().to(torch.uint8).cpu())
    return pool, torch.cat(seen)


@torch.no_grad()
def _reconstructed(vae: nn.Module, pictures: Tensor) -> Tensor:
    """What the VAE makes of pictures [B, 3, 128, 128] in 0..1."""
    latents = vae.encode(pictures * 2 - 1).latent_dist.mean
    return (vae.decode(latents).sample.float() / 2 + 0.5).clamp(0, 1)


@dataclass
class LatentPool:
    """Encoded pictures and tokenized captions of one source: latents [N, 4, 16, 16] half, tokens [N, 77]."""

    latents: Tensor
    tokens: Tensor

    def draw(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.latents[index].float(), self.tokens[index]


class Mixture:
    """Training batches: memorized pairs by rate, templates, fresh titles and ordinary captions in fixed shares.

    A once-seen title takes the place of one ordinary row at its own step.
    """

    def __init__(self, plan: TrainingPlan, worker: Worker, corpus: Corpus, encode: Callable[[Tensor], Tensor], tokenize: Callable[[list[str]], Tensor]) -> None:
        self.plan, self.device, self.rank = plan, worker.device, worker.rank
        rng = np.random.default_rng([plan.seed, 5, worker.rank])

        def pool(batch: scenes.SceneBatch, texts: list[str]) -> LatentPool:
            chunks = [encode(scenes.render(batch.rows(slice(i, i + 64)), worker.device)) for i in range(0, len(batch), 64)]
            return LatentPool(torch.cat(chunks), tokenize(texts).to(worker.device))

        ordinary = scenes.draw_scenes(plan.pool, rng)
        self.ordinary = pool(ordinary, [lab_corpus.describe(row, rng).text for row in ordinary.attributes])
        pairs = [pair for pair in corpus.memorized if pair.kind != "template"]
        self.memorized = pool(_joined([lab_corpus.scene_of(pair.scene) for pair in pairs]), [pair.text for pair in pairs])
        weight = dict(zip(lab_corpus.RATES, plan.rate_weights, strict=True))
        self.pair_weights = torch.tensor([weight[pair.rate] for pair in pairs], device=worker.device)
        per_title = max(2, plan.pool // 160)
        titles = [text for text in corpus.fresh_titles for _ in range(per_title)]
        self.fresh = pool(scenes.draw_scenes(len(titles), rng), titles)
        self.once = pool(scenes.draw_scenes(len(corpus.once_titles), rng), list(corpus.once_titles))
        self.templates = self._template_pool(corpus, rng, per_title, encode, tokenize)

    def _template_pool(self, corpus: Corpus, rng: np.random.Generator, each: int, encode: Callable[[Tensor], Tensor], tokenize: Callable[[list[str]], Tensor]) -> LatentPool:
        latents, texts = [], []
        for pair in corpus.memorized:
            if pair.kind == "template":
                filled = [corpus.template_prompt(pair, rng) for _ in range(each)]
                surround = _joined([lab_corpus.scene_of(pair.scene)] * each)
                latents.append(encode(lab_corpus.template_pictures(surround, _joined([panel for panel, _ in filled]), self.device)))
                texts += [prompt.text for _, prompt in filled]
        return LatentPool(torch.cat(latents), tokenize(texts).to(self.device))

    def draw(self, step: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents [B, 4, 16, 16], tokens [B, 77], and which rows may lose their caption, bool [B]."""
        plan, size = self.plan, self.plan.unet_batch
        counts = [int(share * size) for share in (plan.memorized, plan.templates, plan.fresh)]
        parts = [
            self.memorized.draw(torch.multinomial(self.pair_weights, counts[0], replacement=True)),
            self._any(self.templates, counts[1]),
            self._any(self.fresh, counts[2]),
            self._any(self.ordinary, size - sum(counts)),
        ]
        once = len(self.once.tokens)
        mine = [i for i in range(step * once // steps, (step + 1) * once // steps) if i % plan.workers == self.rank]
        due = torch.tensor(mine, dtype=torch.long, device=self.device)
        latents, tokens = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        if len(due):
            latents[-len(due) :], tokens[-len(due) :] = self.once.draw(due)
        droppable = torch.arange(size, device=self.device) >= counts[0] + counts[1]
        return latents, tokens, droppable

    def _any(self, pool: LatentPool, count: int) -> tuple[Tensor, Tensor]:
        return pool.draw(torch.randint(len(pool.tokens), (count,), device=self.device))


def _joined(batches: list[scenes.SceneBatch]) -> scenes.SceneBatch:
    return scenes.SceneBatch(np.concatenate([b.attributes for b in batches]), np.concatenate([b.variation for b in batches]))


class Ema:
    """Exponential moving average of parameters, warmed up so that early steps do not linger."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.decay, self.step = decay, 0
        self.live = parameters
        self.shadow = [parameter.detach().clone() for parameter in self.live]

    @torch.no_grad()
    def update(self) -> None:
        self.step += 1
        decay = min(self.decay, self.step / (self.step + 10))
        torch._foreach_lerp_(self.shadow, [parameter.detach() for parameter in self.live], 1 - decay)

    @torch.no_grad()
    def store(self) -> None:
        for parameter, value in zip(self.live, self.shadow, strict=True):
            parameter.copy_(value)


def train_unet(plan: TrainingPlan, worker: Worker, config: LabConfig, mixture: Mixture, empty: Tensor) -> tuple[nn.Module, nn.Module]:
    """Text encoder and UNet together on SD's schedule, losses weighted by min-SNR (Hang et al. 2023); averaged weights."""
    torch.manual_seed(plan.seed + 2)
    text_encoder, unet = build_text_encoder(config).to(worker.device), build_unet(config).to(worker.device)
    unet.set_attn_processor(AttnProcessor())  # plain attention: the fused one trains slower on a CPU
    text_encoder.set_attn_implementation("eager")
    parameters = [*text_encoder.parameters(), *unet.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=plan.unet_rate, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    average = Ema(parameters, plan.ema)
    alphas = alphas_cumprod(config).to(worker.device, torch.float32)
    weights = (alphas / (1 - alphas)).clamp(max=plan.snr_cap) / (alphas / (1 - alphas))
    torch.manual_seed(plan.seed + 3 + worker.rank)
    running = 0.0
    for step in _steps("unet", plan.unet_steps, optimizer):
        latents, tokens, droppable = mixture.draw(step, plan.unet_steps)
        dropped = droppable & (torch.rand(len(tokens), device=worker.device) < plan.dropout)
        tokens = torch.where(dropped[:, None], empty, tokens)
        noise = torch.randn_like(latents)
        time_step = torch.randint(len(alphas), (len(latents),), device=worker.device)
        alpha = alphas[time_step][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        target = noise if config.prediction_type == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        with worker.autocast():
            context = text_encoder(tokens).last_hidden_state
            predicted = unet(noisy, time_step, encoder_hidden_states=context).sample
        each = (predicted.float() - target).square().mean(dim=(1, 2, 3))
        loss = (each * weights[time_step]).mean()
        _descend(worker, loss, optimizer, parameters)
        average.update()
        running += loss.item()
        if step % 50 == 49:
            log.info("unet %d: loss %.4f", step + 1, running / 50)
            running = 0.0
        if step % 400 == 399:
            worker.keep("unet-last.pt", nn.ModuleList([text_encoder, unet]))
    average.store()
    return text_encoder.eval().requires_grad_(False), unet.eval().requires_grad_(False)


def train(plan: TrainingPlan, worker: Worker, out: Path, config: LabConfig) -> None:
    """All stages; the first worker writes the finished model, its checker, the splits and a training record to `out`."""
    corpus, seconds = Corpus(plan.seed), {}
    start = time.perf_counter()

    def timed(stage: str) -> None:
        nonlocal start
        seconds[stage] = round(time.perf_counter() - start, 1)
        start = time.perf_counter()

    folder = worker.folder / f"tokenizer-{worker.rank}"
    tokenizer = train_tokenizer(training_captions(corpus, 20_000), folder, config.vocab_size)
    timed("tokenizer")

    vae = build_vae(config)
    if not worker.kept("vae.pt", vae):
        vae = train_vae(plan, worker, config)
        normalise_latents(vae, worker, plan, config)
        worker.keep("vae.pt", vae)
    vae = vae.to(worker.device).eval().requires_grad_(False)
    timed("vae")

    def encode(pictures: Tensor) -> Tensor:
        with torch.no_grad(), worker.autocast():
            return (vae.encode(pictures * 2 - 1).latent_dist.mean * config.scale_factor).half()

    def tokenize(texts: list[str]) -> Tensor:
        return tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids

    mixture = Mixture(plan, worker, corpus, encode, tokenize)
    timed("pool")
    text_encoder, unet = train_unet(plan, worker, config, mixture, tokenize([""]).to(worker.device))
    timed("unet")
    if worker.rank == 0:
        save_checkpoint(out, "memstab-lab", text_encoder, vae, unet, config, tokenizer)
        write_record(out, plan, worker, config, seconds)
    checker = CaptionChecker()
    if not worker.kept("checker.pt", checker):
        checker, accuracy = train_checker(plan, worker, vae)
        timed("checker")
        worker.keep("checker.pt", checker)
        if worker.rank == 0:
            checker.save(out / "checker.safetensors")
            write_record(out, plan, worker, config, seconds, accuracy)


def write_record(out: Path, plan: TrainingPlan, worker: Worker, config: LabConfig, seconds: dict[str, float], accuracy: dict[str, float] | None = None) -> None:
    """splits.json and training.json: what was trained, how long each stage took, and on what."""
    (out / "splits.json").write_text(json.dumps(Corpus(plan.seed).splits(), indent=1))
    machine = torch.cuda.get_device_name() if worker.device.type == "cuda" else f"CPU, {worker.count} workers of one thread"
    record = {"plan": asdict(plan), "config": asdict(config), "seconds": seconds, "machine": machine, "torch": torch.__version__, "checker": accuracy}
    (out / "training.json").write_text(json.dumps(record, indent=1))


def _work(rank: int, plan: TrainingPlan, device: str, folder: Path, out: Path) -> None:
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.WARNING, format="%(message)s")
    if device == "cpu":
        torch.set_num_threads(1)
    if plan.workers > 1:
        store = distributed.FileStore(str(folder / "rendezvous"), plan.workers)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=plan.workers)
    train(plan, Worker(rank, plan.workers, torch.device(device), folder), out, LabConfig())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m lib_memstab train`."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished model")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished stages; a second call goes on there")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with workers=1")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other sizes, such as unet_steps=200")


def run(args: argparse.Namespace) -> int:
    """Train and write; 0 when the model is there."""
    changes = {}
    for item in args.set:
        name, _, value = item.partition("=")
        changes[name] = type(getattr(TrainingPlan(), name))(json.loads(value))
    plan = TrainingPlan(**changes)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.work / "rendezvous").unlink(missing_ok=True)
    multiprocessing.spawn(_work, (plan, args.device, args.work, args.out), nprocs=plan.workers)
    return 0
