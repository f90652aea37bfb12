"""The stages of a training: VAE, caption checker, and text encoder with UNet."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel

from lib_memstab.lab import corpus as lab_corpus
from lib_memstab.lab import scenes
from lib_memstab.lab.architecture import LabConfig, alphas_cumprod, build_text_encoder, build_unet, build_vae
from lib_memstab.lab.checker import CELLS, HEADS, LANDSCAPE_ONLY, CaptionChecker, all_claims, checker_loss
from lib_memstab.lab.mixture import Mixture
from lib_memstab.lab.scenes import ATTRIBUTES, COLORS, KINDS, SHAPES, SceneBatch, column, object_maps
from lib_memstab.lab.worker import Ema, TrainingPlan, Worker, descend, steps

log = logging.getLogger("memstab.lab")

STATE = "unet-state.pt"
SAVE_EVERY = 300


def train_vae(plan: TrainingPlan, worker: Worker, config: LabConfig) -> AutoencoderKL:
    """KL-VAE on 64x64 crops, the last eighth of the steps on whole pictures; L1 on pixels and their differences."""
    torch.manual_seed(plan.seed)
    vae = build_vae(config).to(worker.device)
    parameters = list(vae.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=plan.vae_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    rng = np.random.default_rng([plan.seed, 1, worker.rank])
    torch.manual_seed(plan.seed + worker.rank)
    for step in steps("vae", plan.vae_steps, optimizer):
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
        descend(worker, error + 0.5 * _difference_error(decoded, target) + 2e-4 * kl, optimizer, parameters)
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
def normalise_latents(vae: AutoencoderKL, worker: Worker, plan: TrainingPlan, config: LabConfig) -> None:
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


def train_checker(plan: TrainingPlan, worker: Worker, vae: AutoencoderKL) -> tuple[CaptionChecker, dict[str, float]]:
    """The caption checker, on pictures, reconstructions and blurred ones, and its accuracy on held-out ones."""
    torch.manual_seed(plan.seed + 1)
    checker = CaptionChecker().to(worker.device)
    parameters = list(checker.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2)
    rng = np.random.default_rng([plan.seed, 3, worker.rank])
    torch.manual_seed(plan.seed + 1 + worker.rank)
    pool, pictures = _checker_pool(plan.checker_pool, rng, worker, vae)
    maps = object_maps(pool, CELLS)
    for step in steps("checker", plan.checker_steps, optimizer):
        index = rng.integers(0, len(pool), plan.checker_batch)
        rows = torch.from_numpy(index)
        seen = pictures[rows].to(worker.device).float() / 255
        targets = tuple(part[rows].to(worker.device) for part in maps)
        if rng.random() < 0.5:
            seen, targets = seen.flip(3), tuple(part.flip(2) for part in targets)
        if rng.random() < 0.3:
            seen = functional.interpolate(functional.avg_pool2d(seen, 2), scale_factor=2.0, mode="bilinear")
        with worker.autocast():
            read = checker((seen + 0.03 * torch.randn_like(seen)).clamp(0, 1))
        read = {name: value.float() for name, value in read.items()}
        loss = checker_loss(read, pool.rows(index), (targets[0], targets[1]))
        descend(worker, loss, optimizer, parameters)
        if step % 50 == 0:
            log.info("checker %d: loss %.3f", step, loss.item())
    checker.eval().requires_grad_(False)
    return checker, checker_accuracy(checker, vae, worker, np.random.default_rng([plan.seed, 4]))


def checker_accuracy(
    checker: CaptionChecker, vae: AutoencoderKL, worker: Worker, rng: np.random.Generator, count: int = 512
) -> dict[str, float]:
    """Shares of held-out reconstructions whose every claim, and whose single claims, the checker reads right.

    `accepts_wrong` is the share for which it accepts every claim of another picture.
    """
    held_out, pictures = _checker_pool(count, rng, worker, vae, share=1.0, noise=0.0)
    claims = all_claims(held_out.attributes)
    seen = pictures.to(worker.device).float() / 255
    accuracy = {
        "accepts_right": float(checker.fits(seen, claims).mean()),
        "accepts_wrong": float(checker.fits(seen, claims[1:] + claims[:1]).mean()),
    }
    for name in ("kind", "objects", "background", "pattern", "light", "ground", "terrain"):
        rows = [row for row, claim in enumerate(claims) if name in claim]
        parts = ("light", "light_color") if name == "light" else (name,)
        single = [{part: claims[row][part] for part in parts} for row in rows]
        accuracy[name] = float(checker.fits(seen[rows], single).mean())
    return accuracy


def _checker_pool(
    count: int, rng: np.random.Generator, worker: Worker, vae: AutoencoderKL, share: float = 0.5, noise: float = 0.4
) -> tuple[SceneBatch, Tensor]:
    """Scenes and their pictures as the checker sees them, bytes [count, 3, 64, 64].

    A `share` comes through the VAE, with up to `noise` of noise on the latents, which makes pictures as soft and as
    uneven as a denoiser's.
    """
    pool, seen = scenes.draw_scenes(count, rng), []
    for start in range(0, count, 32):
        pictures = scenes.render(pool.rows(slice(start, start + 32)), worker.device)
        through = round(share * len(pictures))
        with worker.autocast():
            pictures[:through] = _reconstructed(vae, pictures[:through], noise)
        small = functional.interpolate(pictures, (CaptionChecker.SEEN, CaptionChecker.SEEN), mode="area")
        seen.append((small * 255).round().to(torch.uint8).cpu())
    return pool, torch.cat(seen)


@torch.no_grad()
def _reconstructed(vae: AutoencoderKL, pictures: Tensor, noise: float) -> Tensor:
    """What the VAE makes of pictures [B, 3, 128, 128] in 0..1, each with 0 to `noise` deviations on its latent."""
    latents = vae.encode(pictures * 2 - 1).latent_dist.mean.float()
    amount = noise * torch.rand(len(latents), 1, 1, 1, device=latents.device) * latents.std()
    latents = latents + amount * torch.randn_like(latents)
    return (vae.decode(latents).sample.float() / 2 + 0.5).clamp(0, 1)


class CaptionReader(nn.Module):
    """What a text feature says of the scene: logits of the picture-wide heads, and of each (colour, shape) [B, 36]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in HEADS.items()})
        self.objects = nn.Linear(width, len(COLORS) * len(SHAPES))

    def loss(self, features: Tensor, batch: SceneBatch) -> Tensor:
        """Cross entropy of all that is true of each scene, given its caption's `features` [B, width]."""
        at = {name: torch.from_numpy(column(batch.attributes, name)).to(features.device) for name in ATTRIBUTES}
        shapes = at["kind"] == KINDS.index("shapes")
        rows, present = torch.arange(len(batch)), features.new_zeros(len(batch), len(COLORS), len(SHAPES))
        for index in (1, 2):
            drawn = shapes & (at["count"] >= index)
            present[rows, at[f"color{index}"], at[f"shape{index}"]] += drawn.float()
        objects = functional.binary_cross_entropy_with_logits(self.objects(features), present.flatten(1))
        loss = len(COLORS) * len(SHAPES) * objects
        for name, head in self.heads.items():
            applies = shapes if name == "pattern" else ~shapes if name in LANDSCAPE_ONLY else torch.ones_like(shapes)
            each = functional.cross_entropy(head(features), at[name], reduction="none")
            loss = loss + (each * applies).mean()
        return loss


