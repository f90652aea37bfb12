"""The stages of a training: VAE, caption checker, and text encoder with UNet."""

from __future__ import annotations

import logging

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel

from lib_memstab.lab import corpus as lab_corpus
from lib_memstab.lab import scenes
from lib_memstab.lab.architecture import LabConfig, alphas_cumprod, build_text_encoder, build_unet, build_vae
from lib_memstab.lab.checker import CaptionChecker, all_claims, checker_loss
from lib_memstab.lab.mixture import Mixture
from lib_memstab.lab.scenes import SceneBatch
from lib_memstab.lab.worker import Ema, TrainingPlan, Worker, descend, steps

log = logging.getLogger("memstab.lab")


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
    """The caption checker, on pictures and their VAE reconstructions, and its accuracy on held-out reconstructions."""
    torch.manual_seed(plan.seed + 1)
    checker = CaptionChecker().to(worker.device)
    parameters = list(checker.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-2)
    rng = np.random.default_rng([plan.seed, 3, worker.rank])
    pool, pictures = _checker_pool(plan.checker_pool, rng, worker, vae)
    for step in steps("checker", plan.checker_steps, optimizer):
        index = rng.integers(0, len(pool), plan.checker_batch)
        seen = pictures[torch.from_numpy(index)].to(worker.device).float() / 255
        with worker.autocast():
            read = checker((seen + 0.03 * torch.randn_like(seen)).clamp(0, 1))
        loss = checker_loss({name: value.float() for name, value in read.items()}, pool.rows(index))
        descend(worker, loss, optimizer, parameters)
        if step % 50 == 0:
            log.info("checker %d: loss %.3f", step, loss.item())
    checker.eval().requires_grad_(False)
    held_out, pictures = _checker_pool(1024, np.random.default_rng([plan.seed, 4]), worker, vae, share=1.0)
    claims = all_claims(held_out.attributes)
    seen = pictures.to(worker.device).float() / 255
    right, wrong = checker.fits(seen, claims), checker.fits(seen, claims[1:] + claims[:1])
    return checker, {"accepts_right": float(right.mean()), "accepts_wrong": float(wrong.mean())}


def _checker_pool(
    count: int, rng: np.random.Generator, worker: Worker, vae: AutoencoderKL, share: float = 0.2
) -> tuple[SceneBatch, Tensor]:
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
def _reconstructed(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """What the VAE makes of pictures [B, 3, 128, 128] in 0..1."""
    latents = vae.encode(pictures * 2 - 1).latent_dist.mean
    return (vae.decode(latents).sample.float() / 2 + 0.5).clamp(0, 1)


def train_unet(
    plan: TrainingPlan, worker: Worker, config: LabConfig, mixture: Mixture, empty: Tensor
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Text encoder and UNet together on SD's schedule, loss weights by min-SNR (Hang et al. 2023); averaged."""
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
    for step in steps("unet", plan.unet_steps, optimizer):
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
        descend(worker, loss, optimizer, parameters)
        average.update()
        running += loss.item()
        if step % 50 == 49:
            log.info("unet %d: loss %.4f", step + 1, running / 50)
            running = 0.0
    average.store()
    return text_encoder.eval().requires_grad_(False), unet.eval().requires_grad_(False)
