"""What is each observation worth, are B and R right, where should stations stand? Diagnostics of 4D-Var on weather."""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from experiments import observing_system_report as pages
from experiments import weather
from jaxsci.assimilation.background import Background
from jaxsci.assimilation.daily import Analyser, analyse, analyse_network
from jaxsci.assimilation.diagnostics import Desroziers, degrees_of_freedom, desroziers
from jaxsci.assimilation.impact import observation_impact
from jaxsci.assimilation.observation import LinearOperator, Observations, whitening
from jaxsci.assimilation.placement import Placement, candidate_sensitivity, place
from jaxsci.assimilation.protocol import Network, observe_network
from jaxsci.assimilation.variational import Window, assimilate
from jaxsci.core.config import positive, require
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.emulators import ReducedField
from jaxsci.emulators.verification import rmse


@dataclass(frozen=True, kw_only=True)
class Config(weather.WeatherConfig):
    """`networks` of `stations` points are drawn at random, one more is placed; the placed one is looked into."""

    stations: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "stations")
        require(not self.data.companions, "data.companions", "none in this experiment", self.data.companions)


class Cycled(NamedTuple):
    """Windows of one network, one after the other (leading axis)."""

    impact: Float[Array, "windows times stations"]
    """Each observation's share in the change of the squared one-day forecast error; negative where it helped."""
    change: Float[Array, " windows"]
    """That change: forecast error from the analysis less that from the background, squared."""
    signal: Float[Array, " windows"]
    """Degrees of freedom for signal."""
    innovation: Float[Array, "windows stations"]
    """Observed less background, at the end of the window."""
    residual: Float[Array, "windows stations"]
    """Observed less analysis, likewise."""


class Errors(NamedTuple):
    """Analysis RMSE over the test days."""

    random: Float[np.ndarray, " networks"]
    """4D-Var from each random network."""
    random_oi: Float[np.ndarray, " networks"]
    placed: float
    placed_oi: float


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    seconds: dict[str, float] = {}
    with progress(4, "observing system") as steps:
        reduced = weather.load(config, config.stations)
        emulators = weather.train(config, reduced, run, seconds)
        analyser = weather.analyser(config, config.stations, reduced, emulators)
        placed = _place(config, analyser, reduced)
        steps.update(stage=f"{config.stations} stations placed")
        errors = _verify(config, analyser, reduced, placed.stations)
        steps.update(stage=f"verified: placed {errors.placed:.1f}, random {errors.random.mean():.1f}")
        found = _cycle(config, analyser, reduced, placed.stations)
        steps.update(stage=f"{len(found.signal)} windows looked into")
        implied = desroziers(found.innovation, found.residual)
        summary = _summary(config, analyser, placed, errors, found, implied, seconds)
        page = pages.report(config, run, reduced, analyser, placed, errors, found, implied)
        steps.update(stage="drawn")
    return summary, page


def _place(config: Config, analyser: Analyser, reduced: ReducedField) -> Placement:
    """Greedy choice among all grid points: the least expected analysis error, from a climatological background."""
    pod, lags = analyser.pod, analyser.emulator.lags
    climate = jnp.tile(jnp.sqrt(pod.variance), lags)
    background = Background(jnp.zeros(analyser.state_shape, climate.dtype), jnp.diag(climate))
    unresolved = jnp.sum(jnp.square(pod.truncated), axis=1)
    noise = jnp.sqrt(config.noise_std**2 + unresolved)

    @eqx.filter_jit
    def choose() -> Placement:
        sensitivity = candidate_sensitivity(
            analyser.emulator, background, LinearOperator(pod.modes), noise, config.window
        )

        def end(control: Array) -> Array:
            state = background(control)
            for _ in range(config.window):
                state = analyser.emulator(state)
            return state[0]

        target = jax.jacfwd(end)(jnp.zeros(background.controls, climate.dtype))
        return place(sensitivity, config.stations, target=target)  # the modes are orthonormal in the area weights

    return choose()


def _verify(config: Config, analyser: Analyser, reduced: ReducedField, placed: Int[Array, " stations"]) -> Errors:
    observed, keys = weather.observed_span(reduced), weather.network_keys(config)
    skip = weather.BURN_IN_DAYS - config.window
    weights = jnp.asarray(reduced.weights)

    @jax.jit
    def of_random(key: Array) -> tuple[Array, Array]:
        return scored(analyse(analyser, observed, key=key))

    @jax.jit
    def of_placed(key: Array) -> tuple[Array, Array]:
        network = observe_network(analyser.protocol, placed, observed, key=key)
        return scored(analyse_network(analyser, network, *analyser.operators(placed)))

    def scored(analyses) -> tuple[Array, Array]:
        truth = jnp.asarray(reduced.anomalies[reduced.split.test])[: analyses.state.shape[0] - skip]
        ours, theirs = (
            rmse(reduced.pod.decode(state[skip:, 0]) - truth, weights)
            for state in (analyses.state, analyses.interpolated)
        )
        return ours, theirs

    random, random_oi = (np.asarray(a) for a in jax.lax.map(of_random, keys))
    again, again_oi = (np.asarray(a) for a in jax.lax.map(of_placed, keys))  # the same stations, other noise
    return Errors(random, random_oi, float(np.sqrt(np.mean(again**2))), float(np.sqrt(np.mean(again_oi**2))))


