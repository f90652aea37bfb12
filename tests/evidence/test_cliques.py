"""The largest clique of small graphs, held against trying every set of nodes."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_memstab.evidence.cliques import MAX_NODES, largest_clique


def graph(count, edges):
    near = np.eye(count, dtype=bool)
    for one, other in edges:
        near[one, other] = near[other, one] = True
    return near


@st.composite
def graphs(draw):
    count = draw(st.integers(0, 9))
    pairs = list(combinations(range(count), 2))
    return graph(count, [pair for pair in pairs if draw(st.booleans())])


def brute_force(near):
    """Size of the largest set whose nodes are all joined."""
    nodes = range(len(near))
    sets = (chosen for size in range(len(near), 0, -1) for chosen in combinations(nodes, size))
    return next((len(one) for one in sets if near[np.ix_(one, one)].all()), 0)


@given(graphs())
def test_the_clique_is_one_and_none_is_larger(near):
    found = largest_clique(near)
    assert found == sorted(set(found))
    assert near[np.ix_(found, found)].all()
    assert len(found) == brute_force(near)


@given(graphs(), st.randoms(use_true_random=False))
def test_its_size_does_not_depend_on_the_order_of_the_pictures(near, chance):
    order = list(range(len(near)))
    chance.shuffle(order)
    assert len(largest_clique(near[np.ix_(order, order)])) == len(largest_clique(near))


def test_nodes_are_not_joined_to_themselves():
    assert len(largest_clique(~np.eye(3, dtype=bool))) == 3
    assert len(largest_clique(np.zeros((3, 3), dtype=bool))) == 1
    assert largest_clique(np.zeros((0, 0), dtype=bool)) == []


def test_a_chain_of_likenesses_is_no_clique():
    chain = graph(5, [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert len(largest_clique(chain)) == 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_planted_clique_among_64_pictures_is_found_in_time(share):
    near = np.triu(np.random.default_rng(5).random((64, 64)) < share, 1)
    near |= near.T
    planted = np.arange(3, 63, 2)
    near[np.ix_(planted, planted)] = True
    found = largest_clique(near)
    assert len(found) >= len(planted)
    assert (near | np.eye(64, dtype=bool))[np.ix_(found, found)].all()


def test_what_is_no_graph_is_refused():
    with pytest.raises(ValueError, match="symmetric"):
        largest_clique(np.array([[False, True], [False, False]]))
    with pytest.raises(ValueError, match="symmetric"):
        largest_clique(np.zeros((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="more than"):
        largest_clique(np.zeros((MAX_NODES + 1,) * 2, dtype=bool))
