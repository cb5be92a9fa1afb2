"""Probabilities that mean what they say: one temperature, fitted on runs no network was trained on.

Guo et al., arXiv:1706.04599.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar


def tempered(p: Float[np.ndarray, "*batch classes"], temperature: float) -> Float[np.ndarray, "*batch classes"]:
    """`p ** (1 / temperature)`, normalised: above 1 less sure, below 1 surer, order kept."""
    logits = np.log(np.maximum(p, 1e-12)) / temperature
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_odds_of_anomaly(p: Float[np.ndarray, "*batch classes"]) -> Float[np.ndarray, "*batch"]:
    """`log((1 - p_0) / p_0)` with class 0 the normal one; by the sum of the others, as p_0 may round to one."""
    p = np.maximum(p.astype(np.float64), 1e-30)
    return np.log(p[..., 1:].sum(axis=-1)) - np.log(p[..., 0])


def fit_temperature(p: Float[np.ndarray, "n classes"], y: Int[np.ndarray, "n"]) -> float:
    """The temperature with the least cross-entropy, between 1/20 and 20."""

    def cross_entropy(log_temperature: float) -> float:
        calm = tempered(p, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(calm[np.arange(len(y)), y], 1e-12)).mean())

    found = minimize_scalar(cross_entropy, bounds=(-np.log(20), np.log(20)), method="bounded")
    return float(np.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue]


def expected_calibration_error(p: Float[np.ndarray, "n classes"], y: Int[np.ndarray, "n"], bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over equal-width bins of confidence, weighted by their size."""
    confidence, right = p.max(axis=-1), p.argmax(axis=-1) == y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    size = np.bincount(place, minlength=bins)
    gap = np.abs(np.bincount(place, right - confidence, minlength=bins))
    return float(gap.sum() / max(size.sum(), 1))
