"""The parts of the lab model, built from nothing: a small CLIP text encoder, KL autoencoder and UNet as in SD 1.x.

Every size is in `LabConfig`. The three parts follow what ldm (Rombach et al. 2022) can express, so that they can be
exported as one SD1 checkpoint (`lib_memstab.lab.sd1_layout`): 32 groups per norm, a time embedding of four times the
UNet's first width, 1x1-convolution projections around each transformer, a fixed number of attention heads.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

NORM_GROUPS = 32
"""Groups of every GroupNorm; ldm has this number built in, so every width is a multiple of it."""

LATENT_SCALE = 8
"""Picture pixels per latent pixel, on each axis; the WebUI takes this for granted."""

FINAL_NORM_BIAS = 0.5
"""Initial bias of the last layer norm: the WebUI's emphasis divides by the mean of the text features."""


@dataclass(frozen=True)
class LabConfig:
    """Every size of the lab model; the defaults are the shipped one (7.5 M parameters).

    Widths of level i are `*_channels * *_multipliers[i]`. `unet_attention` says which UNet level, from the finest down,
    has transformer blocks. `picture_size` is the training size in pixels; other multiples of 32 can be sampled.

    Raises:
        ValueError: on construction, for sizes that ldm or the WebUI cannot express.
    """

    picture_size: int = 128
    latent_channels: int = 4
    scale_factor: float = 0.18215
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012

    vocab_size: int = 1500
    text_width: int = 128
    text_feedforward: int = 512
    text_layers: int = 4
    text_heads: int = 4
    text_positions: int = 77

    vae_channels: int = 96
    vae_multipliers: tuple[int, ...] = (1, 1, 1, 1)
    vae_blocks: int = 0

    unet_channels: int = 64
    unet_multipliers: tuple[int, ...] = (1, 1, 2)
    unet_blocks: int = 1
    unet_attention: tuple[bool, ...] = (False, True, True)
    unet_heads: int = 4

    def __post_init__(self) -> None:
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(f'prediction_type is "epsilon" or "v_prediction", not {self.prediction_type!r}')
        if len(self.vae_multipliers) != 4:
            raise ValueError(
                f"vae_multipliers needs 4 levels (a latent is 1/8 of the picture), not {self.vae_multipliers}"
            )
        if len(self.unet_attention) != len(self.unet_multipliers):
            raise ValueError("unet_attention and unet_multipliers must name the same number of levels")
        if self.vae_multipliers[0] != 1 or self.unet_multipliers[0] != 1:
            raise ValueError(
                "the first multiplier of the VAE and of the UNet must be 1: diffusers has no other input width"
            )
        odd = [width for width in (*self.vae_widths, *self.unet_widths) if width % NORM_GROUPS]
        if odd:
            raise ValueError(f"widths must be multiples of {NORM_GROUPS} (groups of a norm): {odd}")
        unequal = [width for width in self.unet_widths if width % self.unet_heads]
        if unequal:
            raise ValueError(f"UNet widths must be multiples of its {self.unet_heads} heads: {unequal}")

    @property
    def vae_widths(self) -> tuple[int, ...]:
        """Channels of the VAE's levels, finest first."""
        return tuple(self.vae_channels * factor for factor in self.vae_multipliers)

    @property
    def unet_widths(self) -> tuple[int, ...]:
        """Channels of the UNet's levels, finest first."""
        return tuple(self.unet_channels * factor for factor in self.unet_multipliers)

    @property
    def latent_size(self) -> int:
        """Latent pixels on each axis at the training size."""
        return self.picture_size // LATENT_SCALE

    def to_dict(self) -> dict[str, Any]:
        """Plain data (lists, numbers, words), ready for JSON or YAML."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LabConfig:
        """The inverse of `to_dict`.

        Raises:
            ValueError: for a missing or an unknown size, or one that `LabConfig` refuses.
        """
        wanted = {field.name for field in dataclasses.fields(cls)}
        unknown, missing = sorted(data.keys() - wanted), sorted(wanted - data.keys())
        if unknown or missing:
            raise ValueError(f"not the sizes of this version's lab model: unknown {unknown}, missing {missing}")
        sizes: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        return cls(**sizes)


def text_config(config: LabConfig) -> CLIPTextConfig:
    """CLIP text settings; the last two ids are begin (`vocab_size - 2`) and end (`vocab_size - 1`), which also pads."""
    return CLIPTextConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.text_width,
        intermediate_size=config.text_feedforward,
        projection_dim=config.text_width,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_heads,
        max_position_embeddings=config.text_positions,
        hidden_act="quick_gelu",
        bos_token_id=config.vocab_size - 2,
        eos_token_id=config.vocab_size - 1,
        pad_token_id=config.vocab_size - 1,
    )


def build_text_encoder(config: LabConfig) -> CLIPTextModel:
    """Text encoder: ids [B, 77] -> `last_hidden_state` [B, 77, text_width], after the final layer norm, as in SD1."""
    encoder = CLIPTextModel(text_config(config))
    nn.init.constant_(text_transformer(encoder).get_parameter("final_layer_norm.bias"), FINAL_NORM_BIAS)
    return encoder


def text_transformer(encoder: CLIPTextModel) -> nn.Module:
    """The module that holds the text encoder's weights: nested in `text_model`, or, in newer transformers, itself."""
    return getattr(encoder, "text_model", encoder)


def build_vae(config: LabConfig) -> AutoencoderKL:
    """KL autoencoder: pictures [B, 3, H, W] in -1..1 <-> latents [B, latent_channels, H/8, W/8], not yet scaled."""
    levels = len(config.vae_widths)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.vae_widths,
        layers_per_block=config.vae_blocks,
        latent_channels=config.latent_channels,
        norm_num_groups=NORM_GROUPS,
        sample_size=config.picture_size,
        scaling_factor=config.scale_factor,
    )


def build_unet(config: LabConfig) -> UNet2DConditionModel:
    """Denoiser: latents [B, C, h, w], time step [B] in 0..999, text [B, 77, text_width] -> prediction [B, C, h, w]."""
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.unet_attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(config.unet_attention))
    return UNet2DConditionModel(
        sample_size=config.latent_size,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=config.unet_widths,
        layers_per_block=config.unet_blocks,
        cross_attention_dim=config.text_width,
        attention_head_dim=config.unet_heads,  # for this class the number of heads, not their width
        norm_num_groups=NORM_GROUPS,
        use_linear_projection=False,
    )


def alphas_cumprod(config: LabConfig) -> Tensor:
    """Signal share of each time step, float32 [train_steps]: betas linear in their square root, as ldm's "linear"."""
    roots = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, config.train_steps, dtype=torch.float64)
    return torch.cumprod(1 - roots.square(), dim=0).float()
