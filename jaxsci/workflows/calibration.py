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
