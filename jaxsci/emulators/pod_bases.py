"""The leading right singular vectors of a snapshot matrix: whole, by its Gram matrix, sketched, or streamed."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

Method = Literal["svd", "snapshots", "randomised", "streaming"]


class Leading(NamedTuple):
    """Right singular vectors as columns, the largest entry of each positive, and the singular values; largest first."""

    vectors: Float[np.ndarray, "points rank"]
    singular: Float[np.ndarray, " rank"]


def leading(matrix: Float[np.ndarray, "times points"], rank: int, method: Method = "svd", *, seed: int = 0) -> Leading:
    """The first `rank` right singular vectors (`svd`, `snapshots`: exact; `randomised`, `streaming`: nearly so)."""
    if method == "svd":
        _, singular, right = np.linalg.svd(matrix, full_matrices=False)
        found = Leading(right.T, singular)
    elif method == "snapshots":
        found = _by_gram(matrix)
    elif method == "randomised":
        found = _by_sketch(matrix, rank, seed=seed)
    else:
        found = streamed(np.array_split(matrix, max(len(matrix) // max(2 * rank, 1), 1)), rank + 10)
    return sign_fixed(Leading(found.vectors[:, :rank], found.singular[:rank]))


def sign_fixed(found: Leading) -> Leading:
    """The same modes whatever the library underneath: the entry of largest magnitude is positive."""
    largest = np.argmax(np.abs(found.vectors), axis=0)
    signs = np.sign(found.vectors[largest, np.arange(found.vectors.shape[1])])
    return Leading(found.vectors * np.where(signs == 0, 1, signs), found.singular)


def _by_gram(matrix: Float[np.ndarray, "times points"]) -> Leading:
    """Sirovich's method of snapshots, on whichever of `X X'` and `X' X` is smaller.

    Singular values below about 1e-8 of the largest (in float64) drown in rounding, as their squares do.
    """
    times, points = matrix.shape
    gram = matrix @ matrix.T if times < points else matrix.T @ matrix
    values, vectors = np.linalg.eigh(gram)
    singular, vectors = np.sqrt(np.maximum(values[::-1], 0)), vectors[:, ::-1]
    if times >= points:
        return Leading(vectors, singular)
    return Leading(matrix.T @ vectors / np.where(singular > 0, singular, 1), singular)


def _by_sketch(
    matrix: Float[np.ndarray, "times points"], rank: int, *, extra: int = 20, powers: int = 3, seed: int = 0
) -> Leading:
    """Halko, Martinsson and Tropp 2011, SIAM Rev. 53, 217-288, algorithms 4.4 and 5.1.

    Three power iterations, orthonormalised, leave errors far below the first singular value left out.
    """
    rng = np.random.default_rng(seed)
    width = min(rank + extra, *matrix.shape)
    sample = matrix @ rng.standard_normal((matrix.shape[1], width)).astype(matrix.dtype)
    for _ in range(powers):
        sample = matrix @ np.linalg.qr(matrix.T @ np.linalg.qr(sample)[0])[0]
    basis = np.linalg.qr(sample)[0]
    _, singular, right = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    return Leading(right.T, singular)


def streamed(batches: Iterable[Float[np.ndarray, "_ points"]], rank: int) -> Leading:
    """Snapshots a batch at a time, in one pass; never more than `rank` vectors and a batch in memory.

    Each batch joins what is kept of those before it, `diag(s) V'`, and is truncated again: exact where the data have no
    more than `rank` dimensions. Source: Brand 2002, ECCV; Levy and Lindenbaum 2000, IEEE Trans. Image Process. 9,
    1371-1374, without forgetting.
    """
    kept: Leading | None = None
    for batch in batches:
        rows = batch if kept is None else np.concatenate([(kept.vectors * kept.singular).T, batch])
        _, singular, right = np.linalg.svd(rows, full_matrices=False)
        kept = Leading(right[:rank].T, singular[:rank])
    if kept is None:
        raise ValueError("batches: expected one or more, got none")
    return sign_fixed(kept)
