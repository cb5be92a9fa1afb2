"""Forecasts that need no model. Any emulator has to be better than these to be worth its name."""

import numpy as np
from jaxtyping import Float


def persistence(anomalies: Float[np.ndarray, "days points"], leads: int) -> Float[np.ndarray, "leads days points"]:
    """Today's anomaly for every lead: the forecast for `t + lead` is the field of exactly day `t`."""
    return np.broadcast_to(anomalies, (leads, *anomalies.shape))


def damping_factors(
    anomalies: Float[np.ndarray, "days points"], weights: Float[np.ndarray, " points"], leads: int
) -> Float[np.ndarray, " leads"]:
    """One least-squares factor per lead, `<x(t), x(t + lead)> / <x(t), x(t)>` over the given (training) days."""
    factors = []
    for lead in range(1, leads + 1):
        now, later = anomalies[:-lead], anomalies[lead:]
        factors.append(np.sum(weights * now * later) / np.sum(weights * now * now))
    return np.array(factors)


def damped_persistence(
    anomalies: Float[np.ndarray, "days points"], factors: Float[np.ndarray, " leads"]
) -> Float[np.ndarray, "leads days points"]:
    """Today's anomaly, shrunk towards climatology lead by lead."""
    return factors[:, None, None] * anomalies
