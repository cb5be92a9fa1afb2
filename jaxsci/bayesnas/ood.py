"""Telling unfamiliar inputs from familiar ones by a score that should be higher for them."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.bayesnas.ensemble import Nested, mixture
from jaxsci.bayesnas.uncertainty import entropy_split


class Detection(NamedTuple):
    """How well a score tells unfamiliar inputs from familiar ones; all in [0, 1]."""

    auroc: float
    """Probability that an unfamiliar input scores higher than a familiar one, ties half."""
    aupr: float
    """Average precision, unfamiliar inputs being the positives."""
    fpr95: float
    """Share of familiar inputs above the threshold that finds 95 % of the unfamiliar ones."""


def ood_scores(p: Nested) -> dict[str, Float[Array, " examples"]]:
    """Scores by name: lack of confidence, entropy, and the parts of it that come from the model."""
    split = entropy_split(p)
    return {
        "max_probability": 1 - jnp.max(mixture(p), axis=-1),
        "entropy": split.total,
        "mutual_information": split.architecture + split.weights,
        "architecture_information": split.architecture,
    }


def detection(familiar: Float[np.ndarray, " n"], unfamiliar: Float[np.ndarray, " m"]) -> Detection:
    """How well a score separates the two."""
    familiar, unfamiliar = np.asarray(familiar, np.float64), np.asarray(unfamiliar, np.float64)
    ordered = np.sort(familiar)
    below = np.searchsorted(ordered, unfamiliar, "left")
    ties = np.searchsorted(ordered, unfamiliar, "right") - below
    auroc = float(np.mean(below + ties / 2) / len(familiar))
    thresholds, counts = np.unique(unfamiliar, return_counts=True)
    found = np.cumsum(counts[::-1])[::-1]  # unfamiliar ones at or above each threshold
    wrong = len(familiar) - np.searchsorted(ordered, thresholds, "left")
    aupr = float(np.sum(counts * found / (found + wrong)) / len(unfamiliar))
    threshold = np.sort(unfamiliar)[int(np.floor(0.05 * len(unfamiliar)))]
    return Detection(auroc, aupr, float(np.mean(familiar >= threshold)))


def area_under_risk_coverage(p: Float[Array, "examples classes"], y: Int[Array, " examples"]) -> Float[Array, ""]:
    """Mean error rate over all coverages when the least confident predictions are withheld first (AURC)."""
    wrong = (jnp.argmax(p, axis=-1) != y).astype(p.dtype)
    order = jnp.argsort(-jnp.max(p, axis=-1))
    return jnp.mean(jnp.cumsum(wrong[order]) / jnp.arange(1, len(y) + 1))


def disagreement(p: Float[Array, "members examples classes"]) -> Float[Array, ""]:
    """Share of examples on which two members name different classes, mean over pairs."""
    named = jnp.argmax(p, axis=-1)
    members = len(p)
    different = jnp.mean(named[:, None] != named[None, :], axis=-1)
    return jnp.sum(different) / (members * (members - 1))


def deep_ensemble_equivalent(nll: float, nll_by_size: Float[np.ndarray, " sizes"]) -> float:
    """Size of the deep ensemble with this (calibrated) negative log-likelihood, linear between sizes 1, 2, ...

    Ashukha et al., arXiv:2002.06470. Sizes beyond the longest measured one are reported as that one.
    """
    best = np.minimum.accumulate(np.asarray(nll_by_size, np.float64))
    sizes = np.arange(1, len(best) + 1, dtype=np.float64)
    if nll >= best[0]:
        return 1.0
    # interp wants increasing abscissae; equal neighbours (no gain from one more member) keep the smallest size.
    falling = np.concatenate([[True], np.diff(best) < 0])
    return float(np.interp(-nll, -best[falling], sizes[falling]))
