"""Model error in strong-constraint 4D-Var on delay coordinates, and the background covariance that cycling settles on.

Strong-constraint 4D-Var assumes a perfect model. A delay state `z = (x_t, x_{t-1}, ...)` offers a way to be honest
about an imperfect one: moving the *oldest* lags of the window's first state by `G q` changes the forecasts of the
window by any wanted `q`, exactly as an error of the model would, and by the window's end those lags have left the
state. Adding `G C G'` to the background covariance, with `C` the covariance of the emulator's error over the window
and `G` the minimum-norm right inverse of the tangent model's response, lets the control express that error. For a
linear emulator with more lags than the window has steps the analysis is then the weak-constraint (Kalman) one, while
the model stays a hard constraint and the driver stays unchanged.

Delay states are flattened newest day first; `modes` is the length of one day.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def first_absorbing(n: int, modes: int, window: int) -> int:
    """Where the lags begin that leave the state within the window (at the latest: right behind the newest day)."""
    return max(n - window * modes, modes)


def response_of_lags(tangent: Float[Array, "n n"], modes: int, window: int) -> Float[Array, "outputs oldest"]:
    """Response of the days 1..window to a change of the oldest lags of the first state."""
    first = first_absorbing(len(tangent), modes, window)
    power, rows = jnp.eye(len(tangent), dtype=tangent.dtype), []
    for _ in range(window):
        power = tangent @ power
        rows.append(power[:modes, first:])
    return jnp.concatenate(rows)


def accumulated_error(
    tangent: Float[Array, "n n"], error: Float[Array, "modes modes"], window: int
) -> Float[Array, "outputs outputs"]:
    """Covariance of the forecast errors of days 1..window when each day adds an independent error."""
    modes = len(error)
    power, impulse = jnp.eye(len(tangent), dtype=tangent.dtype), []
    for _ in range(window):
        impulse.append(power[:modes, :modes])
        power = tangent @ power
    blocks = [
        [impulse[row - column] if column <= row else jnp.zeros_like(error) for column in range(window)]
        for row in range(window)
    ]
    propagate = jnp.block(blocks)
    return propagate @ jnp.kron(jnp.eye(window, dtype=error.dtype), error) @ propagate.T


def absorb(
    covariance: Float[Array, "n n"],
    tangent: Float[Array, "n n"],
    error: Float[Array, "modes modes"],
    window: int,
    ridge: float,
) -> Float[Array, "n n"]:
    """The background covariance with the emulator's error over the window put on the oldest lags.

    `ridge` is relative to the mean squared response; it keeps lags from moving far for what they hardly control.
    """
    modes = len(error)
    if window == 0 or len(covariance) == modes:
        return covariance
    response = response_of_lags(tangent, modes, window)
    gram = response @ response.T
    gram = gram + ridge * jnp.trace(gram) / len(gram) * jnp.eye(len(gram), dtype=gram.dtype)
    inverse = jnp.linalg.solve(gram, response).T
    slack = inverse @ accumulated_error(tangent, error, window) @ inverse.T
    first = first_absorbing(len(covariance), modes, window)
    return covariance.at[first:, first:].add(slack)


def steady_background(
    tangent: Float[Array, "n n"],
    error: Float[Array, "modes modes"],
    operator: Float[Array, "stations modes"],
    observation_covariance: Float[Array, "stations stations"],
    *,
    window: int,
    ridge: float = 1e-5,
    iterations: int = 60,
) -> Float[Array, "n n"]:
    """Background covariance at the start of back-to-back windows of `window + 1` observed days, once cycling settles.

    Fixed point of: absorb model error, assimilate the window (Kalman form), forecast one day from its end.
    """
    modes, n = len(error), len(tangent)
    powers = [jnp.eye(n, dtype=tangent.dtype)]
    for _ in range(window):
        powers.append(tangent @ powers[-1])
    observed = jnp.concatenate([operator @ power[:modes] for power in powers])
    noise = jnp.kron(jnp.eye(window + 1, dtype=error.dtype), observation_covariance)

    def next_window(covariance: Array, _: None) -> tuple[Array, None]:
        prior = absorb(covariance, tangent, error, window, ridge)
        gain = jnp.linalg.solve(observed @ prior @ observed.T + noise, observed @ prior).T
        posterior = prior - gain @ observed @ prior
        end = powers[-1] @ posterior @ powers[-1].T
        forecast = (tangent @ end @ tangent.T).at[:modes, :modes].add(error)
        return (forecast + forecast.T) / 2, None

    start = jnp.kron(jnp.eye(n // modes, dtype=error.dtype), error)
    covariance, _ = lax.scan(next_window, start, length=iterations)
    return absorb(covariance, tangent, error, window, ridge)
