"""Stations to buy: what they cost where, who sells them, and a learner that makes 4D-Var analyses of their records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxsci.active import Answer, Prospect, Request
from jaxsci.assimilation.background import Background
from jaxsci.assimilation.cycling import cycle
from jaxsci.assimilation.daily import Analyser
from jaxsci.assimilation.error_variances import scoring_step
from jaxsci.assimilation.fixed_gain import fixed_gain
from jaxsci.assimilation.observation import LinearOperator, Observations, whitening
from jaxsci.assimilation.placement import candidate_sensitivity, expected_gain, network_covariance
from jaxsci.assimilation.variational import Solution, Window
from jaxsci.core.config import positive, require
from jaxsci.emulators import ReducedField
from jaxsci.emulators.verification import rmse

ELSEWHERE = "elsewhere"
FURTHEST = 10.0  # factor between what was told and what may be believed of an instrument
Beliefs = Literal["assumed", "estimated", "true"]


@dataclass(frozen=True)
class Region:
    """The grid points of a box (degrees, ends included), and the price of a station on one of them."""

    lat: tuple[float, float]
    lon: tuple[float, float]
    cost: float

    def __post_init__(self) -> None:
        positive(self, "cost")
        for name in ("lat", "lon"):
            low, high = getattr(self, name)
            require(low <= high, name, "the lower end first", (low, high))


@dataclass(frozen=True)
class StationRequest(Request):
    """A station on grid point `station`, of the region `region`."""

    station: int
    region: str

    @property
    def group(self) -> str:
        return self.region


class Record(NamedTuple):
    """What a station reported, day by day."""

    station: int
    values: Float[np.ndarray, " days"]


class Market(NamedTuple):
    """Every grid point: its region, its price, and how good its instruments really are."""

    regions: tuple[str, ...]
    region: Int[np.ndarray, " points"]
    """Index into `regions`."""
    cost: Float[np.ndarray, " points"]
    noise: Float[np.ndarray, " regions"]
    """True standard deviation of the errors, which buyers do not know."""


def market(
    regions: Mapping[str, Region], elsewhere: float, reduced: ReducedField, noise: Float[np.ndarray, " regions"]
) -> Market:
    """A point belongs to the first box that holds it, else to the rest at the price `elsewhere`."""
    lat, lon = (axis.ravel() for axis in np.meshgrid(reduced.field.lat, reduced.field.lon, indexing="ij"))
    which = np.full(len(lat), len(regions))
    for i, box in reversed(list(enumerate(regions.values()))):
        inside = (box.lat[0] <= lat) & (lat <= box.lat[1]) & (box.lon[0] <= lon) & (lon <= box.lon[1])
        which[inside] = i
    prices = np.array([*(box.cost for box in regions.values()), elsewhere])
    return Market((*regions, ELSEWHERE), which, prices[which], noise)


class StationOracle:
    """Sells stations; an answer is the station's record of all `truth` days. Errors depend on place and `key` alone."""

    unit = "money"

    def __init__(self, market: Market, truth: Float[np.ndarray, "days points"], *, key: PRNGKeyArray):
        self._market, self._truth, self._key = market, truth, key
        self._sold: set[int] = set()

    def requests(self) -> Sequence[StationRequest]:
        return [self.request(point) for point in range(len(self._market.cost)) if point not in self._sold]

    def request(self, point: int) -> StationRequest:
        return StationRequest(point, self._market.regions[self._market.region[point]])

    def cost(self, request: StationRequest) -> float:
        return float(self._market.cost[request.station])

    def submit(self, request: StationRequest, *, key: PRNGKeyArray) -> Answer[Record]:
        return Answer(self.recall(request, {}), self.cost(request), {})

    def recall(self, request: StationRequest, receipt: Mapping[str, Any]) -> Record:
        self._sold.add(request.station)
        truth = self._truth[:, request.station]
        error = jax.random.normal(jax.random.fold_in(self._key, request.station), truth.shape, truth.dtype)
        noise = self._market.noise[self._market.region[request.station]]
        return Record(request.station, truth + noise * np.asarray(error))