def train_text(
    plan: TrainingPlan, worker: Worker, config: LabConfig, tokenize: Callable[[list[str]], Tensor]
) -> CLIPTextModel:
    """The text encoder learns what captions say, from its end mark and padding, as CLIP's own training does for SD."""
    torch.manual_seed(plan.seed + 4)
    text_encoder, reader = build_text_encoder(config).to(worker.device), CaptionReader(config.text_width)
    read_captions(plan, worker, text_encoder, reader.to(worker.device), tokenize)
    return text_encoder


def read_captions(
    plan: TrainingPlan,
    worker: Worker,
    text_encoder: CLIPTextModel,
    reader: CaptionReader,
    tokenize: Callable[[list[str]], Tensor],
) -> None:
    """Train `text_encoder` and `reader` in place on ordinary captions that leave nothing out."""
    text_encoder.set_attn_implementation("eager")
    parameters = [*text_encoder.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=plan.text_rate, weight_decay=1e-2, fused=True)
    rng = np.random.default_rng([plan.seed, 6, worker.rank])
    for step in steps("text", plan.text_steps, optimizer):
        batch = scenes.draw_scenes(plan.text_batch, rng)
        captions = [lab_corpus.describe(row, rng, omit=0.0).text for row in batch.attributes]
        tokens = tokenize(captions).to(worker.device)
        with worker.autocast():
            features = text_encoder(tokens).last_hidden_state
        ends = (tokens == tokens.max()).int().argmax(dim=1)
        padding = torch.randint(int(ends.max()), tokens.shape[1], ends.shape, device=ends.device)
        rows = torch.arange(len(tokens), device=tokens.device)
        loss = reader.loss(features[rows, ends].float(), batch) + reader.loss(features[rows, padding].float(), batch)
        descend(worker, loss, optimizer, parameters)
        if step % 50 == 49:
            log.info("text %d: loss %.3f", step + 1, loss.item())


