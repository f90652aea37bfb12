"""What diffusers and transformers call a weight of the lab model, and what ldm calls it in an SD 1.x checkpoint.

Derived from the sizes alone, both ways. Source: the module lists of ldm's `openaimodel.UNetModel`,
`model.Encoder` and `model.Decoder` (Rombach et al. 2022).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lib_memstab.lab.architecture import LabConfig

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."

_SAME: dict[str, str] = {}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}

StateDict = dict[str, Tensor]
Modules = dict[str, tuple[str, dict[str, str]]]
"""diffusers' name of a module -> ldm's, and the names inside it that differ."""


def unet_modules(config: LabConfig) -> Modules:
    """Where each module of the UNet lies in ldm's flat lists of input and output blocks."""
    modules: Modules = {
        "time_embedding.linear_1": ("time_embed.0", _SAME),
        "time_embedding.linear_2": ("time_embed.2", _SAME),
        "conv_in": ("input_blocks.0.0", _SAME),
        "mid_block.resnets.0": ("middle_block.0", _UNET_RESNET),
        "mid_block.attentions.0": ("middle_block.1", _SAME),
        "mid_block.resnets.1": ("middle_block.2", _UNET_RESNET),
        "conv_norm_out": ("out.0", _SAME),
        "conv_out": ("out.2", _SAME),
    }
    last = len(config.unet_attention) - 1
    place = 1
    for level, attends in enumerate(config.unet_attention):
        for block in range(config.unet_blocks):
            modules[f"down_blocks.{level}.resnets.{block}"] = (f"input_blocks.{place}.0", _UNET_RESNET)
            if attends:
                modules[f"down_blocks.{level}.attentions.{block}"] = (f"input_blocks.{place}.1", _SAME)
            place += 1
        if level < last:
            modules[f"down_blocks.{level}.downsamplers.0.conv"] = (f"input_blocks.{place}.0.op", _SAME)
            place += 1
    place = 0
    for level, attends in enumerate(reversed(config.unet_attention)):
        for block in range(config.unet_blocks + 1):
            modules[f"up_blocks.{level}.resnets.{block}"] = (f"output_blocks.{place}.0", _UNET_RESNET)
            if attends:
                modules[f"up_blocks.{level}.attentions.{block}"] = (f"output_blocks.{place}.1", _SAME)
            if block == config.unet_blocks and level < last:
                modules[f"up_blocks.{level}.upsamplers.0.conv"] = (f"output_blocks.{place}.{1 + attends}.conv", _SAME)
            place += 1
    return modules


def vae_modules(config: LabConfig) -> Modules:
    """Where each module of the VAE lies in ldm, which counts the decoder's levels from the finest up."""
    modules: Modules = {"quant_conv": ("quant_conv", _SAME), "post_quant_conv": ("post_quant_conv", _SAME)}
    for half in ("encoder", "decoder"):
        modules |= {
            f"{half}.conv_in": (f"{half}.conv_in", _SAME),
            f"{half}.mid_block.resnets.0": (f"{half}.mid.block_1", _VAE_RESNET),
            f"{half}.mid_block.attentions.0": (f"{half}.mid.attn_1", _VAE_ATTENTION),
            f"{half}.mid_block.resnets.1": (f"{half}.mid.block_2", _VAE_RESNET),
            f"{half}.conv_norm_out": (f"{half}.norm_out", _SAME),
            f"{half}.conv_out": (f"{half}.conv_out", _SAME),
        }
    last = len(config.vae_widths) - 1
    for level in range(last + 1):
        up = f"decoder.up.{last - level}"
        for block in range(config.vae_blocks):
            modules[f"encoder.down_blocks.{level}.resnets.{block}"] = (
                f"encoder.down.{level}.block.{block}",
                _VAE_RESNET,
            )
        for block in range(config.vae_blocks + 1):
            modules[f"decoder.up_blocks.{level}.resnets.{block}"] = (f"{up}.block.{block}", _VAE_RESNET)
        if level < last:
            modules[f"encoder.down_blocks.{level}.downsamplers.0.conv"] = (
                f"encoder.down.{level}.downsample.conv",
                _SAME,
            )
            modules[f"decoder.up_blocks.{level}.upsamplers.0.conv"] = (f"{up}.upsample.conv", _SAME)
    return modules


def _inverse(modules: Modules) -> Modules:
    return {other: (own, {b: a for a, b in inside.items()}) for own, (other, inside) in modules.items()}


def _rename(key: str, modules: Modules) -> str:
    """One key through `modules`.

    Raises:
        ValueError: for a key that no module of these sizes has.
    """
    for own, (other, inside) in modules.items():
        if key.startswith(own + "."):
            part, _, kind = key[len(own) + 1 :].rpartition(".")
            return ".".join(name for name in (other, inside.get(part, part), kind) if name)
    raise ValueError(
        f"no place for the weight {key} in a model of these sizes: weights and configuration do not belong together"
    )


def _is_vae_projection(key: str) -> bool:
    """Whether an ldm key is one of the four projections of the VAE's attention: 1x1 convolutions there, linear here."""
    return ".mid.attn_1." in key and key.endswith(".weight") and ".norm." not in key


def to_sd1(
    unet: Mapping[str, Tensor], vae: Mapping[str, Tensor], text: Mapping[str, Tensor], config: LabConfig
) -> StateDict:
    """One SD1 state dict from the state dicts of the three parts; tensors are shared, not copied.

    Raises:
        ValueError: for weights that do not belong to `config`.
    """
    modules = unet_modules(config)
    merged = {UNET + _rename(key, modules): value for key, value in unet.items()}
    modules = vae_modules(config)
    for key, value in vae.items():
        name = VAE + _rename(key, modules)
        merged[name] = value[:, :, None, None] if _is_vae_projection(name) else value
    learned = {key: value for key, value in text.items() if not key.endswith("position_ids")}
    return merged | {TEXT + key.removeprefix("text_model."): value for key, value in learned.items()}


def from_sd1(merged: Mapping[str, Tensor], config: LabConfig) -> tuple[StateDict, StateDict, StateDict]:
    """The inverse of `to_sd1`: state dicts of UNet, VAE and `architecture.text_transformer`.

    Raises:
        ValueError: for weights that do not belong to `config`.
    """
    unet_names, vae_names = _inverse(unet_modules(config)), _inverse(vae_modules(config))
    unet: StateDict = {}
    vae: StateDict = {}
    text: StateDict = {}
    for key, value in merged.items():
        if key.startswith(UNET):
            unet[_rename(key.removeprefix(UNET), unet_names)] = value
        elif key.startswith(VAE):
            vae[_rename(key.removeprefix(VAE), vae_names)] = value[:, :, 0, 0] if _is_vae_projection(key) else value
        elif key.startswith(TEXT):
            text[key.removeprefix(TEXT)] = value
        else:
            raise ValueError(f"no place for the weight {key}: this is not a checkpoint of the lab model")
    return unet, vae, text