class NetworkModel(NamedTuple):
    """What the records of a network say."""

    stations: Int[Array, " most"]
    present: Bool[Array, " most"]
    """The first ones; the rest of `stations` is padding."""
    noise: Float[Array, " regions"]
    """Estimated standard deviation of the instruments of each region."""
    error: Float[Array, ""]
    """RMSE of the analyses of the test days."""


class StationLearner(eqx.Module):
    """4D-Var on the linear emulator, with the error of each region's instruments estimated from the records.

    Variances are estimated on the `calibration` days by maximum likelihood, with `prior_days` days of one station's
    worth of belief in `assumed`; the days after them are analysed and scored. A record covers both.

    `beliefs` says with which errors further stations are judged: those `assumed` before any record, those `estimated`
    from them, or the `true` ones, which nobody can know. Whatever the beliefs, analyses are made with the estimates.
    """

    analyser: Analyser
    truth: Float[Array, "days points"]
    """Anomalies of the test days."""
    weights: Float[Array, " points"]
    sensitivity: Float[Array, "points times control"]
    """Of observations with unit error."""
    target: Float[Array, "target control"]
    region: Int[Array, " points"]
    assumed: Float[Array, ""]
    true: Float[Array, " regions"]
    prior_days: float = eqx.field(static=True)
    calibration: int = eqx.field(static=True)
    most: int = eqx.field(static=True)
    skip: int = eqx.field(static=True)
    """Windows at the start of a chain that only forget its first guess."""
    beliefs: Beliefs = eqx.field(static=True, default="estimated")
    iterations: int = eqx.field(static=True, default=5)

    def initial(self, *, key: PRNGKeyArray) -> NetworkModel:
        none = jnp.zeros(self.most, jnp.int32)
        return NetworkModel(none, none > 0, jnp.full(len(self.true), self.assumed), jnp.asarray(jnp.inf))

    def fit(self, model: NetworkModel, data: Sequence[Record], *, key: PRNGKeyArray) -> NetworkModel:
        stations = np.zeros(self.most, np.int32)
        values = np.full((len(data[0].values), self.most), np.nan)
        for i, record in enumerate(data):
            stations[i], values[:, i] = record.station, record.values
        return _fit(self, jnp.asarray(stations), jnp.asarray(np.arange(self.most) < len(data)), jnp.asarray(values))

    def prospects(
        self, model: NetworkModel, data: Sequence[Record], requests: Sequence[StationRequest]
    ) -> list[Prospect]:
        gain = np.asarray(_gains(self, model))
        return [Prospect(None, gain=float(gain[request.station])) for request in requests]

    def scores(self, model: NetworkModel) -> dict[str, float]:
        return {"rmse_m": float(model.error)}


def sensitivities(
    analyser: Analyser, window: int
) -> tuple[Float[Array, "points times control"], Float[Array, "target control"]]:
    """Of unit-error observations everywhere, and of the analysed day, to the control of a climatological background."""
    pod, lags = analyser.pod, analyser.emulator.lags
    climate = jnp.tile(jnp.sqrt(pod.variance), lags)
    background = Background(jnp.zeros(analyser.state_shape, climate.dtype), jnp.diag(climate))

    def end(control: Array) -> Array:
        state = background(control)
        for _ in range(window):
            state = analyser.emulator(state)
        return state[0]

    target = jax.jacfwd(end)(jnp.zeros(background.controls, climate.dtype))
    return candidate_sensitivity(analyser.emulator, background, LinearOperator(pod.modes), 1.0, window), target


