"""By how much each column moved the sum of some trees: exact Shapley values, where a tree is a game of its columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wind_kedro.models.base import Array
from wind_kedro.models.trees import LEAF, Trees

#: Rows times conditions that are looked at together: bounds the memory.
CELLS_AT_ONCE = 4_000_000


class _Paths(NamedTuple):
    """Every way from a root to a leaf, as what it asks of columns: conditions of one column of one leaf follow each other."""

    node: NDArray[np.intp]  # inner node of each condition
    left: NDArray[np.bool_]  # whether the way goes left there
    starts: NDArray[np.intp]  # first condition of each pair of leaf and column
    column: NDArray[np.intp]  # of each pair
    share: Array  # of the rows at the leaf's other conditions, those that fulfil the pair's: product of the children's shares
    leaves: NDArray[np.intp]  # first pair of each leaf
    leaf: NDArray[np.intp]  # node of each leaf


def tree_shapley(trees: Trees, values: Array, matrix: NDArray[np.float32]) -> tuple[float, Array]:
    """The sum of the trees without any column known, and what each column adds: shape (rows, columns).

    A column that is not known is replaced by the rows that the trees have learnt from: they go to both children, in their
    shares (TreeSHAP, path dependent: Lundberg et al., Nature Machine Intelligence 2, 2020). In a leaf with value v, where columns
    j ask for conditions that a share z_j of the rows fulfils and o_j says whether this row does, column i is worth
    v·(o_i − z_i)·∫ Π_{j≠i} (z_j·(1 − t) + o_j·t) dt over t from 0 to 1: the integral of a polynomial, which the rule of Gauss
    and Legendre gives exactly. (The weight of k fulfilled of n − 1 others, k!(n − 1 − k)!/n!, is the integral of tᵏ(1 − t)ⁿ⁻¹⁻ᵏ.)

    Args:
        trees: with the rows behind each node.
        values: of each node over all trees; those of leaves count.
        matrix: rows, not-a-number where missing.
    """
    paths = _paths(trees)
    worth = values[paths.leaf]
    alone = np.setdiff1d(trees.starts[:-1], np.flatnonzero(trees.left != LEAF))
    base = float(values[alone].sum())
    added = np.zeros((len(matrix), trees.columns))
    if not len(paths.leaf):
        return base, added
    base += float((worth * np.multiply.reduceat(paths.share, paths.leaves)).sum())
    pairs = np.diff(paths.leaves, append=len(paths.share))
    of_leaf = np.repeat(np.arange(len(paths.leaves)), pairs)
    points, weights = np.polynomial.legendre.leggauss(int(pairs.max()) // 2 + 1)
    points, weights = (points + 1) / 2, weights / 2
    step = max(1, CELLS_AT_ONCE // len(paths.node))
    # Pairs in order of columns, so that each column's are summed in one go.
    order = np.argsort(paths.column, kind="stable")
    columns, first = np.unique(paths.column[order], return_index=True)
    for start in range(0, len(matrix), step):
        rows = matrix[start : start + step]
        x = rows[:, trees.feature[paths.node]]
        goes_left = np.where(np.isnan(x), trees.missing_left[paths.node].astype(bool), x <= trees.threshold[paths.node])
        fulfilled = np.logical_and.reduceat(goes_left == paths.left, paths.starts, axis=1).astype(float)
        integral = np.zeros_like(fulfilled)
        for point, weight in zip(points, weights, strict=True):
            factor = paths.share * (1 - point) + fulfilled * point
            integral += weight * np.multiply.reduceat(factor, paths.leaves, axis=1)[:, of_leaf] / factor
        moved = worth[of_leaf] * (fulfilled - paths.share) * integral
        added[start : start + step, columns] = np.add.reduceat(moved[:, order], first, axis=1)
    return base, added


def _paths(trees: Trees) -> _Paths:
    """The conditions of every leaf but of trees that are a leaf only."""
    offset = np.repeat(trees.starts[:-1], np.diff(trees.starts))
    inner = np.flatnonzero(trees.left != LEAF)
    parent, is_left = np.full(trees.nodes, -1, dtype=np.intp), np.zeros(trees.nodes, dtype=bool)
    for children, left in ((trees.left, True), (trees.right, False)):
        nodes = children[inner] + offset[inner]
        parent[nodes], is_left[nodes] = inner, left
    leaf = np.flatnonzero((trees.left == LEAF) & (parent >= 0))
    owner, at = np.arange(len(leaf)), leaf
    owners: list[NDArray[np.intp]] = []
    children_of_way: list[NDArray[np.intp]] = []
    while len(at):  # a step nearer to the roots each time
        owners.append(owner)
        children_of_way.append(at)
        up = parent[parent[at]] >= 0
        owner, at = owner[up], parent[at][up]
    if not owners:
        nothing = np.empty(0, dtype=np.intp)
        return _Paths(nothing, nothing.astype(bool), nothing, nothing, np.empty(0), nothing, nothing)
    of, child = np.concatenate(owners), np.concatenate(children_of_way)
    column = trees.feature[parent[child]]
    order = np.lexsort((column, of))
    of, child, column = of[order], child[order], column[order]
    starts = np.flatnonzero(np.diff(of * trees.columns + column, prepend=-1))
    return _Paths(
        node=parent[child],
        left=is_left[child],
        starts=starts,
        column=column[starts].astype(np.intp),
        share=np.multiply.reduceat(trees.cover[child] / trees.cover[parent[child]], starts),
        leaves=np.flatnonzero(np.diff(of[starts], prepend=-1)),
        leaf=leaf,
    )
