"""What one denoiser evaluation measures, and the path its norms add up to."""

import pytest
import torch

from lib_memstab.core.measurement import PathLength, eps_from_denoised, measure


def predictions(batch=3, dtype=torch.float32):
    torch.manual_seed(0)
    return torch.randn(batch, 4, 8, 8, dtype=dtype), torch.randn(batch, 4, 8, 8, dtype=dtype)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 7.5])
def test_update_norm_is_the_rms_of_the_guided_prediction(guidance):
    cond, uncond = predictions()
    direct = (uncond + guidance * (cond - uncond)).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(measure(torch.ones(3), cond, uncond).update_norm(guidance), direct)


def test_rows_do_not_depend_on_their_batch():
    cond, uncond = predictions()
    whole = measure(torch.ones(3), cond, uncond)
    for row in range(3):
        alone = measure(torch.ones(1), cond[row : row + 1], uncond[row : row + 1])
        assert alone.update_norm()[0] == whole.update_norm()[row]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_summed_in_float32(dtype):
    large = torch.full((1, 4, 64, 64), 300.0, dtype=dtype)
    measured = measure(torch.ones(1), large, -large)
    assert measured.uncond.dtype == torch.float32
    assert measured.valid.all()
    torch.testing.assert_close(measured.delta.sqrt(), torch.tensor([2 * float(large[0, 0, 0, 0])]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_marked_and_stay_alone(bad):
    cond, uncond = predictions()
    cond[1, 0, 0, 0] = bad
    measured = measure(torch.ones(3), cond, uncond)
    assert measured.finite.tolist() == [True, False, True]
    assert measured.valid.tolist() == [True, False, True]


def test_sigma_zero_and_repeated_conditional_rows_are_not_valid():
    cond, uncond = predictions()
    uncond[2] = cond[2]
    assert measure(torch.tensor([1.0, 0.0, 1.0]), cond, uncond).valid.tolist() == [True, False, False]


def test_an_empty_batch_is_measured_as_empty():
    cond, uncond = predictions(0)
    assert measure(torch.ones(0), cond, uncond).update_norm().shape == (0,)


def test_eps_of_an_x0_prediction_is_the_noise_that_was_added():
    clean, noise = predictions()
    sigma = torch.tensor([0.5, 2.0, 14.0])
    noisy = clean + sigma.view(-1, 1, 1, 1) * noise
    torch.testing.assert_close(eps_from_denoised(noisy, clean, sigma), noise, rtol=1e-4, atol=1e-4)


def path_of(sigmas, norms):
    path = PathLength()
    for sigma, norm in zip(sigmas, norms, strict=True):
        length = path.update(torch.tensor([sigma]), torch.tensor([norm]), torch.tensor([True]))
    return float(length)


def test_unit_norms_have_length_one():
    assert path_of([14.0, 7.0, 3.0, 1.0], [1.0] * 4) == pytest.approx(1)


def test_path_length_follows_its_formula():
    walked = 1.1 * 1 + 0.9 * 1 + 0.25 * 2 * 0.9
    assert path_of([16.0, 9.0, 4.0], [1.2, 1.1, 0.9]) == pytest.approx(walked / (1 + 1 + 0.25 * 2))
    assert path_of([16.0], [1.2]) == pytest.approx(1.2)


@pytest.mark.parametrize("place", [1, 2, 3])
def test_one_evaluation_of_a_picture_that_was_moved_too_far_does_not_make_a_path_longer(place):
    levels, norms = [16.0, 9.0, 4.0, 1.0], [1.1] * 4
    norms[place] = 5.0
    assert path_of(levels[: place + 1], norms[: place + 1]) == pytest.approx(1.1)
    assert path_of(levels, norms) == pytest.approx(1.1)


def test_two_such_evaluations_in_a_row_do():
    assert path_of([16.0, 9.0, 4.0, 1.0], [1.1, 5.0, 5.0, 1.1]) == pytest.approx((1.1 + 5 + 1.1 + 0.25 * 1.1) / 3.25)


@pytest.mark.parametrize("norms", [(1.2, 5.0, 1.1, 0.9), (1.2, 1.1, 5.0, 0.9), (1.2, 1.1, 1.1, 0.9)])
@pytest.mark.parametrize("second", [9.0, 9.0 * (1 + 5e-5), 9.0 * (1 - 5e-5)])
def test_a_noise_level_that_is_evaluated_twice_counts_once_by_the_smaller_norm(norms, second):
    plain = path_of([16.0, 9.0, 4.0], [1.2, 1.1, 0.9])
    assert path_of([16.0, 9.0, second, 4.0], norms) == pytest.approx(plain, rel=1e-4)


def test_a_noise_level_that_is_evaluated_twice_counts_once_where_the_path_ends_too():
    assert path_of([16.0, 9.0, 9.0], [1.2, 5.0, 1.1]) == pytest.approx(path_of([16.0, 9.0], [1.2, 1.1]))


def test_noise_levels_that_rise_add_no_way():
    walked = 1.1 * 2 + 0.9 * 2 + 0.25 * 1 * 0.9
    assert path_of([16.0, 4.0, 9.0, 1.0], [1.2, 1.1, 1.4, 0.9]) == pytest.approx(walked / (2 + 2 + 0.25))


def test_a_path_that_begins_anew_forgets_what_it_walked():
    levels, norms = torch.tensor([[16.0, 16.0], [9.0, 9.0], [4.0, 4.0], [1.0, 1.0]]), [2.0, 2.0, 1.1, 0.9]
    path, valid = PathLength(), torch.tensor([True, True])
    for place, (sigma, norm) in enumerate(zip(levels, norms, strict=True)):
        length = path.update(sigma, torch.full((2,), norm), valid)
        if place == 1:
            path.restart(torch.tensor([True, False]))
    assert length.tolist() == pytest.approx([path_of([4.0, 1.0], norms[2:]), path_of([16.0, 9.0, 4.0, 1.0], norms)])


def test_a_row_that_is_not_valid_leaves_its_path_as_it_was():
    path = PathLength()
    path.update(torch.tensor([14.0, 14.0]), torch.tensor([1.2, 1.2]), torch.tensor([True, True]))
    before = path.update(torch.tensor([7.0, 7.0]), torch.tensor([1.1, 1.1]), torch.tensor([True, True]))
    after = path.update(torch.tensor([3.0, 3.0]), torch.tensor([0.5, 0.5]), torch.tensor([False, True]))
    assert after[0] == before[0]
    assert after[1] < before[1]
