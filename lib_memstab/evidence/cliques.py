"""The largest clique of a small graph, exactly: Bron and Kerbosch 1973 with the pivot of Tomita et al. 2006, bounded.

A node is a picture, an edge joins two that are near-duplicates. Sets of nodes are the bits of whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MAX_NODES = 512
"""A larger graph is refused: one prompt has not so many pictures, and the search is exponential at worst."""


def largest_clique(near: NDArray[np.bool_]) -> list[int]:
    """Nodes of a largest clique, rising, of a symmetric matrix [N, N] that says which two are joined.

    The diagonal does not count. A graph without edges has cliques of one node, one without nodes none. Of equal cliques
    the one that is found first is told, always the same.

    Raises:
        ValueError: for a matrix that is not square or not symmetric, or has more than `MAX_NODES` rows.
    """
    count = len(near)
    if near.ndim != 2 or near.shape != (count, count) or not np.array_equal(near, near.T):
        raise ValueError("a graph is a symmetric matrix: every two nodes are joined, or not, in both directions")
    if count > MAX_NODES:
        raise ValueError(f"{count} pictures of one prompt are more than {MAX_NODES}: leave some out")
    joined = near & ~np.eye(count, dtype=bool)
    neighbours = [sum(1 << int(other) for other in np.flatnonzero(row)) for row in joined]
    best = 0
    stack = [(0, (1 << count) - 1, 0)]
    while stack:
        clique, candidates, excluded = stack.pop()
        if not candidates:
            if not excluded and clique.bit_count() > best.bit_count():
                best = clique
            continue
        if clique.bit_count() + _colours(candidates, neighbours) <= best.bit_count():
            continue
        pivot = max(_bits(candidates | excluded), key=lambda node: (candidates & neighbours[node]).bit_count())
        branches = []
        for node in _bits(candidates & ~neighbours[pivot]):
            branches.append((clique | 1 << node, candidates & neighbours[node], excluded & neighbours[node]))
            candidates &= ~(1 << node)
            excluded |= 1 << node
        stack += reversed(branches)
    return list(_bits(best))


def _colours(nodes: int, neighbours: list[int]) -> int:
    """How many colours a greedy colouring needs so that no two joined nodes share one: no clique is larger."""
    count = 0
    while nodes:
        count += 1
        free = nodes
        while free:
            node = free & -free
            nodes ^= node
            free &= ~(neighbours[node.bit_length() - 1] | node)
    return count


def _bits(nodes: int) -> Iterator[int]:
    """The nodes of a set, rising."""
    while nodes:
        node = nodes & -nodes
        yield node.bit_length() - 1
        nodes ^= node
