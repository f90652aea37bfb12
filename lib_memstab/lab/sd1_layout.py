"""The lab model as one checkpoint in the layout of SD 1.x, written and read.

A checkpoint NAME is NAME.safetensors (float16), NAME.yaml (ldm's settings, and the `LabConfig` they follow from) and
the folder NAME (tokenizer and text settings). AUTOMATIC1111's WebUI loads it from models/Stable-diffusion like any
other.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from lib_memstab.lab import architecture
from lib_memstab.lab.architecture import LabConfig
from lib_memstab.lab.sd1_names import TEXT, from_sd1, to_sd1
from lib_memstab.lab.tokenizer import load_tokenizer, save_tokenizer

WEBUI_FOLDER = "models/Stable-diffusion"
"""Where the WebUI keeps checkpoints, relative to its own folder, from which it resolves the yaml's text folder."""

_SECTION = "memstab_lab"
_TEXT_SETTINGS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


@dataclass(frozen=True)
class LabModel:
    """The lab model, ready to sample: parts in eval mode and without gradients of their own.

    Gradients still pass through to inputs. `alphas_cumprod` is float32 [train_steps], on the parts' device.
    """

    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    tokenizer: CLIPTokenizer
    config: LabConfig
    alphas_cumprod: Tensor

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self.unet.device

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids [B, 77], padded with the end token and cut to fit, and the place of the first end token, [B]."""
        batch = self.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self.config.text_positions,
            return_tensors="pt",
        )
        ids = batch.input_ids.to(self.device)
        return ids, (ids == self.tokenizer.eos_token_id).int().argmax(dim=1)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Text features [B, 77, text_width], after the final layer norm."""
        return self.encode_tokens(self.tokenize(prompts)[0])

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Text features [B, 77, text_width] of token numbers [B, 77]."""
        features: Tensor = self.text_encoder(tokens).last_hidden_state
        return features

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1, float32, from scaled latents [B, C, H/8, W/8]."""
        pictures = self.vae.decode(latents.to(self.device, self.vae.dtype) / self.config.scale_factor).sample
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    def encode_images(self, pictures: Tensor) -> Tensor:
        """Scaled latents [B, C, H/8, W/8], float32, the posterior's mean, from pictures [B, 3, H, W] in 0..1."""
        posterior = self.vae.encode(pictures.to(self.device, self.vae.dtype) * 2 - 1).latent_dist
        return posterior.mean.float() * self.config.scale_factor