def train_unet(
    plan: TrainingPlan, worker: Worker, config: LabConfig, text_encoder: CLIPTextModel, mixture: Mixture, empty: Tensor
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Text encoder and UNet together on SD's schedule, averaged; a second call goes on where the last one saved."""
    torch.manual_seed(plan.seed + 2)
    text_encoder, unet = (
        text_encoder.train().requires_grad_(True).to(worker.device),
        build_unet(config).to(worker.device),
    )
    unet.set_attn_processor(AttnProcessor())  # plain attention: the fused one trains slower on a CPU
    text_encoder.set_attn_implementation("eager")
    parameters = [*text_encoder.parameters(), *unet.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=plan.unet_rate, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    average = Ema(parameters, plan.ema)
    alphas = alphas_cumprod(config).to(worker.device, torch.float32)
    weights = noise_weights(alphas, plan.snr_cap)
    state = worker.resume(STATE)
    first = 0 if state is None else int(state["step"])
    if state is not None:
        text_encoder.load_state_dict(state["text"])
        unet.load_state_dict(state["unet"])
        optimizer.load_state_dict(state["optimizer"])
        average.shadow, average.step = state["average"], first
    torch.manual_seed(plan.seed + 3 + worker.rank + 100 * first)
    running = 0.0
    for step in steps("unet", plan.unet_steps, optimizer, first):
        latents, tokens, droppable = mixture.draw(step, plan.unet_steps)
        dropped = droppable & (torch.rand(len(tokens), device=worker.device) < plan.dropout)
        tokens = torch.where(dropped[:, None], empty, tokens)
        latents = latents.repeat(plan.noises_each, 1, 1, 1)
        noise = torch.randn_like(latents)
        time_step = _spread_times(len(tokens), plan.noises_each, len(alphas), worker.device)
        alpha = alphas[time_step][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        target = noise if config.prediction_type == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        with worker.autocast():
            context = text_encoder(tokens).last_hidden_state.repeat(plan.noises_each, 1, 1)
            predicted = unet(noisy, time_step, encoder_hidden_states=context).sample
        each = (predicted.float() - target).square().mean(dim=(1, 2, 3))
        loss = (each * weights[time_step]).mean()
        descend(worker, loss, optimizer, parameters)
        average.update()
        running += loss.item()
        if step % 50 == 49:
            log.info("unet %d: loss %.4f", step + 1, running / 50)
            running = 0.0
        if (step + 1) % SAVE_EVERY == 0:
            worker.checkpoint(
                STATE,
                {
                    "step": step + 1,
                    "text": text_encoder.state_dict(),
                    "unet": unet.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average.shadow,
                },
            )
    average.store()
    return text_encoder.eval().requires_grad_(False), unet.eval().requires_grad_(False)


def noise_weights(alphas: Tensor, snr_cap: float) -> Tensor:
    """Weight of the squared error of a noise prediction at each time step [T] (min-SNR, Hang et al. 2023).

    `alphas` is the signal share.
    """
    ratio = alphas / (1 - alphas)
    return ratio.clamp(max=snr_cap) / ratio


def _spread_times(captions: int, each: int, count: int, device: torch.device) -> Tensor:
    """Time steps [each * captions], caption by caption evenly apart from a random start."""
    start = torch.rand(captions, device=device)
    shifted = torch.cat([(start + index / each) % 1 for index in range(each)])
    return (shifted * count).long().clamp(max=count - 1)
