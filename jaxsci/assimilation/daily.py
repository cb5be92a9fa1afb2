"""Daily analyses of a reduced field from one network of stations: 4D-Var beside interpolation and the Kalman filter."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.assimilation.background import symmetric_root, tangent_matrix
from jaxsci.assimilation.cycling import cycle
from jaxsci.assimilation.interpolation import optimal_interpolation
from jaxsci.assimilation.kalman import Gaussian, LinearModel, kalman_filter
from jaxsci.assimilation.model_error import steady_background
from jaxsci.assimilation.observation import LinearOperator, Observations, station_covariance, whitening
from jaxsci.assimilation.protocol import ForecastProtocol, Network, draw_network
from jaxsci.assimilation.variational import GaussNewton, Minimiser, Solution, Window, posterior_root
from jaxsci.emulators.delay import DirectEmulator
from jaxsci.emulators.linear import LinearEmulator
from jaxsci.emulators.pod import Pod


class Analyser(eqx.Module):
    """What a series of analyses needs beside observations; all of it fitted without the test span.

    `pod` decodes what is verified, `joint` all that stations may report; they differ where the state has companion
    variables. `emulator_error` is the covariance of the emulator's one-day error in coefficient space, `linear_error`
    that of the linear model, on which the Kalman filter runs; `ridge` is that of `model_error.absorb`.
    """

    emulator: DirectEmulator
    linear: LinearEmulator
    pod: Pod
    joint: Pod
    emulator_error: Float[Array, "modes modes"]
    linear_error: Float[Array, "modes modes"]
    protocol: ForecastProtocol
    ridge: float = 1e-5
    method: Minimiser = GaussNewton()

    @property
    def state_shape(self) -> tuple[int, int]:
        return self.emulator.lags, self.pod.modes.shape[1]

    def operators(
        self, stations: Int[Array, " stations"]
    ) -> tuple[Float[Array, "observations modes"], Float[Array, "observations observations"]]:
        """Observation matrix on coefficients and R, with the truncated modes' variance in it."""
        columns = self.protocol.columns(stations, len(self.joint.modes))
        covariance = station_covariance(self.protocol.deviations(len(stations)), self.joint.truncated[columns])
        return self.joint.modes[columns], covariance

    def background_root(
        self, matrix: Float[Array, "observations modes"], covariance: Float[Array, "observations observations"]
    ) -> Float[Array, "n n"]:
        """Square root of the background covariance that cycling with this network settles on."""
        at_rest = jnp.zeros(self.state_shape, self.emulator_error.dtype)
        tangent = tangent_matrix(self.emulator, at_rest)
        return symmetric_root(
            steady_background(
                tangent,
                self.emulator_error,
                matrix,
                covariance,
                window=self.protocol.window,
                ridge=self.ridge,
            )
        )


class DailyAnalyses(NamedTuple):
    """One network's analyses. Entry `i` belongs to day `window + i` of the observed span."""

    network: Network
    state: Float[Array, "days lags modes"]
    """4D-Var delay state at the end of each day's window, newest day first."""
    background: Float[Array, "days modes"]
    """The forecast for that day from the previous window, before its observations."""
    interpolated: Float[Array, "days lags modes"]
    """Optimal interpolation of the same days, each day from its own observations."""
    filtered: Float[Array, "days linear_lags modes"]
    """The Kalman filter on the linear model: all observations up to the day, in the order they came."""
    filter_fit: Float[Array, " days"]
    """Its innovations' `d' (H P H' + R)^{-1} d / observations`, near one where its covariances are right."""
    spread: Float[Array, "days points"]
    """Posterior standard deviation of the 4D-Var analysis on the grid, truncated modes included."""
    fit: Float[Array, " days"]
    """`2 J / observations`, near one where B and R are right."""
    mahalanobis: Float[Array, " days"]
    """`|v|^2 / controls`: how far the analysis left the background, in its own standard deviations."""
    code: Int[Array, " days"]
    """How each minimisation ended; see `variational.RESULTS`."""


class _Diagnosis(NamedTuple):
    state: Float[Array, "lags modes"]
    background: Float[Array, " modes"]
    spread: Float[Array, " points"]
    fit: Float[Array, ""]
    mahalanobis: Float[Array, ""]
    code: Int[Array, ""]