def _cycle(config: Config, analyser: Analyser, reduced: ReducedField, placed: Int[Array, " stations"]) -> Cycled:
    """One chain of windows of the placed network over the test span, each looked into."""
    observed = weather.observed_span(reduced)
    network = observe_network(analyser.protocol, placed, observed, key=jax.random.key(config.seed))
    matrix, covariance = analyser.operators(placed)
    operator, whitener = LinearOperator(matrix), whitening(covariance)
    days = analyser.protocol.windows(len(observed) - 1)[0]  # a day must follow, to verify the forecast
    emulator, pod = analyser.emulator, analyser.pod
    weights = jnp.asarray(reduced.weights)

    @jax.jit
    def chain(network: Network) -> Cycled:
        root = analyser.background_root(matrix, covariance)

        def one(guess: Array, entry: tuple[Array, Array]) -> tuple[Array, Cycled]:
            values, tomorrow = entry
            window = Window(emulator, Background(guess, root), Observations(values, operator, whitener))
            solution = assimilate(window, analyser.method)

            def aspect(states: Array) -> Array:
                return jnp.mean(weights * jnp.square(pod.decode(emulator(states[-1])[0]) - tomorrow))

            free = window.trajectory(window.origin)
            looked = Cycled(
                observation_impact(window, solution.control, aspect),
                aspect(solution.value) - aspect(free),
                degrees_of_freedom(window, solution.control),
                values[-1] - operator(free[-1]),
                values[-1] - operator(solution.value[-1]),
            )
            return emulator(solution.value[-1]), looked

        first = jnp.zeros(analyser.state_shape, root.dtype)
        return lax.scan(one, first, (network.values[days], observed[days[:, -1] + 1]))[1]

    skip = weather.BURN_IN_DAYS // analyser.protocol.days_per_window
    return jax.tree.map(lambda a: a[skip:], chain(network))


def _summary(
    config: Config,
    analyser: Analyser,
    placed: Placement,
    errors: Errors,
    found: Cycled,
    implied: Desroziers,
    seconds: dict[str, float],
) -> Summary:
    _, assumed = analyser.operators(placed.stations)
    observations = config.stations * analyser.protocol.days_per_window
    random = float(np.sqrt(np.mean(errors.random**2)))
    metrics = {
        "rmse_placed_m": errors.placed,
        "rmse_random_m": random,
        "rmse_random_best_m": float(errors.random.min()),
        "rmse_oi_placed_m": errors.placed_oi,
        "rmse_oi_random_m": float(np.sqrt(np.mean(errors.random_oi**2))),
        "share_of_random_networks_beaten": float(np.mean(errors.random > errors.placed)),
        "degrees_of_freedom_for_signal": float(jnp.mean(found.signal)),
        "observations_per_window": float(observations),
        "signal_per_observation": float(jnp.mean(found.signal)) / observations,
        "helpful_share_of_observations": float(jnp.mean(found.impact < 0)),
        "impact_accounted_for": float(jnp.sum(found.impact) / jnp.sum(found.change)),
        "desroziers_r_over_assumed": float(jnp.trace(implied.observation) / jnp.trace(assumed)),
        "desroziers_observation_std_m": float(jnp.sqrt(jnp.maximum(jnp.mean(jnp.diagonal(implied.observation)), 0.0))),
        "assumed_observation_std_m": float(jnp.sqrt(jnp.mean(jnp.diagonal(assumed)))),
        "desroziers_background_std_m": float(jnp.sqrt(jnp.maximum(jnp.mean(jnp.diagonal(implied.background)), 0.0))),
    }
    references = {
        "rmse_placed_m": Reference(random, "random networks of as many stations", "lower"),
        "impact_accounted_for": Reference(1.0, "exact for a linear emulator"),
        "desroziers_r_over_assumed": Reference(1.0, "R right"),
    }
    notes = (
        "Stations are placed by what model, climate and noise say before any day is seen, and verified on test days.",
        "An observation's impact is its share in the change of the squared error of the one-day forecast, verified "
        "against the true field; the shares add up to the change exactly where the emulator is linear.",
        "Desroziers' estimate is of R at each window's end, from innovations and residuals of the test days alone.",
    )
    return Summary("observing_system", metrics, references, seconds, notes)
