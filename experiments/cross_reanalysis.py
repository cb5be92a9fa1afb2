"""Real observation error: one reanalysis observes the state of another, and R is what their difference says."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments import cross_reanalysis_report as pages
from experiments import weather
from jaxsci.assimilation.daily import Analyser, DailyAnalyses, analyse_network
from jaxsci.assimilation.grid_operator import bilinear
from jaxsci.assimilation.protocol import ForecastProtocol, Network
from jaxsci.assimilation.scores import Scores, score
from jaxsci.assimilation.variational import GaussNewton
from jaxsci.core.config import positive, require
from jaxsci.core.errors import DataError
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.emulators import ReducedField, load_field, reduce_field
from jaxsci.emulators.fields import Field, Split
from jaxsci.emulators.skill import one_day_error
from jaxsci.emulators.verification import rmse

BURN_IN_DAYS = 10
FLOOR = 4.0  # variance added to the diagonal of the full R, which a year of days leaves nearly singular


@dataclass(frozen=True)
class ObservingConfig:
    """The field that observes; `path=None` is the packaged one. Its grid points within the other's grid are used."""

    path: str | None = None
    variable: str | None = None


@dataclass(frozen=True, kw_only=True)
class Config(weather.WeatherConfig):
    """`data` is the state. The days both fields have are kept from all fitting but that of the observation error.

    Of them the first `calibration_days` give bias and R, the rest are assimilated and verified. `data.test_days` and
    `noise_std` are not used.
    """

    observations: ObservingConfig = field(default_factory=ObservingConfig)
    calibration_days: int = 366
    stations: tuple[int, ...] = (5, 10, 25, 50, 130)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "calibration_days")
        require(len(self.stations) > 0 and min(self.stations) > 0, "stations", "numbers above 0", self.stations)


class Observed(NamedTuple):
    """What the observing field says, and how it errs."""

    places: Float[np.ndarray, "points 2"]
    """Latitude and longitude."""
    anomalies: Float[np.ndarray, "days points"]
    """Of the common days: less the state's climatology there, and less the bias."""
    matrix: Float[np.ndarray, "points grid"]
    """Bilinear interpolation from the state's grid."""
    error: Float[np.ndarray, "days points"]
    """Of the calibration days: observed less state, bias included."""
    bias: float

    @property
    def std(self) -> float:
        return float(np.std(self.error))

    def covariance(self, kind: str) -> np.ndarray:
        """R: one variance for all (`diagonal`), or the sample covariance of the errors (`full`)."""
        points = len(self.places)
        if kind == "diagonal":
            return self.std**2 * np.eye(points)
        centred = self.error - self.bias
        return centred.T @ centred / len(centred) + FLOOR * np.eye(points)


class Entry(NamedTuple):
    kind: str
    """Of R: "diagonal" or "full"."""
    stations: int
    scores: Scores
    by_network: dict[str, np.ndarray]
    """RMSE of each network's analyses: `oi`, `kalman`, `4dvar`."""
    overlap: dict[str, float]
    """RMSE of the analyses over the part of the grid that the observing field covers."""
    chi_square: float
    """Of the Kalman filter's innovations, per observation."""


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    state = load_field(config.data.path, config.data.variable)
    observing = load_field(config.observations.path, config.observations.variable)
    common, split = _spans(config, state, observing)
    reduced = reduce_field(state, split, modes=config.modes, harmonics=config.harmonics)
    observed = _observe(config, state, observing, reduced, common)
    seconds: dict[str, float] = {}
    emulators = weather.train(config, reduced, run, seconds)
    covered = _covered(state, observed.places)
    entries: list[Entry] = []
    with progress(2 * len(config.stations), "cross-reanalysis") as steps:
        for kind in ("diagonal", "full"):
            for count in config.stations:
                stations = min(count, len(observed.places))
                analyser = Analyser(
                    emulators.used,
                    emulators.linear,
                    reduced.pod,
                    reduced.joint,
                    one_day_error(emulators.used, reduced),
                    one_day_error(emulators.linear, reduced),
                    ForecastProtocol(config.window, stations, observed.std),
                    config.model_error_ridge,
                    GaussNewton(config.max_iterations, config.tolerance),
                )
                analyses = _analyse(config, analyser, observed, kind)
                truth = jnp.asarray(reduced.anomalies[split.test][: analyses.state.shape[1]])
                scores = score(reduced, emulators.linear, emulators.used, analyses, truth, config.leads)
                entries.append(_entry(kind, stations, reduced, analyses, truth, scores, covered))
                run.log({"rmse_oi": scores.interpolated, "rmse_kalman": scores.filtered}, len(entries))
                steps.update(stage=f"{kind} R, {stations} stations: {scores.analysis:.1f} m")
    return _summary(config, entries, observed, seconds), pages.report(config, run, observed, entries, reduced)


