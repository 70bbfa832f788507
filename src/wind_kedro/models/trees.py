"""Decision trees as plain arrays: grown by scikit-learn, stored without pickle, asked for the leaf that a row falls into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wind_kedro.models.base import load_arrays, save_arrays
from wind_kedro.models.tabular import ColumnForecaster, Matrix

Ints = NDArray[np.int32]

ARTEFACT = "trees.npz"
#: What scikit-learn writes for the children of a leaf.
LEAF = -1
#: Rows that are followed through all trees together: bounds the memory.
ROWS_AT_ONCE = 2000


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
        cover: how many of the training rows passed a node.
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

    @classmethod
    def grown(cls, trees: Sequence[Any]) -> Self:
        """From scikit-learn's own: each the ``tree_`` of a fitted decision tree."""

        def joined(name: str, dtype: type) -> NDArray[Any]:
            return np.concatenate([getattr(tree, name) for tree in trees]).astype(dtype)

        return cls(
            starts=np.cumsum([0, *(tree.node_count for tree in trees)]).astype(np.int32),
            feature=joined("feature", np.int32),
            threshold=joined("threshold", np.float64),
            left=joined("children_left", np.int32),
            right=joined("children_right", np.int32),
            missing_left=joined("missing_go_to_left", np.uint8),
            cover=joined("n_node_samples", np.int32),
            columns=int(trees[0].n_features),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def nodes(self) -> int:
        """Of all trees."""
        return int(self.starts[-1])

    def leaves(self, matrix: Matrix) -> Ints:
        """The leaf of each row in each tree, numbered over all trees: shape (rows, trees)."""
        matrix = np.asarray(matrix, dtype=np.float32)
        found = np.empty((len(matrix), len(self)), dtype=np.int32)
        for start in range(0, len(matrix), ROWS_AT_ONCE):
            rows = matrix[start : start + ROWS_AT_ONCE]
            first = np.tile(self.starts[:-1], len(rows))
            row = np.repeat(np.arange(len(rows)), len(self))
            node, walking = first.copy(), np.arange(first.size)
            while len(walking := walking[self.left[node[walking]] != LEAF]):
                at = node[walking]
                value = rows[row[walking], self.feature[at]]
                goes_left = np.where(np.isnan(value), self.missing_left[at].astype(bool), value <= self.threshold[at])
                node[walking] = first[walking] + np.where(goes_left, self.left[at], self.right[at])
            found[start : start + ROWS_AT_ONCE] = node.reshape(len(rows), len(self))
        return found

    def save(self, path: Path) -> None:
        """Write the trees as ``.npz``."""
        save_arrays(path, {part.name: np.asarray(getattr(self, part.name)) for part in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: if they are no trees, such as where a child or column that a node names is not there.
        """
        stored: dict[str, Any] = load_arrays(path)
        trees = cls(**stored | {"columns": int(stored["columns"])})
        if fault := trees._fault():
            raise ValueError(f"{path}: {fault}")
        return trees

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


class TreeForecaster(ColumnForecaster):
    """A family of trees that are grown by scikit-learn."""

    _trees: Trees

    def _save(self, folder: Path) -> None:
        super()._save(folder)
        self._trees.save(folder / ARTEFACT)

    def _load(self, folder: Path) -> None:
        super()._load(folder)
        self._trees = Trees.load(folder / ARTEFACT)


def grow(matrix: NDArray[np.float32], target: NDArray[np.float64], seed: int, **settings: Any) -> Any:
    """One extra-random tree (Geurts, Ernst and Wehenkel, Machine Learning 63, 2006) as scikit-learn's ``tree_``."""
    from sklearn.tree import ExtraTreeRegressor

    return ExtraTreeRegressor(random_state=seed, **settings).fit(matrix, target).tree_