def ldm_settings(config: LabConfig, text_folder: str) -> dict[str, Any]:
    """The `model` section of the yaml, as ldm reads it; `text_folder` as the WebUI's process finds it."""
    unet = {
        "image_size": config.latent_size,
        "in_channels": config.latent_channels,
        "out_channels": config.latent_channels,
        "model_channels": config.unet_channels,
        "attention_resolutions": [2**level for level, attends in enumerate(config.unet_attention) if attends],
        "num_res_blocks": config.unet_blocks,
        "channel_mult": list(config.unet_multipliers),
        "num_heads": config.unet_heads,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": config.text_width,
        "use_checkpoint": False,
        "legacy": False,
    }
    vae = {
        "double_z": True,
        "z_channels": config.latent_channels,
        "resolution": config.picture_size,
        "in_channels": 3,
        "out_ch": 3,
        "ch": config.vae_channels,
        "ch_mult": list(config.vae_multipliers),
        "num_res_blocks": config.vae_blocks,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    first_stage = {"embed_dim": config.latent_channels, "ddconfig": vae, "lossconfig": {"target": "torch.nn.Identity"}}
    parameters = {
        "parameterization": "eps" if config.prediction_type == "epsilon" else "v",
        "linear_start": config.beta_start,
        "linear_end": config.beta_end,
        "num_timesteps_cond": 1,
        "timesteps": config.train_steps,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": config.latent_size,
        "channels": config.latent_channels,
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "scale_factor": config.scale_factor,
        "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet},
        "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": first_stage},
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": text_folder},
        },
    }
    return {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": parameters}


def save_checkpoint(
    folder: Path,
    name: str,
    text_encoder: CLIPTextModel,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    config: LabConfig,
    tokenizer: CLIPTokenizer,
    text_folder: str | None = None,
) -> Path:
    """Write NAME.safetensors (float16), NAME.yaml and NAME/ to `folder`; returns the path of the first.

    Each file is replaced in one move, the weights last, so that a reader never sees half a checkpoint.
    `text_folder` is where the WebUI's process will find NAME/, by default models/Stable-diffusion/NAME.

    Raises:
        ValueError: for a tokenizer or weights that do not belong to `config`, or weights that float16 cannot hold.
    """
    _check_tokenizer(tokenizer, config)
    merged = to_sd1(unet.state_dict(), vae.state_dict(), text_encoder.state_dict(), config)
    half = {key: value.detach().to("cpu", torch.float16).contiguous() for key, value in merged.items()}
    broken = [key for key, value in half.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(
            f"{len(broken)} weights are not finite in float16, {broken[0]} among them: did the training diverge?"
        )
    settings = {"model": ldm_settings(config, text_folder or f"{WEBUI_FOLDER}/{name}"), _SECTION: config.to_dict()}

    folder = Path(folder)
    texts = folder / name
    texts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as scratch:
        staged = Path(scratch)
        save_tokenizer(tokenizer, staged / "texts")
        _write_text_settings(config, staged / "texts" / "config.json")
        (staged / "settings").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        (staged / "weights").write_bytes(save(half, metadata={"format": "pt"}))
        for file in sorted((staged / "texts").iterdir()):
            file.replace(texts / file.name)
        (staged / "settings").replace(folder / f"{name}.yaml")
        (staged / "weights").replace(folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def _write_text_settings(config: LabConfig, path: Path) -> None:
    """CLIP's config.json with the names that transformers 4.30 and 5.x share."""
    settings = architecture.text_config(config)
    chosen = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    chosen |= {name: getattr(settings, name) for name in _TEXT_SETTINGS}
    path.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")


def load_checkpoint(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> LabModel:
    """Read a checkpoint that `save_checkpoint` wrote, given the path of its .safetensors.

    Raises:
        FileNotFoundError: if one of its three parts is not there.
        ValueError: if they are damaged or do not belong together.
    """
    path = Path(path)
    config = _read_config(path.with_suffix(".yaml"))
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    tokenizer = load_tokenizer(path.with_suffix(""))
    _check_tokenizer(tokenizer, config)
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): copy it again") from error
    if not any(key.startswith(TEXT) for key in weights):
        raise ValueError(f"{path} has no text encoder: it is not a checkpoint of the lab model")
    unet_weights, vae_weights, text_weights = from_sd1(weights, config)
    text_encoder, vae, unet = (
        architecture.build_text_encoder(config),
        architecture.build_vae(config),
        architecture.build_unet(config),
    )
    _fill(architecture.text_transformer(text_encoder), text_weights, path)
    _fill(vae, vae_weights, path)
    _fill(unet, unet_weights, path)
    for part in (text_encoder, vae, unet):
        nn.Module.to(part, device, dtype)  # diffusers' own `to` warns at every dtype
        part.eval().requires_grad_(False)
    alphas = architecture.alphas_cumprod(config).to(device)
    return LabModel(text_encoder, vae, unet, tokenizer, config, alphas)


def _read_config(path: Path) -> LabConfig:
    """The `LabConfig` of a checkpoint's yaml, after making sure that ldm's section still says the same."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}: a lab checkpoint's .yaml lies beside its .safetensors, copy both and the folder"
        )
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML ({error}): copy it again") from error
    if not isinstance(settings, dict) or not isinstance(settings.get(_SECTION), dict):
        raise ValueError(f"{path} has no section {_SECTION}: only checkpoints of the lab model can be loaded here")
    try:
        config = LabConfig.from_dict(settings[_SECTION])
        text_folder = settings["model"]["params"]["cond_stage_config"]["params"]["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if settings["model"] != ldm_settings(config, text_folder):
        raise ValueError(f"{path}: sections model and {_SECTION} contradict each other; restore the file, or save anew")
    return config


def _check_tokenizer(tokenizer: CLIPTokenizer, config: LabConfig) -> None:
    if len(tokenizer) != config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} entries, the text encoder {config.vocab_size}: not one model"
        )


def _fill(part: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load `weights` into `part`, all of them and no others."""
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} does not have the sizes its .yaml says: {error}") from error
