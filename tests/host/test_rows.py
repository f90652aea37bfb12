"""A host's rows become noise predictions of each image, whatever kind of sampler asked for them."""

import pytest
import torch

from lib_memstab.core.measurement import measure
from lib_memstab.host.port import HostError
from lib_memstab.host.rows import Parts, alpha_at, hardest_places, read

ALPHAS = torch.linspace(0.999, 0.005, 1000)
CPU = torch.device("cpu")


def latents(seed, count):
    return torch.randn(count, 4, 6, 6, generator=torch.Generator().manual_seed(seed))


def test_x0_and_noise_predictions_of_the_same_latent_agree():
    parts = Parts.of([[1.0], [1.0]], CPU)
    x0, eps = latents(0, 4), latents(1, 4)
    time = torch.tensor([700.0, 300.0, 700.0, 300.0])
    alpha = ALPHAS[time.long()]
    sigma = ((1 - alpha) / alpha).sqrt()
    x = x0 + sigma.view(-1, 1, 1, 1) * eps
    from_x0 = read(x, sigma, x0, parts, None)
    from_eps = read(x * alpha.sqrt().view(-1, 1, 1, 1), time, eps, parts, ALPHAS)
    for name in ("x", "sigma", "eps_cond", "eps_uncond"):
        assert torch.allclose(getattr(from_x0, name), getattr(from_eps, name), atol=1e-3), name
    assert torch.allclose(from_eps.eps_cond, eps[:2])


def test_and_parts_add_up_by_their_weights():
    parts = Parts.of([[1.0], [0.5, 2.0]], CPU)
    out = latents(2, 5)
    rows = read(latents(3, 5), torch.ones(5) * 500, out, parts, ALPHAS)
    assert torch.allclose(rows.eps_cond[0], out[0], atol=1e-5)
    second = out[4] + 0.5 * (out[1] - out[4]) + 2 * (out[2] - out[4])
    assert torch.allclose(rows.eps_cond[1], second, atol=1e-5)
    assert torch.equal(rows.eps_uncond, out[3:])


def test_an_image_is_judged_by_the_mean_of_its_parts():
    parts = Parts.of([[1.0], [0.5, -2.0], [0.3, 0.1]], CPU)
    out = latents(2, 8)
    rows = read(latents(3, 8), torch.ones(8) * 500, out, parts, ALPHAS)
    without, pull = out[5:], out[:5] - out[5:][parts.owner]
    assert torch.allclose(rows.judged[0], out[0], atol=1e-5)
    assert torch.allclose(rows.judged[1], without[1] + 0.2 * pull[1] - 0.8 * pull[2], atol=1e-5)
    assert torch.allclose(rows.judged[2], without[2] + 0.3 * pull[3] + 0.1 * pull[4], atol=1e-5)


def test_the_part_that_pulls_hardest_is_told_whatever_its_weight_unless_it_leads_away():
    parts = Parts.of([[1.0], [0.1, 2.0], [0.3, 0.0, -2.0]], CPU)
    out = latents(2, 9)
    rows = read(latents(3, 9), torch.ones(9) * 500, out, parts, ALPHAS)
    norm = measure(torch.ones(6), out[:6], out[6:][parts.owner]).update_norm()
    assert torch.equal(rows.hardest, torch.stack([norm[0], norm[1:3].max(), norm[3]]))
    for images in ([0, 1, 2], [2], [2, 1]):
        places = hardest_places(rows, parts, torch.tensor(images))
        assert torch.equal(norm[places], rows.hardest[images])
        assert parts.owner[places].tolist() == images
    single = Parts.of([[1.0], [1.0]], CPU)
    assert read(latents(3, 4), torch.ones(4) * 500, latents(2, 4), single, ALPHAS).hardest is None


@pytest.mark.parametrize("weights", [[[1.0], [1.0]], [[1.0, 0.3], [1.0]]])
def test_copies_in_place_of_a_skipped_evaluation_say_nothing(weights):
    parts = Parts.of(weights, CPU)
    out = latents(4, len(parts.owner) + 2)
    out[-2] = out[0]
    rows = read(latents(5, len(out)), torch.ones(len(out)), out, parts, None)
    assert rows.copied.tolist() == [True, False]
    assert torch.equal(rows.eps_cond[0], rows.eps_uncond[0])
    assert torch.equal(rows.judged[0], rows.eps_uncond[0])
    assert not torch.equal(rows.eps_cond[1], rows.eps_uncond[1])


def test_other_rows_than_the_prompts_ask_for_are_refused():
    with pytest.raises(HostError, match="evaluated 3 rows where the prompts ask for 4"):
        read(latents(6, 3), torch.ones(3), latents(7, 3), Parts.of([[1.0], [1.0]], CPU), None)


def test_fractional_timesteps_lie_between_their_neighbours():
    low, middle, high = alpha_at(ALPHAS, torch.tensor([500.0, 500.5, 501.0]))
    assert low > middle > high
    assert low == pytest.approx(float(ALPHAS[500]), rel=1e-5)
    assert torch.isfinite(alpha_at(ALPHAS, torch.tensor([-1.0, 999.9]))).all()
