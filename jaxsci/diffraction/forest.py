"""A random forest for a few features and some thousand samples (Breiman, Machine Learning 45, 5 (2001)).

Here because the baseline must run wherever the networks run. Trees grow level by level on features cut into quantile
bins; a level's best splits come from one histogram. The tests compare it with scikit-learn's.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxsci.core.config import positive

BINS = 128


class Tree(NamedTuple):
    """Nodes in order of creation, the root first. A leaf has feature -1."""

    feature: Int[np.ndarray, " nodes"]
    threshold: Float[np.ndarray, " nodes"]
    """Values at or below go to `child`, the others to `child + 1`."""
    child: Int[np.ndarray, " nodes"]
    shares: Float[np.ndarray, "nodes classes"]
    """Of the classes among the training samples that came to the node."""


@dataclass(frozen=True)
class ForestConfig:
    """`trees` of at most `depth` levels; a node tries the square root of the features' number, as is usual."""

    trees: int = 300
    depth: int = 24

    def __post_init__(self) -> None:
        positive(self, "trees", "depth")


def fit_forest(
    features: Float[np.ndarray, "samples features"],
    labels: Int[np.ndarray, " samples"],
    classes: int,
    config: ForestConfig,
    *,
    seed: int,
) -> list[Tree]:
    """Each tree from its own bootstrap sample, grown until its leaves are pure."""
    edges = np.quantile(features, np.linspace(0, 1, BINS + 1)[1:-1], axis=0).T
    binned = np.stack([np.searchsorted(e, column) for e, column in zip(edges, features.T, strict=True)], axis=1)
    generators = [np.random.default_rng([seed, tree]) for tree in range(config.trees)]
    return [_grow(binned, edges, labels, classes, config.depth, rng) for rng in generators]


def predict_forest(forest: list[Tree], features: Float[np.ndarray, "samples features"]) -> np.ndarray:
    """Class probabilities, (samples, classes): the mean over trees of the leaves' shares."""
    total = np.zeros((len(features), forest[0].shares.shape[1]))
    rows = np.arange(len(features))
    for tree in forest:
        node = np.zeros(len(features), dtype=int)
        while (inner := tree.feature[node] >= 0).any():
            right = features[rows, tree.feature[node]] > tree.threshold[node]
            node = np.where(inner, tree.child[node] + right, node)
        total += tree.shares[node]
    return total / len(forest)


def _grow(
    binned: np.ndarray, edges: np.ndarray, labels: np.ndarray, classes: int, depth: int, rng: np.random.Generator
) -> Tree:
    drawn = rng.integers(0, len(labels), len(labels))
    data, target = binned[drawn], labels[drawn]
    count = data.shape[1]
    tried = max(int(np.sqrt(count)), 1)
    node = np.zeros(len(drawn), dtype=int)  # of every sample, among the level's nodes; -1 once in a leaf
    feature, threshold, child, shares = [], [], [], []
    width = 1
    for level in range(depth + 1):
        alive = node >= 0
        flat = (node[alive, None] * count + np.arange(count)) * BINS + data[alive]
        index = flat * classes + target[alive, None]
        histogram = np.bincount(index.ravel(), minlength=width * count * BINS * classes)
        histogram = histogram.reshape(width, count, BINS, classes)
        totals = histogram[:, 0].sum(axis=1)
        shares.append(totals / totals.sum(axis=1, keepdims=True))
        best_feature, best_bin, gain = _best_splits(histogram, totals, tried, rng)
        splits = (gain > 1e-9) & (level < depth)
        feature.append(np.where(splits, best_feature, -1))
        threshold.append(edges[best_feature, np.minimum(best_bin, BINS - 2)])
        first = sum(map(len, feature))
        child.append(np.where(splits, first + 2 * (np.cumsum(splits) - 1), -1))
        if not splits.any():
            break
        place = np.cumsum(splits) - 1
        at = node[alive]
        right = data[alive, best_feature[at]] > best_bin[at]
        node[alive] = np.where(splits[at], 2 * place[at] + right, -1)
        width = 2 * int(splits.sum())
    return Tree(*(np.concatenate(column) for column in (feature, threshold, child, shares)))


def _best_splits(
    histogram: np.ndarray, totals: np.ndarray, tried: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feature, bin and gain of each node's best split by Gini impurity, among `tried` features drawn for it."""
    left = histogram.cumsum(axis=2)[:, :, :-1].astype(float)
    right = totals[:, None, None] - left
    sizes_left, sizes_right = left.sum(-1), right.sum(-1)
    purity = np.square(left).sum(-1) / np.maximum(sizes_left, 1) + np.square(right).sum(-1) / np.maximum(sizes_right, 1)
    purity[(sizes_left == 0) | (sizes_right == 0)] = -1.0
    allowed = rng.random(purity.shape[:2]).argsort(axis=1) < tried
    purity[~allowed] = -1.0
    flat = purity.reshape(len(purity), -1)
    best = flat.argmax(axis=1)
    parent = np.square(totals).sum(-1) / totals.sum(-1)
    return best // purity.shape[2], best % purity.shape[2], flat[np.arange(len(flat)), best] - parent
