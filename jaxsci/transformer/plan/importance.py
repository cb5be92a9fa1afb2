"""Which parameters of a search matter: shares of the variance that each explains, exact on the points at hand.

    y = mean + sum_i f_i(x_i) + rest,     importance_i = share of Var(y) that f_i explains

An additive model of all levels is fitted by least squares, without a surrogate between the values and their
explanation. On a full grid the f_i are the main effects of the functional analysis of variance and do not overlap.
Points that were rejected leave holes, parameters become correlated, and what two of them could both explain has to be
divided: by Shapley's rule, the mean over all orders in which parameters could have been added (Lindeman, Merenda and
Gold 1980, section 4.6; Hooker 2007 for the decomposition). The shares add up to R^2 of the additive model, and what is
missing to 1 is interaction.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsci.core.errors import DataError

MOST = 12  # parameters that vary: 2^12 small least squares take about a second
ROUNDING = 1e-10  # eigenvalues below this share of the largest are rounding, not variance


def importances(
    levels: Mapping[str, Sequence[Any]], y: Sequence[float] | Float[np.ndarray, " points"]
) -> dict[str, float]:
    """Share of the variance of `y` that each parameter explains; `levels` holds its value at every point.

    A parameter that does not vary explains nothing, nor does any where `y` does not vary. Raises `DataError` without
    points, for lengths that differ, and for more than 12 parameters that vary.
    """
    y = np.asarray(y, float)
    for name, values in levels.items():
        if len(values) != len(y):
            raise DataError(f"importances: {len(y)} results, but {len(values)} values of {name}")
    if not len(y):
        raise DataError("importances: expected at least one point, got none")
    shares = dict.fromkeys(levels, 0.0)
    varying = [name for name, values in levels.items() if len(set(values)) > 1]
    if len(varying) > MOST:
        raise DataError(f"importances: at most {MOST} parameters may vary, got {len(varying)}")
    centred = y - y.mean()
    if not varying or np.ptp(y) <= 1e-12 * np.abs(y).max():
        return shares
    explained = _explained([_indicators(levels[name]) for name in varying], centred)
    n = len(varying)
    for i, name in enumerate(varying):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            for group in combinations(others, size):
                shares[name] += weight * (explained[frozenset((*group, i))] - explained[frozenset(group)])
    return {name: max(share, 0.0) for name, share in shares.items()}  # rounding below zero


def _indicators(values: Sequence[Any]) -> Float[np.ndarray, "points levels"]:
    """A centred column for each level but one: 1 where the point has it."""
    first, *rest = dict.fromkeys(values)
    columns = np.array([[value == level for level in rest] for value in values], float)
    return columns - columns.mean(0)


def _explained(
    columns: list[Float[np.ndarray, "points levels"]], y: Float[np.ndarray, " points"]
) -> dict[frozenset[int], float]:
    """R^2 of the additive model of every subset of parameters."""
    design = np.concatenate(columns, axis=1)
    gram, moment, total = design.T @ design, design.T @ y, y @ y
    ends = np.cumsum([0, *(c.shape[1] for c in columns)])
    found = {frozenset[int](): 0.0}
    for size in range(1, len(columns) + 1):
        for group in combinations(range(len(columns)), size):
            use = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in group])
            solution = np.linalg.pinv(gram[np.ix_(use, use)], rcond=ROUNDING, hermitian=True) @ moment[use]
            found[frozenset(group)] = float(moment[use] @ solution / total)
    return found