@eqx.filter_jit
def _gains(learner: StationLearner, model: NetworkModel) -> Float[Array, " points"]:
    """Variance (unit of the field squared, area mean) that a station on each point would take off the analysis."""
    by_region = {
        "assumed": jnp.full_like(learner.true, learner.assumed),
        "estimated": model.noise,
        "true": learner.true,
    }[learner.beliefs]
    unresolved = jnp.sum(jnp.square(learner.analyser.pod.truncated), axis=1)
    deviation = jnp.sqrt(jnp.square(by_region[learner.region]) + unresolved)
    sensitivity = learner.sensitivity / deviation[:, None, None]
    bought = jnp.zeros(len(unresolved)).at[model.stations].max(model.present.astype(unresolved.dtype))
    return expected_gain(sensitivity, network_covariance(sensitivity, bought), target=learner.target)[0]


@eqx.filter_jit
def _fit(
    learner: StationLearner,
    stations: Int[Array, " most"],
    present: Bool[Array, " most"],
    values: Float[Array, "days most"],
) -> NetworkModel:
    pod, regions = learner.analyser.pod, len(learner.true)
    member = jax.nn.one_hot(learner.region[stations], regions, dtype=values.dtype) * present[:, None]
    told = jnp.square(learner.assumed)

    def again(_: int, variances: Array) -> Array:
        seen = _cycle(learner, stations, present, jnp.sqrt(variances), values[: learner.calibration])
        innovations = jnp.nan_to_num(seen.innovation.reshape(len(seen.innovation), -1))
        groups = jnp.tile(member, (seen.innovation.shape[1], 1))
        prior = {"prior": told, "prior_cases": learner.prior_days}
        better = scoring_step(variances, innovations, seen.covariance, groups, **prior)
        return jnp.clip(better, told / FURTHEST**2, told * FURTHEST**2)

    start = jnp.full(regions, told, values.dtype)
    noise = jnp.sqrt(jax.lax.fori_loop(0, learner.iterations, again, start))
    days = values[learner.calibration :]
    state = _cycle(learner, stations, present, noise, days).state
    length = learner.analyser.protocol.days_per_window
    verified = (learner.skip + jnp.arange(len(state)) + 1) * length - 1
    error = rmse(pod.decode(state) - learner.truth[verified], learner.weights)
    return NetworkModel(stations, present, noise, error)


class _Seen(NamedTuple):
    innovation: Float[Array, "windows times most"]
    """NaN where a station is padding."""
    covariance: Float[Array, "observations observations"]
    """Of a window's innovations, as assumed; padding has variance one and no part in it."""
    state: Float[Array, "windows modes"]
    """Analysed coefficients at the end of each window."""


def _cycle(
    learner: StationLearner, stations: Array, present: Array, noise: Float[Array, " regions"], values: Array
) -> _Seen:
    """One chain of 4D-Var windows, less the first `skip`. Stations that are padding are NaN and change nothing."""
    analyser = learner.analyser
    matrix = analyser.pod.modes[stations] * present[:, None]
    instruments = jnp.where(present, noise[learner.region[stations]], 1.0)
    truncated = analyser.pod.truncated[stations] * present[:, None]
    covariance = jnp.diag(jnp.square(instruments)) + truncated @ truncated.T
    root = analyser.background_root(matrix, covariance)
    length = analyser.protocol.days_per_window
    windows = values[: len(values) // length * length].reshape(-1, length, learner.most)
    observations = Observations(windows, LinearOperator(matrix), whitening(covariance))
    guess = jnp.zeros(analyser.state_shape, root.dtype)
    first = Observations(windows[0], observations.operator, observations.whitener)
    window = Window(analyser.emulator, Background(guess, root), first)

    def predicted(window: Window, control: Array) -> Array:
        return jax.vmap(window.observations.operator)(window.trajectory(control))

    def diagnose(window: Window, solution: Solution) -> tuple[Array, Array]:
        return window.observations.values - predicted(window, window.origin), solution.value[-1, 0]

    method = fixed_gain(window)
    innovation, state = cycle(analyser.emulator, root, guess, observations, diagnose=diagnose, method=method)
    response = jax.jacfwd(lambda control: predicted(window, control).ravel())(window.origin)
    expected = response @ response.T + jnp.kron(jnp.eye(length, dtype=root.dtype), covariance)
    return _Seen(innovation[learner.skip :], expected, state[learner.skip :])
