"""A lab checkpoint is one of SD 1.x: names, size, what comes back from the file, and what a broken one says."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from lib_memstab.lab import architecture  # noqa: E402
from lib_memstab.lab.architecture import LabConfig, build_text_encoder, build_unet, build_vae  # noqa: E402
from lib_memstab.lab.sd1_layout import LabModel, from_sd1, load_checkpoint, save_checkpoint, to_sd1  # noqa: E402
from lib_memstab.lab.tokenizer import train_tokenizer  # noqa: E402

CAPTIONS = [
    f"a {color} {shape} above a {other} hill, {count}"
    for count, color in enumerate(("red", "green", "blue", "orange", "purple"))
    for shape in ("circle", "square", "triangle", "star")
    for other in ("grey", "white", "yellow")
]
SMALL = LabConfig(
    vocab_size=540,
    text_width=32,
    text_feedforward=64,
    text_layers=2,
    vae_channels=32,
    unet_channels=32,
    unet_multipliers=(1, 2, 2),
    unet_blocks=2,
    unet_attention=(True, False, True),
)
SD1_KEYS = [
    "model.diffusion_model.time_embed.0.weight",
    "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
    "model.diffusion_model.input_blocks.1.0.emb_layers.1.weight",
    "model.diffusion_model.input_blocks.1.0.out_layers.3.weight",
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight",
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.0.proj.weight",
    "model.diffusion_model.input_blocks.2.0.op.weight",
    "model.diffusion_model.middle_block.1.transformer_blocks.0.norm3.weight",
    "model.diffusion_model.output_blocks.0.0.skip_connection.weight",
    "model.diffusion_model.output_blocks.1.2.conv.weight",
    "model.diffusion_model.output_blocks.5.1.proj_out.weight",
    "model.diffusion_model.out.2.weight",
    "first_stage_model.encoder.down.0.block.0.norm1.weight",
    "first_stage_model.encoder.down.0.downsample.conv.weight",
    "first_stage_model.decoder.mid.attn_1.q.weight",
    "first_stage_model.decoder.mid.attn_1.proj_out.bias",
    "first_stage_model.decoder.up.3.upsample.conv.weight",
    "first_stage_model.decoder.up.0.block.1.conv2.weight",
    "first_stage_model.quant_conv.weight",
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight",
    "cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc2.bias",
    "cond_stage_model.transformer.text_model.final_layer_norm.weight",
]


def merged_weights(config: LabConfig) -> dict[str, torch.Tensor]:
    parts = build_unet(config), build_vae(config), build_text_encoder(config)
    return to_sd1(*(part.state_dict() for part in parts), config)


def write(folder: Path, config: LabConfig, name: str = "small") -> Path:
    torch.manual_seed(1)
    tokenizer = train_tokenizer(CAPTIONS, folder / "trained", config.vocab_size)
    return save_checkpoint(
        folder, name, build_text_encoder(config), build_vae(config), build_unet(config), config, tokenizer
    )


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("lab"), SMALL)


@pytest.fixture
def checkpoint(shipped: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(shipped.parent, tmp_path / "models")) / shipped.name


@pytest.fixture(scope="module")
def model(shipped: Path) -> LabModel:
    return load_checkpoint(shipped)


def test_weights_carry_the_names_of_sd1() -> None:
    keys = merged_weights(LabConfig(unet_attention=(True, True, True), vae_blocks=1)).keys()
    assert [key for key in SD1_KEYS if key not in keys] == []


def test_vae_attention_is_made_of_1x1_convolutions() -> None:
    merged = merged_weights(SMALL)
    names = [
        f"first_stage_model.{half}.mid.attn_1.{part}.weight"
        for half in ("encoder", "decoder")
        for part in ("q", "k", "v", "proj_out")
    ]
    assert {tuple(merged[name].shape) for name in names} == {
        (32 * SMALL.vae_multipliers[-1], 32 * SMALL.vae_multipliers[-1], 1, 1)
    }


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, unet_attention=(False, True, False), vae_multipliers=(1, 1, 2, 2), vae_blocks=2),
        dataclasses.replace(SMALL, unet_multipliers=(1, 2), unet_attention=(True, True), unet_blocks=1),
    ],
    ids=["two blocks", "wide VAE", "two levels"],
)
def test_every_weight_returns_to_its_place(config: LabConfig) -> None:
    parts = build_unet(config), build_vae(config), architecture.text_transformer(build_text_encoder(config))
    merged = to_sd1(*(part.state_dict() for part in parts), config)
    assert len(merged) == sum(len(part.state_dict()) for part in parts)
    for part, returned in zip(parts, from_sd1(merged, config), strict=True):
        state = part.state_dict()
        assert returned.keys() == state.keys()
        assert all(torch.equal(returned[key], state[key]) for key in state)


def test_sd1_weights_return_to_their_names() -> None:
    merged = merged_weights(SMALL)
    again = to_sd1(*from_sd1(merged, SMALL), SMALL)
    assert again.keys() == merged.keys()
    assert all(torch.equal(again[key], merged[key]) for key in merged)


def test_shipped_model_fits_in_16_megabytes() -> None:
    merged = merged_weights(LabConfig())
    assert 2 * sum(value.numel() for value in merged.values()) < 15.7e6


def test_file_holds_half_precision_and_nothing_else(shipped: Path) -> None:
    assert {value.dtype for value in load_file(shipped).values()} == {torch.float16}
    assert sorted(path.name for path in shipped.parent.iterdir()) == [
        "small",
        "small.safetensors",
        "small.yaml",
        "trained",
    ]


def test_loaded_weights_are_the_saved_ones_rounded(model: LabModel) -> None:
    torch.manual_seed(1)
    text_encoder, vae, unet = build_text_encoder(SMALL), build_vae(SMALL), build_unet(SMALL)
    for saved, loaded in ((text_encoder, model.text_encoder), (vae, model.vae), (unet, model.unet)):
        state = loaded.state_dict()
        assert all(
            torch.equal(value.half().float(), state[key])
            for key, value in saved.state_dict().items()
            if value.is_floating_point()
        )


def test_loaded_model_is_frozen_float32(model: LabModel) -> None:
    parts = (model.text_encoder, model.vae, model.unet)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}
    assert not any(part.training or p.requires_grad for part in parts for p in part.parameters())
    assert model.config == SMALL
    assert torch.equal(model.alphas_cumprod, architecture.alphas_cumprod(SMALL))


def test_prompts_pictures_and_latents_have_their_shapes(model: LabModel) -> None:
    assert model.encode_prompts(["a red star", ""]).shape == (2, 77, SMALL.text_width)
    pictures = model.decode(torch.randn(2, 4, 4, 8))
    assert pictures.shape == (2, 3, 32, 64)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert model.encode_images(pictures).shape == (2, 4, 4, 8)


def test_end_mark_ends_pads_and_is_found(model: LabModel) -> None:
    ids, ends = model.tokenize(["", "a red star", "star " * 200])
    begin, end = SMALL.vocab_size - 2, SMALL.vocab_size - 1
    assert ids.shape == (3, 77)
    assert (ids[:, 0] == begin).all()
    assert ends[0] == 1
    assert ends[2] == 76
    assert 1 < ends[1] < 76
    assert all(
        (row[place:] == end).all() and not (row[:place] == end).any() for row, place in zip(ids, ends, strict=True)
    )


def test_text_features_have_a_mean_the_emphasis_can_divide_by(model: LabModel) -> None:
    assert (
        model.encode_prompts(["a red star", ""]).mean(dim=(1, 2)).sub(architecture.FINAL_NORM_BIAS).abs().max() < 0.05
    )


def test_text_folder_says_what_the_webui_reads(shipped: Path) -> None:
    settings = json.loads((shipped.with_suffix("") / "config.json").read_text())
    assert settings["model_type"] == "clip_text_model"
    assert settings["eos_token_id"] == SMALL.vocab_size - 1
    assert "version: models/Stable-diffusion/small\n" in shipped.with_suffix(".yaml").read_text()


def test_prediction_type_reaches_the_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, dataclasses.replace(SMALL, prediction_type="v_prediction"))
    assert "parameterization: v\n" in path.with_suffix(".yaml").read_text()
    assert load_checkpoint(path).config.prediction_type == "v_prediction"


def test_sizes_survive_json() -> None:
    assert LabConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"unet_channels": 48}, "multiples of 32"),
        ({"vae_multipliers": (1, 2, 2)}, "4 levels"),
        ({"unet_heads": 5}, "5 heads"),
        ({"unet_multipliers": (2, 3, 4)}, "first multiplier"),
        ({"prediction_type": "x0"}, "v_prediction"),
    ],
)
def test_sizes_that_ldm_cannot_express_are_refused(sizes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LabConfig(**sizes)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def drop_one_weight(path: Path) -> None:
    weights = load_file(path)
    del weights["model.diffusion_model.out.2.bias"]
    save_file(weights, path)


def add_a_weight(path: Path) -> None:
    save_file(load_file(path) | {"model.diffusion_model.label_emb.weight": torch.zeros(1)}, path)


def change(path: Path, old: str, new: str) -> None:
    settings = path.with_suffix(".yaml")
    text = settings.read_text()
    assert old in text
    settings.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda path: path.unlink(), FileNotFoundError, "no checkpoint"),
        (lambda path: path.with_suffix(".yaml").unlink(), FileNotFoundError, r"small\.yaml"),
        (lambda path: (path.with_suffix("") / "merges.txt").unlink(), FileNotFoundError, r"merges\.txt"),
        (cut_short, ValueError, "damaged"),
        (drop_one_weight, ValueError, "out"),
        (add_a_weight, ValueError, "label_emb"),
        (lambda path: change(path, "memstab_lab:", "other:"), ValueError, "memstab_lab"),
        (lambda path: change(path, "model_channels: 32", "model_channels: 64"), ValueError, "contradict"),
        (lambda path: change(path, "vae_blocks: 0", "vae_bricks: 1"), ValueError, "vae_bricks"),
    ],
    ids=[
        "no weights",
        "no yaml",
        "no merges",
        "cut short",
        "weight missing",
        "weight too many",
        "foreign",
        "edited",
        "unknown size",
    ],
)
def test_broken_checkpoint_says_what_is_wrong(
    checkpoint: Path, damage: Callable[[Path], None], error: type[Exception], words: str
) -> None:
    damage(checkpoint)
    with pytest.raises(error, match=words):
        load_checkpoint(checkpoint)


def test_diverged_weights_are_not_saved(model: LabModel, tmp_path: Path) -> None:
    unet = build_unet(SMALL)
    torch.nn.init.constant_(unet.conv_out.weight, 1e6)
    with pytest.raises(ValueError, match="diverge"):
        save_checkpoint(tmp_path, "bad", model.text_encoder, model.vae, unet, SMALL, model.tokenizer)
    assert not list(tmp_path.iterdir())


def test_captions_too_few_for_the_vocabulary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower vocab_size"):
        train_tokenizer(["a red star"], tmp_path, 540)
