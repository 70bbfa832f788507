"""Decision trees as plain arrays: grown by scikit-learn, kept without pickle, asked for the leaf that a row falls into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wind_kedro.models.base import load_arrays

Ints = NDArray[np.int32]

#: What scikit-learn writes for the children of a leaf.
LEAF = -1


@dataclass(frozen=True)
class Trees:
    """Trees one after the other; a node's children are numbered within its tree.

    Attributes:
        starts: index of each tree's first node, and at the end the number of nodes.
        feature: column of the matrix that a node splits by.
        threshold: rows up to it go left.
        left: left child, `LEAF` where there is none.
        right: right child, `LEAF` where there is none.
        missing_left: whether a missing value goes left.
        cover: how many of the rows learnt from came by a node.
        columns: of the matrix.
    """

    starts: Ints
    feature: Ints
    threshold: NDArray[np.float64]
    left: Ints
    right: Ints
    missing_left: NDArray[np.uint8]
    cover: Ints
    columns: int
    _native: list[Any] = field(default_factory=list, compare=False, repr=False)

    @classmethod
    def grown(cls, trees: Sequence[Any]) -> Self:
        """From scikit-learn's own: each the ``tree_`` of a fitted decision tree."""
        nodes = [tree.__getstate__()["nodes"] for tree in trees]
        joined = np.concatenate(nodes)
        return cls(
            starts=np.cumsum([0] + [len(part) for part in nodes]).astype(np.int32),
            feature=joined["feature"].astype(np.int32),
            threshold=joined["threshold"].astype(np.float64),
            left=joined["left_child"].astype(np.int32),
            right=joined["right_child"].astype(np.int32),
            missing_left=joined["missing_go_to_left"].astype(np.uint8),
            cover=joined["n_node_samples"].astype(np.int32),
            columns=int(trees[0].n_features),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def nodes(self) -> int:
        """Of all trees."""
        return int(self.starts[-1])

    def leaves(self, matrix: NDArray[np.float32]) -> Ints:
        """The leaf of each row in each tree, numbered over all trees: shape (rows, trees)."""
        if not self._native:
            self._native.extend(self._tree(number) for number in range(len(self)))
        matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        leaves = np.empty((len(matrix), len(self)), dtype=np.int32)
        for number, tree in enumerate(self._native):
            leaves[:, number] = tree.apply(matrix)
        return leaves + self.starts[:-1]

    def _tree(self, number: int) -> Any:
        """One tree in scikit-learn's own form, whose walk is compiled."""
        from sklearn.tree._tree import NODE_DTYPE, Tree

        own = slice(int(self.starts[number]), int(self.starts[number + 1]))
        nodes = np.zeros(own.stop - own.start, dtype=NODE_DTYPE)
        nodes["feature"], nodes["threshold"] = self.feature[own], self.threshold[own]
        nodes["left_child"], nodes["right_child"] = self.left[own], self.right[own]
        nodes["missing_go_to_left"] = self.missing_left[own]
        tree = Tree(self.columns, np.ones(1, dtype=np.intp), 1)
        tree.__setstate__({"max_depth": 0, "node_count": len(nodes), "nodes": nodes, "values": np.zeros((len(nodes), 1, 1))})
        return tree

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is to be kept, by name."""
        return {f"tree_{part.name}": np.asarray(getattr(self, part.name)) for part in fields(self) if part.compare}

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict[str, NDArray[Any]]]:
        """The trees of an ``.npz`` and the arrays that lie beside them.

        Raises:
            ValueError: if they are no trees, or of an older version. scikit-learn walks without looking: a child or column that
                is not there would be read from memory that is not the model's.
        """
        stored: dict[str, NDArray[Any]] = dict(load_arrays(path))
        own: dict[str, Any] = {name.removeprefix("tree_"): stored.pop(name) for name in list(stored) if name.startswith("tree_")}
        if "cover" not in own:
            raise ValueError(f"{path}: trees of an older version, without the number of rows of each node: train again")
        trees = cls(**own | {"columns": int(own["columns"])})
        if fault := trees._fault():
            raise ValueError(f"{path}: {fault}")
        return trees, stored

    def _fault(self) -> str:
        sizes = np.diff(self.starts)
        arrays = (self.feature, self.threshold, self.left, self.right, self.missing_left, self.cover)
        if self.starts[0] != 0 or (sizes < 1).any() or any(len(values) != self.nodes for values in arrays):
            return "the trees and their nodes do not fit together"
        number = np.arange(self.nodes) - np.repeat(self.starts[:-1], sizes)
        inner = self.left != LEAF
        last = np.repeat(sizes, sizes)[inner]
        for child in (self.left[inner], self.right[inner]):
            # Children come after their parent: every walk ends.
            if ((child <= number[inner]) | (child >= last)).any():
                return "a node's child is not in its tree"
        if ((self.feature[inner] < 0) | (self.feature[inner] >= self.columns)).any():
            return "a node splits by a column that there is not"
        return ""


def grow(matrix: NDArray[np.float32], target: NDArray[np.float64], seed: int, **settings: Any) -> Any:
    """One extra-random tree (Geurts, Ernst and Wehenkel, Machine Learning 63, 2006) as scikit-learn's ``tree_``."""
    from sklearn.tree import ExtraTreeRegressor

    return ExtraTreeRegressor(random_state=seed, **settings).fit(matrix, target).tree_
