"""Rival methods: mitigations on known numbers, what is read of the lab model's attention, and the table of all."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("torchsde")

from lib_memstab import cli
from lib_memstab.lab import rivalry
from lib_memstab.lab.attention import Reading, cross_attentions, entropy, masked, processed
from lib_memstab.lab.experiment import load_lab_model, load_splits
from lib_memstab.lab.rival_detectors import GuidanceMagnitude, Look, NormAndAngle
from lib_memstab.lab.rivals import (
    MITIGATIONS,
    AdjustedPrompt,
    HeldBack,
    MaskedEnd,
    MaskedPadding,
    Mitigation,
    NoGuidance,
    Opposite,
    RandomTokens,
)
from lib_memstab.lab.sampling import Job, sample
from lib_memstab.lab.trials import MAIN, memorized_trials, plain_trials

PROMPTS = ["a red circle on a plain blue background", "a blue star"]
SHORT = Job(PROMPTS, [1, 2], steps=3)


@pytest.fixture(scope="module")
def model():
    return load_lab_model()


def run(mitigation, sizes):
    """Guidance [steps] that each evaluation ends up with, for a guidance term of these sizes and a scale of 7."""
    direction, uncond = torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 0.5)
    used = []
    for size in sizes:
        delta = size * direction
        answer = mitigation.evaluated(uncond, torch.ones(1), uncond + delta, uncond, uncond + 7 * delta, None)
        used.append(round(float(((answer - uncond) / delta).mean()), 4))
    return used


SIZES = [3.0, 2.0, 1.0, 1.5, 0.5, 2.0]


@pytest.mark.parametrize(
    ("mitigation", "guidance"),
    [
        (Mitigation(), [7.0] * 6),
        (NoGuidance(), [0.0] * 6),
        (HeldBack(), [0.0, 0.0, 0.0, 7.0, 7.0, 7.0]),
        (Opposite(), [-1.0, -1.0, -1.0, 7.0, 7.0, 7.0]),
    ],
)
def test_guidance_comes_back_after_the_first_local_minimum(mitigation, guidance):
    assert run(mitigation, SIZES) == guidance
    text = torch.ones(1, 3, 2)
    assert mitigation.condition(text) is text


def test_a_prompt_is_adjusted_until_its_guidance_is_small_and_a_small_one_is_left_alone():
    # The guidance term is the mean of three tokens; its size is 4/3, 5/6 and 20/3.
    text = torch.tensor([[[2.0], [1.0], [1.0]], [[2.0], [0.25], [0.25]], [[2.0], [9.0], [9.0]]])
    x = uncond = torch.zeros(3, 4, 2, 2)

    def evaluate(x, sigma, text):
        return x + text.mean(dim=(1, 2))[:, None, None, None]

    mitigation = AdjustedPrompt(target=1.25)
    mitigation.sampling(None, replace(SHORT, guidance=7.0))
    assert mitigation.condition(text) is text
    cond = evaluate(x, None, text)
    guided = mitigation.evaluated(x, torch.ones(3), cond, uncond, 7 * cond, evaluate)
    settled = mitigation.condition(text)
    assert torch.equal(settled[1], text[1])
    assert torch.equal(guided[1], 7 * cond[1])
    # Two tokens of three fall by 0.05 a step, 0.0333 in the mean: three steps are enough for the first, ten for none.
    torch.testing.assert_close(settled[:, 0], text[:, 0], atol=0.02, rtol=0)
    torch.testing.assert_close(settled[0, 1:], torch.full((2, 1), 0.85), atol=5e-3, rtol=0)
    torch.testing.assert_close(settled[2, 1:], torch.full((2, 1), 8.5), atol=5e-2, rtol=0)
    torch.testing.assert_close(guided, 7 * evaluate(x, None, settled))
    assert mitigation.extra.tolist() == [4, 0, 11]
    assert mitigation.evaluated(x, torch.ones(3), cond, uncond, guided, None) is guided


def test_attention_is_read_without_a_trace(model):
    before = [layer.processor for layer in cross_attentions(model.unet)]
    assert len(before) == 7
    reading, rows = Reading(), []

    class Watching(Mitigation):
        def evaluated(self, *arguments):
            rows.append(reading.take())
            return super().evaluated(*arguments)

    with processed(model.unet, reading.make):
        watched = sample(model, SHORT, Watching())
    assert torch.equal(watched, sample(model, SHORT))
    assert [layer.processor for layer in cross_attentions(model.unet)] == before
    assert torch.stack(rows).shape == (3, 4, 77)
    torch.testing.assert_close(torch.stack(rows).sum(dim=-1), torch.ones(3, 4))
    with pytest.raises(RuntimeError, match="no attention was read"):
        reading.take()


def test_processors_are_restored_after_an_error(model):
    before = [layer.processor for layer in cross_attentions(model.unet)]
    with processed(model.unet, Reading().make):
        assert not set(before) & {layer.processor for layer in cross_attentions(model.unet)}
    with pytest.raises(RuntimeError, match="shapes"), processed(model.unet, Reading().make):
        model.unet(torch.zeros(1, 4, 16, 16), 1, encoder_hidden_states=torch.zeros(1, 77, 3))
    assert [layer.processor for layer in cross_attentions(model.unet)] == before


def test_entropy_of_known_attention():
    attention = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(entropy(attention), torch.tensor([4.0, 1.0, 2.0]).log())


@torch.no_grad()
def test_masked_tokens_cannot_be_read(model):
    x, time = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(3)), torch.full((4,), 900.0)
    text, (_, ends) = model.encode_prompts([*PROMPTS, "", ""]), model.tokenize(PROMPTS)

    def predict(text):
        return model.unet(x, time, encoder_hidden_states=text).sample

    plain = predict(text)
    for kind, seen in ((MaskedPadding, 1), (MaskedEnd, 0)):
        visible = torch.arange(77)[None] < (ends + seen)[:, None]
        other = torch.where(visible.repeat(2, 1)[..., None], text, 5.0)
        with kind().sampling(model, SHORT):
            torch.testing.assert_close(predict(other), predict(text))
            moved = predict(text.roll(1, dims=1))
            assert not torch.allclose(moved, predict(text), atol=1e-3)
        assert not torch.allclose(predict(other), plain, atol=1e-3)
    everything = torch.ones(4, 77, dtype=torch.bool)
    with processed(model.unet, masked(everything, torch.ones(4))):
        torch.testing.assert_close(predict(text), plain, atol=1e-4, rtol=1e-4)
    with processed(model.unet, masked(everything, torch.tensor([1.25, 1.25, 1.0, 1.0]))):
        torch.testing.assert_close(predict(text)[2:], plain[2:], atol=1e-4, rtol=1e-4)
        assert not torch.allclose(predict(text)[:2], plain[:2], atol=1e-3)


def test_random_words_are_seeded_and_leave_the_prompts_own_in_order(model):
    first, again, other = (RandomTokens().prompts(model, PROMPTS, seeds) for seeds in ([1, 2], [1, 2], [3, 4]))
    assert first == again != other
    for told, prompt in zip([*first, *other], [*PROMPTS, *PROMPTS], strict=True):
        words = iter(told.split(" "))
        assert len(told.split(" ")) == len(prompt.split(" ")) + RandomTokens.COUNT
        assert all(word in words for word in prompt.split(" "))


def test_norm_and_angle_of_known_vectors(model):
    asked = []
    along = torch.zeros(2, 4, 16, 16)
    along[:, 0] = 1.0

    def evaluate(x, sigma, text):
        asked.append((x, sigma, text))
        turned = along.clone()
        turned[1] = -2 * along[1]
        return torch.cat([along + turned, along])

    sigma = torch.tensor([10.0, 3.0])
    x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(4)) * sigma[:, None, None, None]
    delta = torch.full_like(x, 0.5)
    delta[1] = 0.25
    look = Look(x, sigma, delta, torch.zeros_like(x), torch.ones(2, 3, 2), torch.zeros(2, 3, 2), None, evaluate)
    torch.testing.assert_close(GuidanceMagnitude().score(look), torch.tensor([0.5, 0.25]))
    # The size is that of SD 1.4's 16384 numbers, the cosine 1 for the first and -1 for the second.
    torch.testing.assert_close(NormAndAngle(model).score(look), torch.tensor([64.0 + 2, 32.0 - 2]))
    ((asked_x, low, text),) = asked
    assert float(low.max()) < 0.3
    scaled = (x / (sigma**2 + 1).sqrt()[:, None, None, None]).repeat(2, 1, 1, 1)
    torch.testing.assert_close(asked_x / (low**2 + 1).sqrt()[:, None, None, None], scaled)
    assert text.mean(dim=(1, 2)).tolist() == [1, 1, 0, 0]


def test_the_table_has_a_row_for_each_method(monkeypatch, capsys, tmp_path):
    split = load_splits()["tuning"]
    trials = [*memorized_trials(split, 1, 80, ("heavy",))[:2], *plain_trials(split["ordinary"][:2], 70)]
    monkeypatch.setattr(rivalry.Plan, "trials", lambda plan: trials)
    monkeypatch.setattr(rivalry, "MAIN", replace(MAIN, job={"steps": 2}))
    assert cli.main(["bench", "--rivals", "--jobs", "1", "--out", str(tmp_path)]) == 0
    table = capsys.readouterr().out.strip().splitlines()
    figures = json.loads((tmp_path / "rivals.json").read_text())
    rows = {row["method"]: row for row in figures["rows"]}
    detectors = {"MemStab", *(name for name in rows if rows[name]["detection"])}
    assert len(detectors) == 4
    mitigations = {"no method", "MemStab", AdjustedPrompt.name, *(kind.name for kind in MITIGATIONS)}
    assert mitigations == {name for name in rows if rows[name]["mitigation"]}
    assert set(rows) == detectors | mitigations
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == list(rows)
    assert {line.count("|") for line in table} == {10}
    assert rows["no method"]["mitigation"]["copies"] == [2, 2]
    assert rows["no method"]["mitigation"]["changed"] == [0, 2]
    assert rows["guidance off"]["mitigation"]["copies"] == [0, 2]
    assert rows[RandomTokens.name]["mitigation"]["changed"] == [2, 2]
    assert rows[NormAndAngle.name]["detection"]["extra"] == 4
    assert all(np.isfinite(rows[name]["detection"]["auc"]).all() for name in detectors)