def _spans(config: Config, state: Field, observing: Field) -> tuple[slice, Split]:
    """The days both fields have, as days of the state; and what is fitted, chosen by and verified outside of them."""
    days, others = state.time.astype("datetime64[D]"), observing.time.astype("datetime64[D]")
    shared = np.flatnonzero(np.isin(days, others))
    shortest = config.calibration_days + BURN_IN_DAYS + config.leads + 30
    if len(shared) < shortest:
        raise DataError(
            f"observations.path: expected {shortest} days or more in common with the state "
            f"({days[0]} to {days[-1]}), got {len(shared)}"
        )
    common = slice(int(shared[0]), int(shared[-1]) + 1)
    before, after = slice(0, common.start), slice(common.stop, len(days))
    free = max(before, after, key=lambda span: span.stop - span.start)
    validation = min(config.data.validation_days, (free.stop - free.start) // 6)
    enough = 10 * (BURN_IN_DAYS + config.leads)
    require(free.stop - free.start >= enough, "data.path", f"{enough} days outside the observations'", free)
    edge = free.stop - validation
    test = slice(common.start + config.calibration_days + BURN_IN_DAYS, common.stop)
    return common, Split(slice(free.start, edge), slice(edge, free.stop), test)


def _observe(config: Config, state: Field, observing: Field, reduced: ReducedField, common: slice) -> Observed:
    grid = np.stack(np.meshgrid(observing.lat, observing.lon, indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
    low, high = (np.array([f(state.lat), f(state.lon)], float) for f in (np.min, np.max))
    inside = ((grid >= low - 1e-6) & (grid <= high + 1e-6)).all(axis=1)
    if not inside.any():
        raise DataError(f"observations.path: no point of its grid lies within {low.tolist()} to {high.tolist()}")
    places = grid[inside]
    operator = bilinear(state.lat, state.lon, np.clip(places, low, high))
    matrix = np.zeros((len(places), state.flat.shape[1]))
    np.add.at(matrix, (np.arange(len(places))[:, None], operator.indices), np.asarray(operator.weights))
    days = observing.time.astype("datetime64[D]")
    which = np.isin(days, state.time[common].astype("datetime64[D]"))
    values = observing.flat[which][:, inside]
    error = values - state.flat[common] @ matrix.T
    calibration = error[: config.calibration_days]
    if not calibration.std() > 0:
        raise DataError("observations.path: expected another field than the state, the two are equal")
    bias = float(calibration.mean())
    anomalies = values - bias - reduced.climatology(state.time[common]) @ matrix.T
    return Observed(places, anomalies, matrix, calibration, bias)


def _analyse(config: Config, analyser: Analyser, observed: Observed, kind: str) -> DailyAnalyses:
    """Random networks of the observing field's points, from the end of the calibration on, settled."""
    values = jnp.asarray(observed.anomalies[config.calibration_days :])
    matrix = jnp.asarray(observed.matrix)
    seen, rest = matrix @ analyser.pod.modes, matrix @ analyser.pod.truncated
    covariance = jnp.asarray(observed.covariance(kind)) + rest @ rest.T

    def one(key: jax.Array) -> DailyAnalyses:
        stations = jax.random.choice(key, len(matrix), (analyser.protocol.stations,), replace=False)
        network = Network(stations, values[:, stations])
        return analyse_network(analyser, network, seen[stations], covariance[jnp.ix_(stations, stations)])

    everything = analyser.protocol.stations == len(matrix)
    keys = weather.network_keys(replace(config, networks=1) if everything else config)
    return weather.settled(eqx.filter_jit(jax.vmap(one))(keys), BURN_IN_DAYS - config.window)


def _covered(state: Field, places: np.ndarray) -> np.ndarray:
    """Which points of the state's grid lie within the observing field's."""
    grid = np.stack(np.meshgrid(state.lat, state.lon, indexing="ij"), axis=-1).reshape(-1, 2)
    return ((grid >= places.min(0) - 1e-6) & (grid <= places.max(0) + 1e-6)).all(axis=1)


def _entry(
    kind: str,
    stations: int,
    reduced: ReducedField,
    analyses: DailyAnalyses,
    truth: jax.Array,
    scores: Scores,
    covered: np.ndarray,
) -> Entry:
    states = {"oi": analyses.interpolated, "kalman": analyses.filtered, "4dvar": analyses.state}
    errors = {name: reduced.pod.decode(state[:, :, 0]) - truth for name, state in states.items()}
    weights = jnp.asarray(reduced.weights)
    part = weights[covered] / weights[covered].mean()
    return Entry(
        kind,
        stations,
        scores,
        {name: np.array([rmse(one, weights) for one in error]) for name, error in errors.items()},
        {name: float(rmse(error[:, :, covered], part)) for name, error in errors.items()},
        float(jnp.mean(analyses.filter_fit)),
    )


def _summary(config: Config, entries: list[Entry], observed: Observed, seconds: dict[str, float]) -> Summary:
    metrics = {"bias_m": observed.bias, "observation_error_std_m": observed.std}
    metrics["error_correlation_lag1"] = lag_one_correlation(observed.error)
    references: dict[str, Reference] = {}
    for entry in entries:
        ending = f"{entry.kind}_m_{entry.stations}"
        for name, values in entry.by_network.items():
            metrics[f"rmse_{name}_{ending}"] = float(np.sqrt(np.mean(values**2)))
            metrics[f"rmse_{name}_overlap_{ending}"] = entry.overlap[name]
        for lead in range(1, config.leads + 1):
            for name, label in (("oi", "oi"), ("kalman", "kalman"), ("forecast", "4dvar")):
                metrics[f"rmse_{label}_day{lead}_{ending}"] = entry.scores.rmse[name][lead - 1]
        metrics[f"chi_square_{entry.kind}_{entry.stations}"] = entry.chi_square
        known = pages.REFERENCE.get((entry.kind, entry.stations))
        if known is not None:
            source = "computed apart on ERA-Interim and NCEP R1, VAR(1), 10 networks"
            references[f"rmse_oi_{ending}"] = Reference(known[0], source)
            references[f"rmse_kalman_{ending}"] = Reference(known[1], source)
    first = entries[0].scores.rmse
    for name in ("climatology", "persistence", "linear"):
        for lead in range(1, config.leads + 1):
            metrics[f"rmse_{name}_day{lead}_m"] = first[name][lead - 1]
    notes = (
        "Nothing but bias and R was fitted on days that both fields have. R gets the truncated modes' covariance.",
        "Both reanalyses took in most of the same soundings: their difference understates what either errs by.",
        "chi_square is that of the Kalman filter's innovations per observation: one where covariances are right; far "
        "below one, R is overstated.",
        "Overlap: the part of the state's grid that the observing field covers.",
    )
    return Summary("cross_reanalysis", metrics, references, seconds, notes)


def lag_one_correlation(error: Float[np.ndarray, "days points"]) -> float:
    """Of the errors of one day and the next, at the same point."""
    centred = error - error.mean(axis=0)
    return float(np.sum(centred[1:] * centred[:-1]) / np.sum(centred**2))
