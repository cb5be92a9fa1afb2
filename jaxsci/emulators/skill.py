"""How well a direct emulator forecasts from perfect initial states, and how it errs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.emulators.delay import DirectEmulator, delay_states, training_pairs
from jaxsci.emulators.reduced import ReducedField
from jaxsci.emulators.verification import rmse


@eqx.filter_jit
def forecast_all(
    emulator: DirectEmulator, states: Float[Array, "*cases lags modes"]
) -> Float[Array, "*cases leads modes"]:
    """Forecasts from many delay states at once."""
    flat = states.reshape(-1, *states.shape[-2:])
    return jax.vmap(emulator.forecast)(flat).reshape(*states.shape[:-2], emulator.leads, states.shape[-1])


def rmse_by_lead(emulator: DirectEmulator, reduced: ReducedField, span: slice) -> Float[np.ndarray, " leads"]:
    """RMSE in physical units at each lead, from every day of the span whose leads all lie in it."""
    states = delay_states(reduced.coefficients[span], emulator.lags)
    truth = reduced.anomalies[span]
    starts = len(truth) - emulator.lags - emulator.leads + 1
    forecasts = reduced.pod.decode(forecast_all(emulator, jnp.asarray(states[:starts])))
    first = emulator.lags  # the day after the first delay state
    errors = [forecasts[:, lead] - truth[first + lead : first + lead + starts] for lead in range(emulator.leads)]
    return np.array([rmse(error, jnp.asarray(reduced.weights)) for error in errors])


def one_day_error(emulator: DirectEmulator, reduced: ReducedField) -> Float[Array, "modes modes"]:
    """Covariance of the one-day forecast error: its shape from the training span, its size from the validation span.

    The training span has days enough for a matrix but flatters its own fit; the validation span corrects the trace.
    """
    train, validation = (
        _one_day_residuals(emulator, reduced.coefficients[span])
        for span in (reduced.split.train, reduced.split.validation)
    )
    size = jnp.mean(jnp.sum(jnp.square(validation), 1)) / jnp.mean(jnp.sum(jnp.square(train), 1))
    return size * train.T @ train / len(train)


def _one_day_residuals(
    emulator: DirectEmulator, coefficients: Float[np.ndarray, "days modes"]
) -> Float[Array, "samples modes"]:
    states, targets = training_pairs(coefficients, emulator.lags, 1)
    return jnp.asarray(targets[:, 0]) - forecast_all(emulator, jnp.asarray(states))[:, 0]
