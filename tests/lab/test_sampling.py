"""Every sampler of the lab, on the committed model."""

import dataclasses
import types

import pytest

pytest.importorskip("torchsde")
import torch

from lib_memstab.lab.experiment import load_lab_model
from lib_memstab.lab.sampling import SAMPLERS, GuidedDenoiser, Job, sample

# torchsde, of its own rounding
pytestmark = pytest.mark.filterwarnings("ignore:Should have t")


@pytest.fixture(scope="module")
def model():
    return load_lab_model()


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_image_depends_on_its_prompt_and_seed_and_not_on_its_batch(model, name):
    red, blue, other_seed = sample(
        model, Job(["red circle", "blue star", "blue star"], [1, 1, 2], sampler=name, steps=3)
    )
    alone = sample(model, Job(["blue star"], [1], sampler=name, steps=3))[0]
    assert torch.isfinite(blue).all()
    assert torch.allclose(blue, alone, atol=2e-3)
    assert not torch.allclose(blue, red, atol=0.1)
    assert not torch.allclose(blue, other_seed, atol=0.1)


@pytest.mark.parametrize("name", ["default", "karras", "exponential"])
def test_a_schedule_without_its_last_noise_level_has_as_many_steps_and_ends_higher(model, name):
    denoiser = GuidedDenoiser(model, torch.zeros(1), torch.zeros(1), 7.5, None)
    whole, cut = denoiser.schedule(10, name), denoiser.schedule(10, name, discard=True)
    assert len(whole) == len(cut) == 11
    assert cut[-1] == whole[-1] == 0
    assert cut[0] == pytest.approx(float(whole[0]))
    assert cut[-2] > 1.5 * whole[-2]
    assert torch.equal(cut[:-1], denoiser.schedule(11, name)[:-2])


def test_a_v_prediction_is_read_as_noise(model):
    """The same noise, told by a model in the one form and in the other."""
    generator = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(2, 3, 4, 16, 16, generator=generator).unbind(0)
    sigma = torch.tensor([0.1, 1.0, 14.6])
    rows = sigma[:, None, None, None]
    signal, share = 1 / (rows**2 + 1).sqrt(), rows / (rows**2 + 1).sqrt()

    def denoiser(kind, predicted):
        unet = torch.nn.Identity()
        unet.forward = lambda x, time, encoder_hidden_states: types.SimpleNamespace(sample=predicted)
        other = dataclasses.replace(model, unet=unet, config=dataclasses.replace(model.config, prediction_type=kind))
        return GuidedDenoiser(other, torch.zeros(1), torch.zeros(1), 7.5, None)

    v = signal * noise - share * x0
    for kind, predicted in (("epsilon", noise), ("v_prediction", v)):
        found = denoiser(kind, predicted).predict(x0 + rows * noise, sigma, torch.zeros(3, 1, 1))
        assert torch.allclose(found, noise, atol=1e-4), kind
