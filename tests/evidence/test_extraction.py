"""Near-duplicates among pictures, and the distance that parts memorized prompts from others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib_memstab.evidence.extraction import chosen_distance, extract, judge, tightest


def pictures(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def replays(count, seed):
    """One picture with a little noise of another seed each time."""
    one = np.random.default_rng(seed).integers(0, 240, (1, 32, 32, 3))
    return (one + np.random.default_rng(seed + 1).integers(0, 12, (count, 32, 32, 3))).astype(np.uint8)


def test_replays_among_other_pictures_are_found_and_named():
    mixed = np.concatenate([pictures(3, 1), replays(5, 2), pictures(2, 3)])
    found = extract(mixed, distance=0.1, clique=5)
    assert found.memorized
    assert found.clique == (3, 4, 5, 6, 7)
    assert found.pictures == 10
    assert 0 < found.tightest < 0.1
    assert not extract(mixed, distance=0.1, clique=6).memorized
    assert not extract(mixed, distance=found.tightest / 2, clique=5).memorized


def test_different_pictures_are_no_clique_whatever_their_number():
    found = extract(pictures(12, 4), distance=0.1, clique=2)
    assert not found.memorized
    assert len(found.clique) == 1


def test_too_few_pictures_say_nothing():
    found = extract(replays(2, 5), distance=0.1, clique=3)
    assert not found.memorized
    assert found.tightest == float("inf")
    with pytest.raises(ValueError, match="two pictures or more"):
        extract(replays(2, 5), clique=1)


@given(arrays(np.float64, (7, 7), elements=st.floats(0, 1)), st.integers(2, 7))
def test_the_tightest_distance_is_where_a_clique_begins(values, clique):
    distances = np.triu(values, 1) + np.triu(values, 1).T
    level = tightest(distances, clique)
    assert len(judge(distances, np.nextafter(level, 2), clique).clique) >= clique
    assert len(judge(distances, level, clique).clique) < clique


def test_the_chosen_distance_parts_what_can_be_parted():
    assert chosen_distance([0.1, 0.12], [0.3, 0.5]) == pytest.approx(0.21)
    assert chosen_distance([0.1, 0.2, 0.6], [0.4, 0.5]) == pytest.approx(0.3)
    assert chosen_distance([0.1, float("inf")], [0.4, float("inf")]) == pytest.approx(0.25)
    for memorized, others in (([0.1], [float("inf")]), ([0.1, 0.2], []), ([], [0.1, 0.2])):
        with pytest.raises(ValueError, match="sample more, or name one"):
            chosen_distance(memorized, others)