def analyse(analyser: Analyser, truth: Float[Array, "days points"], *, key: PRNGKeyArray) -> DailyAnalyses:
    """`analyse_network` of stations drawn at random, from `truth`, anomalies of all variables. `vmap` over keys."""
    network = draw_network(analyser.protocol, truth, key=key)
    return analyse_network(analyser, network, *analyser.operators(network.stations))


def analyse_network(
    analyser: Analyser,
    network: Network,
    matrix: Float[Array, "observations modes"],
    covariance: Float[Array, "observations observations"],
) -> DailyAnalyses:
    """Every day from `window` on, from what the network measured: `matrix @ coefficients` with error R."""
    protocol = analyser.protocol
    root = analyser.background_root(matrix, covariance)
    first_guess = jnp.zeros(analyser.state_shape, root.dtype)

    operator = LinearOperator(matrix)
    whitener = whitening(covariance)

    def one_chain(values: Float[Array, "windows times stations"]) -> _Diagnosis:
        return cycle(
            analyser.emulator,
            root,
            first_guess,
            Observations(values, operator, whitener),
            diagnose=lambda window, solution: _diagnose(analyser, window, solution),
            method=analyser.method,
        )

    chains = jax.vmap(one_chain)(network.values[protocol.windows(len(network.values))])
    # Chain c, window j ends on day window + j (window + 1) + c: windows outside, chains inside is day order.
    by_day = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1).reshape(-1, *a.shape[2:]), chains)
    interpolated = optimal_interpolation(network.values, matrix, jnp.diag(analyser.pod.variance), covariance)
    days = protocol.window + jnp.arange(len(by_day.state))
    lagged = interpolated[jnp.maximum(days[:, None] - jnp.arange(analyser.emulator.lags), 0)]
    filtered, filter_fit = _filter(analyser, whitener @ matrix, network.values @ whitener.T)
    return DailyAnalyses(
        network,
        by_day.state,
        by_day.background,
        lagged,
        filtered[days],
        filter_fit[days],
        by_day.spread,
        by_day.fit,
        by_day.mahalanobis,
        by_day.code,
    )


def _filter(
    analyser: Analyser, operator: Float[Array, "observations modes"], values: Float[Array, "days observations"]
) -> tuple[Float[Array, "days lags modes"], Float[Array, " days"]]:
    """States and fit of the Kalman filter on the linear model, from climatology. `operator`, `values` are whitened."""
    linear, modes = analyser.linear, len(analyser.linear_error)
    n = linear.lags * modes
    model = LinearModel(
        tangent_matrix(linear, jnp.zeros((linear.lags, modes), operator.dtype)),
        jnp.zeros((n, n), operator.dtype).at[:modes, :modes].set(analyser.linear_error),
        jnp.zeros((len(operator), n), operator.dtype).at[:, :modes].set(operator),
        jnp.ones(len(operator), operator.dtype),
    )
    climate = jnp.kron(jnp.eye(linear.lags, dtype=operator.dtype), jnp.diag(analyser.pod.variance))
    found = kalman_filter(model, Gaussian(jnp.zeros(n, operator.dtype), climate), values)
    return found.state.mean.reshape(len(values), linear.lags, modes), found.fit


def _diagnose(analyser: Analyser, window: Window, solution: Solution) -> _Diagnosis:
    def analysed_day(control: Array) -> Float[Array, " modes"]:
        return window.trajectory(control)[-1, 0]

    sensitivity = jax.jacfwd(analysed_day)(solution.control)
    deviations = analyser.pod.modes @ (sensitivity @ posterior_root(window, solution.control))
    variance = jnp.sum(jnp.square(deviations), 1) + jnp.sum(jnp.square(analyser.pod.truncated), 1)
    return _Diagnosis(
        state=solution.value[-1],
        background=analysed_day(jnp.zeros_like(solution.control)),
        spread=jnp.sqrt(variance),
        fit=2 * solution.stats.cost / jnp.sum(window.observations.present),
        mahalanobis=jnp.mean(jnp.square(solution.control)),
        code=solution.code,
    )
