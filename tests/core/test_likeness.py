"""How much two latents are alike: in many details, not in few strong ones, and not in what is coarse."""

import pytest
import torch
from torch.nn import functional

from lib_memstab.core.likeness import details, evened, likeness


def pictures(count, seed, size=(16, 16)):
    """Latents whose neighbours are alike, as those of pictures are."""
    drawn = torch.randn(count, 4, *size, generator=torch.Generator().manual_seed(seed))
    return drawn + 4 * functional.avg_pool2d(drawn, 3, 1, 1)


def dots(period, size=(16, 16)):
    """A pattern that lies the same in every picture of its caption."""
    rows, columns = (torch.arange(side) % period < 1 for side in size)
    return (rows[:, None] & columns[None]).float()


def as_they_are(one, other):
    return functional.cosine_similarity(details(one), details(other))


@pytest.mark.parametrize(
    ("size", "most"),
    [((16, 16), 0.3), ((24, 24), 0.3), pytest.param((15, 33), 0.45, id="whose period does not fit the picture")],
)
def test_a_pattern_that_a_caption_asks_for_is_hardly_alike_and_a_replay_is(size, most):
    one, other = pictures(32, 1, size), pictures(32, 2, size)
    pattern = 8 * dots(4, size)
    assert as_they_are(one + pattern, other + pattern).mean() > 0.6
    assert likeness(one + pattern, other + pattern).mean() < most
    replay = one + 0.4 * pictures(32, 3, size)
    assert likeness(one, replay).mean() > 0.8
    assert likeness(one + pattern, replay + pattern).mean() > 0.8


def test_what_is_coarse_says_nothing():
    one, other = pictures(16, 1), pictures(16, 2)
    coarse = 20 * torch.linspace(-1, 1, 16)[None, None, :, None]
    assert (likeness(one + coarse, other + coarse) - likeness(one, other)).abs().max() < 0.15


def test_no_frequency_is_made_stronger_and_none_is_stronger_than_the_median():
    drawn = pictures(8, 1)
    before = torch.fft.rfft2(details(drawn).view(drawn.shape)).abs().flatten(1)
    after = torch.fft.rfft2(evened(drawn).view(drawn.shape)).abs().flatten(1)
    median = before.median(dim=1, keepdim=True).values
    torch.testing.assert_close(after, torch.minimum(before, median), rtol=1e-4, atol=1e-4)


def test_each_image_is_evened_by_itself():
    drawn = pictures(4, 1) * torch.tensor([1.0, 10.0, 0.1, 3.0])[:, None, None, None]
    alone = torch.cat([evened(one[None]) for one in drawn])
    torch.testing.assert_close(evened(drawn), alone, rtol=1e-5, atol=1e-5)
    assert likeness(drawn, 5 * drawn - 2).min() > 0.999


def test_nothing_at_all_is_like_nothing_and_half_precision_will_do():
    assert likeness(torch.full((1, 4, 16, 16), 3.0), pictures(1, 1)).item() == 0
    drawn = pictures(4, 1)
    assert evened(drawn.half()).dtype == torch.float32
    assert likeness(drawn.half(), drawn).min() > 0.999


def test_what_is_not_finite_has_no_likeness_and_spoils_no_other():
    drawn = pictures(2, 1)
    drawn[0, 0, 0, 0] = torch.nan
    found = likeness(drawn, pictures(2, 1))
    assert found.isnan().tolist() == [True, False]
