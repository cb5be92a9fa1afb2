"""Which configurations a test drops, given costs on common blocks: Friedman with Conover's post-hoc, t-tests, Wilcoxon.

Decisions are those of irace (Lopez-Ibanez et al. 2016, doi 10.1016/j.orp.2016.09.002) on the same costs. Rows are
blocks (an instance with a seed), columns configurations, small is good.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from scipy.stats import rankdata

from jaxsci.racing.bayesian import probability_best

Test = Literal["friedman", "t", "t-bonferroni", "t-holm", "bayes"]
TESTS: tuple[Test, ...] = ("friedman", "t", "t-bonferroni", "t-holm", "bayes")

_SAME_MEAN = 1.5e-8  # relative; R's all.equal
_NO_VARIANCE = 10 * np.finfo(float).eps
_EXACT_BELOW = 50  # blocks for which R's Wilcoxon test is exact


class Verdict(NamedTuple):
    """`ranks` order the configurations, the least is the best: rank sums (Friedman), 1 and 2 (two of them), means (t)
    or minus P(best). `p` is NaN where nothing can be tested.
    """

    alive: Bool[np.ndarray, " n"]
    ranks: Float[np.ndarray, " n"]
    p: float


def decide(costs: Float[np.ndarray, "k n"], test: Test = "friedman", confidence: float = 0.95) -> Verdict:
    """The verdict of `test` on n configurations after k blocks."""
    costs, alpha = np.asarray(costs, float), 1.0 - confidence
    if costs.shape[1] == 1:
        return Verdict(np.ones(1, bool), np.ones(1), np.nan)
    if test == "friedman":
        return wilcoxon(costs, alpha) if costs.shape[1] == 2 else friedman(costs, alpha)
    if test == "bayes":
        best = probability_best(costs)
        return Verdict(best >= alpha / costs.shape[1], -best, float(best.min()))
    return paired_t(costs, alpha, {"t": "none", "t-bonferroni": "bonferroni", "t-holm": "holm"}[test])


def friedman(costs: Float[np.ndarray, "k n"], alpha: float) -> Verdict:
    """Friedman's test with ties; if it rejects, Conover's comparison of each with the best (Conover 1999, p. 369-371).

    T = (n - 1) sum_j (R_j - k (n + 1) / 2)^2 / (A - k n (n + 1)^2 / 4)  ~ chi2 with n - 1 degrees of freedom.
    """
    k, n = costs.shape
    ranks = rankdata(costs, axis=1)
    sums = ranks.sum(0)
    squares = float(np.sum(ranks**2))
    spread = squares - k * n * (n + 1) ** 2 / 4
    alive = np.ones(n, bool)
    if spread <= 0:  # every block ties everything
        return Verdict(alive, sums, np.nan)
    statistic = (n - 1) * float(np.sum((sums - k * (n + 1) / 2) ** 2)) / spread
    p = float(stats.chi2.sf(statistic, n - 1))
    if p < alpha:
        freedom = (k - 1) * (n - 1)
        quantile = stats.t.ppf(1 - alpha / 2, freedom)
        margin = quantile * np.sqrt(max(2 * (k * squares - float(np.sum(sums**2))) / freedom, 0.0))
        alive = ~(np.abs(sums - sums.min()) > margin)
    return Verdict(alive, sums, p)


def wilcoxon(costs: Float[np.ndarray, "k 2"], alpha: float) -> Verdict:
    """Two configurations: signed ranks. One that is nowhere better is dropped without a test, as irace does."""
    difference = costs[:, 0] - costs[:, 1]
    if np.all(difference <= 0) or np.all(difference >= 0):
        first, p = bool(np.all(difference <= 0)), 0.0
    else:
        nonzero = difference[difference != 0]
        sizes = rankdata(np.abs(nonzero))
        exact = len(nonzero) == len(difference) < _EXACT_BELOW and len(np.unique(np.abs(nonzero))) == len(nonzero)
        p = _signed_rank(nonzero, sizes, exact)
        pairs = (nonzero[:, None] + nonzero[None, :]) / 2
        first = bool(np.median(pairs[np.triu_indices(len(nonzero))]) <= 0)
    order = np.array([1.0, 2.0] if first else [2.0, 1.0])
    return Verdict(np.array([first, not first]) | (p >= alpha), order, p)


def _signed_rank(nonzero: Float[np.ndarray, " m"], sizes: Float[np.ndarray, " m"], exact: bool) -> float:
    """Two-sided p of Wilcoxon's signed rank test; with ties, the normal approximation corrected for continuity."""
    m = len(nonzero)
    positive = float(sizes[nonzero > 0].sum())
    if exact:
        counts = np.zeros(m * (m + 1) // 2 + 1)
        counts[0] = 1.0
        for rank in range(1, m + 1):
            counts[rank:] = counts[rank:] + counts[:-rank]
        below = np.cumsum(counts) / 2.0**m
        mean, place = m * (m + 1) / 4, round(positive)
        tail = 1.0 - below[place - 1] if positive > mean else below[place]
        return float(min(2 * tail, 1.0))
    _, tied = np.unique(sizes, return_counts=True)
    deviation = np.sqrt(m * (m + 1) * (2 * m + 1) / 24 - np.sum(tied**3 - tied) / 48)
    centred = positive - m * (m + 1) / 4
    return float(2 * stats.norm.sf(abs(centred - np.sign(centred) * 0.5) / deviation))


def paired_t(costs: Float[np.ndarray, "k n"], alpha: float, adjust: str) -> Verdict:
    """Paired t-tests of each against the one with the least mean; the adjustment counts the best's own p of 1."""
    k, n = costs.shape
    means = costs.mean(0)
    best = int(np.argmin(means))
    p = np.ones(n)
    for j in range(n):
        if j == best or abs(means[j] - means[best]) <= _SAME_MEAN * abs(means[best]):
            continue
        variances = np.var(costs[:, [best, j]], axis=0, ddof=1) if k > 1 else np.zeros(2)
        if variances.min() < _NO_VARIANCE or np.all(costs[:, best] <= costs[:, j]):
            p[j] = 0.0
            continue
        difference = costs[:, best] - costs[:, j]
        deviation = difference.std(ddof=1)
        if deviation < _NO_VARIANCE * max(abs(means[best]), abs(means[j])):
            p[j] = 0.0
        else:
            p[j] = 2 * stats.t.sf(abs(difference.mean()) / deviation * np.sqrt(k), k - 1)
    p = holm(p) if adjust == "holm" else np.minimum(p * n, 1.0) if adjust == "bonferroni" else p
    return Verdict(p >= alpha, means, float(p.min()))


def holm(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Holm's step-down adjustment (1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty_like(steps)
    adjusted[order] = steps
    return adjusted


def final_ranks(costs: Float[np.ndarray, "k n"], test: Test) -> Float[np.ndarray, " n"]:
    """Ranks of configurations run on different numbers of blocks (NaN where not): more blocks first, then the test's
    own criterion on the blocks that all of the same number share.
    """
    counts = np.sum(~np.isnan(costs), axis=0)
    ranks, last = np.zeros(costs.shape[1]), 0.0
    for count in sorted(set(counts), reverse=True):
        group = np.flatnonzero(counts == count)
        shared = costs[:, group][~np.isnan(costs[:, group]).any(axis=1)]
        if len(group) == 1 or len(shared) == 0:
            inside = np.ones(len(group))
        elif test == "friedman":
            inside = rankdata(rankdata(shared, axis=1).sum(0), method="min")
        else:
            inside = rankdata(shared.mean(0), method="min")
        ranks[group] = inside + last
        last = float(ranks[group].max())
    return ranks
