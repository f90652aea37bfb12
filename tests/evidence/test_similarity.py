"""How alike pictures are: what the tiled distance must be on pictures whose distance is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_memstab.evidence.similarity import PictureError, thumbnails, tiled_distance


def plain(value, height=64, width=64):
    return np.full((1, height, width, 3), value, np.uint8)


def noise(count, side=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_a_picture_has_distance_0_to_itself_exactly():
    pictures = noise(30, 96)
    distance = tiled_distance(pictures, pictures)
    assert distance.shape == (30, 30)
    assert (np.diag(distance) == 0).all()
    assert (distance[~np.eye(30, dtype=bool)] > 0.1).all()


def test_black_and_white_are_1_apart():
    assert tiled_distance(plain(0), plain(255))[0, 0] == 1


def test_a_tile_counts_by_the_root_of_its_mean_square():
    assert tiled_distance(plain(0), plain(51))[0, 0] == pytest.approx(0.2, rel=1e-5)
    half = plain(0)
    half[0, :, ::2] = 102
    assert tiled_distance(plain(0), half)[0, 0] == pytest.approx(0.4 / 2**0.5, rel=1e-5)


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("column", range(4))
def test_the_tile_that_differs_most_counts_alone(row, column):
    changed = plain(100)
    changed[0, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 151
    assert tiled_distance(plain(100), changed)[0, 0] == pytest.approx(0.2, rel=1e-5)
    changed[0, :16, :16] = 110
    expected = 10 / 255 if (row, column) == (0, 0) else 0.2
    assert tiled_distance(plain(100), changed)[0, 0] == pytest.approx(expected, rel=1e-5)


def test_all_pairs_are_those_of_single_calls():
    first, second = noise(3, seed=1), noise(5, seed=2)
    alone = [[tiled_distance(one[None], other[None])[0, 0] for other in second] for one in first]
    assert tiled_distance(first, second) == pytest.approx(np.array(alone), rel=1e-5)


def test_pictures_of_other_sizes_and_shapes_are_compared_scaled_down():
    small = noise(1, 64)
    large = small.repeat(8, axis=1).repeat(8, axis=2)
    wide = small.repeat(4, axis=1).repeat(8, axis=2)
    assert tiled_distance(small, large)[0, 0] == 0
    assert tiled_distance(wide, large)[0, 0] == 0


def test_without_pictures_there_are_no_distances():
    assert tiled_distance(noise(0), noise(3)).shape == (0, 3)
    assert thumbnails(noise(0, 128)).shape == (0, 64, 64, 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 130), st.integers(1, 130), st.integers(0, 2**32 - 1))
def test_a_thumbnail_is_its_own_thumbnail_and_symmetric_distances_stay(height, width, seed):
    rng = np.random.default_rng(seed)
    one, other = (rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8) for _ in range(2))
    assert (thumbnails(thumbnails(one)) == thumbnails(one)).all()
    there, back = tiled_distance(one, other), tiled_distance(thumbnails(other), one)
    assert there == pytest.approx(back, rel=1e-5)
    assert 0 <= there[0, 0] <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 8, 8, 3)),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 4), np.uint8),
        np.zeros((1, 0, 8, 3), np.uint8),
    ],
)
def test_anything_but_pictures_is_refused_with_what_is_asked_for(wrong):
    with pytest.raises(PictureError, match=r"uint8 \[N, H, W, 3\]"):
        tiled_distance(wrong, plain(0))
