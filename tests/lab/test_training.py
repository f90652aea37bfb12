"""The training's parts at toy sizes: what a batch is made of, what weighs how much, and going on after a stop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

for name in ("diffusers", "transformers", "tokenizers", "safetensors"):
    pytest.importorskip(name)

from lib_memstab import cli  # noqa: E402
from lib_memstab.lab import scenes, stages  # noqa: E402
from lib_memstab.lab import train as lab_train  # noqa: E402
from lib_memstab.lab.architecture import LabConfig, alphas_cumprod, build_text_encoder  # noqa: E402
from lib_memstab.lab.corpus import Corpus  # noqa: E402
from lib_memstab.lab.mixture import Mixture, Pools  # noqa: E402
from lib_memstab.lab.tokenizer import train_tokenizer  # noqa: E402
from lib_memstab.lab.worker import TrainingPlan, Worker  # noqa: E402

CONFIG = LabConfig(
    vocab_size=700, text_width=32, text_feedforward=64, text_layers=1, text_heads=2, vae_channels=32, unet_channels=32
)
PLAN = TrainingPlan(workers=1, pool=24, captions_each=2, unet_steps=6, unet_batch=64, text_steps=60)


@pytest.fixture
def worker(tmp_path):
    return Worker(0, 1, torch.device("cpu"), tmp_path)


@pytest.fixture(scope="module")
def tokenize(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = train_tokenizer(lab_train.training_captions(Corpus(), 500), folder, CONFIG.vocab_size)
    return lambda texts: (
        tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    )


def shrunk(pictures):
    """Stands for a VAE: latents [B, 4, 16, 16] that tell one picture from another."""
    small = torch.nn.functional.avg_pool2d(pictures, 8)
    return torch.cat([small, small[:, :1]], dim=1).half()


@pytest.fixture
def mixture(worker, tokenize):
    return Mixture(PLAN, worker, Corpus(), Pools.of(PLAN, worker, Corpus(), shrunk, tokenize))


def test_a_batch_has_the_shares_that_the_plan_says(mixture):
    latents, tokens, droppable = mixture.draw(0, 10_000)
    assert latents.shape == (64, 4, 16, 16)
    assert tokens.shape == (64, 77)
    assert int((~droppable).sum()) == int(64 * PLAN.memorized) + int(64 * PLAN.templates)


def test_encoded_pictures_are_found_again(mixture, worker, tokenize):
    def no_vae(pictures):
        raise AssertionError("encoded twice")

    again = Pools.of(PLAN, worker, Corpus(), no_vae, tokenize)
    for name, pool in vars(mixture.pools).items():
        torch.testing.assert_close(getattr(again, name).latents, pool.latents)
        torch.testing.assert_close(getattr(again, name).tokens, pool.tokens)


def test_every_title_seen_once_comes_exactly_once(mixture):
    mixture.pools.once.tokens[:] = torch.arange(240)[:, None, None] + 10_000
    seen = torch.cat([mixture.draw(step, 300)[1][:, 0] for step in range(300)])
    once = seen[seen >= 10_000] - 10_000
    assert sorted(once.tolist()) == list(range(240))


def test_weights_are_one_under_noise_and_fall_where_little_is_left_to_decide():
    alphas = alphas_cumprod(LabConfig())
    weights = stages.noise_weights(alphas, 5.0)
    ratio = alphas / (1 - alphas)
    assert (weights[ratio <= 5] == 1).all()
    torch.testing.assert_close(weights[ratio > 5], 5 / ratio[ratio > 5])


@pytest.mark.parametrize("each", [1, 2, 4])
def test_the_noise_levels_of_a_caption_are_spread_evenly(each):
    torch.manual_seed(0)
    times = stages._spread_times(400, each, 1000, torch.device("cpu")).view(each, 400)
    assert times.min() >= 0
    assert times.max() <= 999
    gaps = (times.sort(dim=0).values.diff(dim=0) - 1000 // each).abs()
    assert each == 1 or int(gaps.max()) <= 1
    assert times.float().mean() == pytest.approx(500, abs=40)


def test_the_text_encoder_learns_to_read_captions(worker, tokenize):
    torch.manual_seed(0)
    encoder, reader = build_text_encoder(CONFIG), stages.CaptionReader(CONFIG.text_width)

    def loss():
        batch = scenes.draw_scenes(64, np.random.default_rng(9))
        texts = [stages.lab_corpus.describe(row, np.random.default_rng(1), omit=0.0).text for row in batch.attributes]
        tokens = tokenize(texts)
        ends = (tokens == tokens.max()).int().argmax(dim=1)
        with torch.no_grad():
            return float(reader.loss(encoder(tokens).last_hidden_state[torch.arange(64), ends].float(), batch))

    before = loss()
    stages.read_captions(PLAN, worker, encoder, reader, tokenize)
    assert loss() < 0.8 * before


def test_a_training_goes_on_where_it_saved_last(worker, tokenize, mixture, monkeypatch):
    monkeypatch.setattr(stages, "SAVE_EVERY", 3)
    empty = tokenize([""])

    def train(plan):
        torch.manual_seed(0)
        return stages.train_unet(plan, worker, CONFIG, build_text_encoder(CONFIG), mixture, empty)

    text_encoder, unet = train(PLAN)
    state = worker.resume(stages.STATE)
    assert state["step"] == 6
    assert state["optimizer"]["param_groups"][0]["initial_lr"] == PLAN.unet_rate
    seen = []
    monkeypatch.setattr(Mixture, "draw", lambda self, step, steps: seen.append(step))
    _, again = train(PLAN)
    assert seen == []
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, unet.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in text_encoder.parameters())


def test_the_record_says_what_was_trained_and_for_how_long(worker):
    (worker.folder / "accuracy.json").write_text('{"accepts_right": 0.5}')
    lab_train.write_record(worker.folder, PLAN, worker, CONFIG, {"unet": 1.5})
    record = json.loads(Path(worker.folder / "training.json").read_text(encoding="utf-8"))
    assert record["seconds"] == {"unet": 1.5}
    assert record["plan"]["unet_steps"] == 6
    splits = json.loads(Path(worker.folder / "splits.json").read_text(encoding="utf-8"))
    assert len(splits["calibration"]) == 512
    texts = [{row["text"] for row in splits[half]["memorized"]} for half in ("tuning", "final")]
    assert not texts[0] & texts[1]


def test_another_training_and_another_model_are_named_on_the_command_line(caplog, tmp_path):
    plan = lab_train._changed(TrainingPlan(), ["unet_steps=20", "rate_weights=[3, 2, 1]", "unet_rate=1"])
    assert (plan.unet_steps, plan.rate_weights, plan.unet_rate) == (20, (3, 2, 1), 1.0)
    config = lab_train._changed(LabConfig(), ["unet_channels=32", 'prediction_type="v_prediction"'])
    assert (config.unet_channels, config.prediction_type) == (32, "v_prediction")
    for wrong in (["--set", "steps=2"], ["--set", "seed=x"], ["--config", "unet_channels=33"]):
        assert cli.main(["train", "--work", str(tmp_path), "--out", str(tmp_path / "model"), *wrong]) == 2
    assert "steps is none of seed, workers" in caplog.text
    assert not (tmp_path / "model").exists()
