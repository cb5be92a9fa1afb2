"""On linear Gaussian problems every method is the Kalman filter: exactly where it can be, in the limit elsewhere."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ortho_group

from jaxsci.assimilation.background import Background, covariance_root
from jaxsci.assimilation.ensemble import (
    ETKF,
    DeterministicEnKF,
    EnKF,
    EnKS,
    EnVar,
    IEnKS,
    ParticleFilter,
)
from jaxsci.assimilation.ensemble.members import Ensemble
from jaxsci.assimilation.kalman import Gaussian, Kalman, LinearModel, kalman_smoother
from jaxsci.assimilation.observation import LinearOperator
from jaxsci.assimilation.problem import Method, Problem
from jaxsci.assimilation.sliding import FourDVar, Sliding
from jaxsci.assimilation.static import ThreeDVar

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(5)
N, STATIONS, CYCLES = 4, 3, 6
F = 1.02 * ortho_group.rvs(N, random_state=RNG) + 0.1 * RNG.normal(size=(N, N))
H = RNG.normal(size=(STATIONS, N))
ROOT_B, ROOT_R = RNG.normal(size=(N, N)), RNG.normal(size=(STATIONS, STATIONS))
B, R = ROOT_B @ ROOT_B.T + 0.5 * np.eye(N), ROOT_R @ ROOT_R.T + np.eye(STATIONS)
MEAN = RNG.normal(size=N)
VALUES = 2 * RNG.normal(size=(CYCLES, STATIONS))
KEY = jax.random.key(0)
# Rounding, through six cycles of covariances with condition numbers near 1e3.
EXACT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}


def make_problem(noise=R) -> Problem:
    start = Background(jnp.asarray(MEAN), covariance_root(B))
    return Problem(lambda x: jnp.asarray(F) @ x, LinearOperator(jnp.asarray(H)), jnp.asarray(noise), start, start)


def exact_members(size: int = 2 * N + 2, seed: int = 1) -> jax.Array:
    """Members whose sample mean and covariance are exactly those of the prior."""
    draws = np.random.default_rng(seed).normal(size=(size, N))
    draws = draws - draws.mean(axis=0)
    draws = draws @ np.linalg.inv(np.linalg.cholesky(draws.T @ draws / (size - 1))).T
    return jnp.asarray(MEAN + draws @ np.linalg.cholesky(B).T)


def run(method: Method, problem: Problem, state=None, values=VALUES):
    """Means and spreads of the analyses, and the last state."""
    algorithm = method.build(problem)
    state = algorithm.init(KEY) if state is None else state

    def cycle(state, entry):
        index, value = entry
        return algorithm.update(state, value, jax.random.fold_in(KEY, index))

    return jax.jit(lambda s, v: jax.lax.scan(cycle, s, (jnp.arange(len(v)), v)))(state, jnp.asarray(values))


@pytest.fixture
def kalman(x64):
    return run(Kalman(), make_problem())


def assert_same(info, exact, **tolerance):
    for name in ("mean", "spread", "forecast", "forecast_spread", "fit"):
        np.testing.assert_allclose(getattr(info, name), getattr(exact, name), err_msg=name, **tolerance)


def covariance(members) -> np.ndarray:
    return np.cov(np.asarray(members).T)


@pytest.mark.parametrize(
    "method",
    [
        ETKF(size=10),
        ETKF(size=10, rotate=True),
        EnKS(size=10, lag=3),
        EnVar(size=10),
        EnVar(size=10, rotate=True),
    ],
    ids=["etkf", "etkf_rotated", "enks", "envar", "envar_rotated"],
)
def test_square_root_filters_from_exact_members_are_the_kalman_filter(method, kalman):
    problem, members = make_problem(), exact_members()
    state = method.build(problem).init(KEY)
    shape = state.members.shape
    final, info = run(method, problem, state._replace(members=jnp.broadcast_to(members, shape)))
    assert_same(info, kalman[1], **EXACT)
    last = final.members[0] if len(shape) == 3 else final.members
    np.testing.assert_allclose(covariance(last), kalman[0].covariance, **EXACT)


@pytest.mark.parametrize("lag", [1, 2, 4])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("annealed", [False, True], ids=["SDA", "MDA"])
def test_ienks_is_the_etkf_for_every_lag_and_number_of_iterations(lag, iterations, annealed, kalman):
    method = IEnKS(size=10, lag=lag, iterations=iterations, annealed=annealed, inflation=1.0)
    _, info = run(method, make_problem(), Sliding(exact_members(), jnp.asarray(1, jnp.int32)))
    assert_same(info, kalman[1], **EXACT)


def test_inflation_acts_at_either_end_of_the_window():
    """On a linear model inflating the smoothed members at the window's start inflates those at its end."""
    etkf, ienks = ETKF(size=10, inflation=1.1), IEnKS(size=10, inflation=1.1, lag=3, iterations=2)
    _, direct = run(etkf, make_problem(), Ensemble(exact_members()))
    _, sliding = run(ienks, make_problem(), Sliding(exact_members(), jnp.asarray(1, jnp.int32)))
    np.testing.assert_allclose(sliding.mean, direct.mean, **EXACT)
    np.testing.assert_allclose(sliding.forecast_spread[:1], direct.forecast_spread[:1], **EXACT)


@pytest.mark.parametrize("method", [EnKS(size=10, lag=3), IEnKS(size=10, lag=3, iterations=2)], ids=["enks", "ienks"])
def test_smoothers_are_the_fixed_lag_kalman_smoother(method):
    """The state `lag` cycles back, given all observations up to now, from the fixed-interval smoother's exact means."""
    problem, members = make_problem(), exact_members()
    state = method.build(problem).init(KEY)
    if isinstance(method, EnKS):
        state = state._replace(members=jnp.broadcast_to(members, state.members.shape))
    else:
        state = state._replace(start=members)
    _, info = run(method, problem, state)
    transition, operator, noise, prior = (jnp.asarray(a) for a in (F, H, R, B))
    start = Gaussian(jnp.asarray(MEAN), prior)
    known = jax.jit(
        lambda v: kalman_smoother(LinearModel(transition, 0 * prior, operator, noise), start, v).smoothed.mean
    )
    for now in range(CYCLES):
        values = np.full((CYCLES + 1, STATIONS), np.nan)  # nothing is seen at the start itself, nor later than now
        values[1 : now + 2] = VALUES[: now + 1]
        exact = known(jnp.asarray(values))
        np.testing.assert_allclose(info.smoothed[now], exact[max(now + 1 - 3, 0)], **EXACT)


def test_first_window_of_4dvar_is_the_kalman_filter(kalman):
    """The first background is the climate's; linear problems take one iteration, and more change nothing."""
    for iterations in (1, 4):
        _, info = run(FourDVar(lag=1, scale=1.0, iterations=iterations), make_problem(), values=VALUES[:1])
        assert_same(info, jax.tree.map(lambda a: a[:1], kalman[1]), **EXACT)


def test_4dvar_from_then_on_keeps_its_covariance():
    """Cycle by cycle the best linear estimate with the covariance `F B F'` at the window's end."""
    _, info = run(FourDVar(lag=1, scale=0.7, iterations=2), make_problem())
    mean, spread = MEAN, 0.7 * F @ B @ F.T
    gain = spread @ H.T @ np.linalg.inv(H @ spread @ H.T + R)
    for now, value in enumerate(VALUES):
        forecast = F @ mean
        mean = forecast + gain @ (value - H @ forecast)
        np.testing.assert_allclose(info.mean[now], mean, **EXACT)


def test_variances_alone_are_the_diagonal():
    diagonal = replace_climate(np.diag(np.diag(B)))
    _, with_diagonal = run(FourDVar(scale=0.7), diagonal)
    _, told = run(FourDVar(scale=0.7, correlated=False), make_problem())
    np.testing.assert_allclose(told.mean, with_diagonal.mean, **EXACT)


def replace_climate(covariance) -> Problem:
    problem = make_problem()
    climate = Background(problem.climate.mean, covariance_root(covariance))
    return Problem(problem.forecast, problem.operator, problem.noise, problem.start, climate)


def test_3dvar_is_the_kalman_filter_with_its_covariance():
    climate = F @ B @ F.T
    _, info = run(ThreeDVar(scale=1.0), replace_climate(climate), values=VALUES[:1])
    _, exact = run(Kalman(), make_problem(), values=VALUES[:1])
    assert_same(info, exact, **EXACT)


@pytest.mark.parametrize("hybrid", [0.0, 0.4, 1.0])
def test_hybrid_minimises_the_cost_of_the_blended_covariance(hybrid):
    method = EnVar(size=10, hybrid=hybrid, scale=0.5)
    state = method.build(make_problem()).init(KEY)._replace(members=exact_members())
    _, info = run(method, make_problem(), state, VALUES[:1])
    prior = (1 - hybrid) * F @ B @ F.T + hybrid * 0.5 * B
    gain = prior @ H.T @ np.linalg.inv(H @ prior @ H.T + R)
    np.testing.assert_allclose(info.mean[0], F @ MEAN + gain @ (VALUES[0] - H @ F @ MEAN), **EXACT)


@pytest.mark.parametrize("lag", [2, 3])
def test_4denvar_at_the_windows_end_is_the_kalman_filter(lag, kalman):
    """A window's observations at once, through trajectories, are the same as one after the other."""
    method = EnVar(size=10, lag=lag)
    state = method.build(make_problem()).init(KEY)._replace(members=exact_members())
    final, info = run(method, make_problem(), state)
    ends = slice(lag - 1, None, lag)
    np.testing.assert_allclose(info.mean[ends], kalman[1].mean[ends], **EXACT)
    np.testing.assert_allclose(covariance(final.members), kalman[0].covariance, **EXACT)
    np.testing.assert_array_equal(info.mean[0], info.forecast[0])  # within the window nothing is used yet


def test_enkf_converges_to_the_kalman_filter(kalman):
    errors = []
    for size in (100, 10_000):
        _, info = run(EnKF(size=size), make_problem(), Ensemble(exact_members(size)))
        errors.append(np.sqrt(np.mean((info.mean - kalman[1].mean) ** 2)))
    np.testing.assert_allclose(info.spread, kalman[1].spread, rtol=0.03)  # three standard errors of six spreads
    assert errors[1] < 0.3 * errors[0]  # the root of N promises a tenth, give or take the draw


def test_denkf_is_the_kalman_filter_to_first_order():
    """Its anomalies take half the gain: exactly `(I - K H / 2) P (I - K H / 2)'`, above `P - K H P` by second order."""
    final, info = run(DeterministicEnKF(size=10), make_problem(), Ensemble(exact_members()), VALUES[:1])
    exact = run(Kalman(), make_problem(), values=VALUES[:1])
    np.testing.assert_allclose(info.mean, exact[1].mean, **EXACT)
    prior = F @ B @ F.T
    half = np.eye(N) - 0.5 * prior @ H.T @ np.linalg.inv(H @ prior @ H.T + R) @ H
    np.testing.assert_allclose(covariance(final.members), half @ prior @ half.T, **EXACT)
    errors = []
    for factor in (1e4, 1e5):
        weak = make_problem(factor * R)
        denkf, kalman = (
            run(m, weak, s)[1] for m, s in ((DeterministicEnKF(size=10), Ensemble(exact_members())), (Kalman(), None))
        )
        errors.append(np.abs(denkf.spread - kalman.spread).max())
    np.testing.assert_allclose(errors[0] / errors[1], 100, rtol=0.1)  # quadratic in 1 / R


def test_particle_filter_converges_to_the_kalman_filter(kalman):
    errors = []
    for size in (1_000, 100_000):
        method = ParticleFilter(size=size, threshold=0.0, jitter=0.0)
        _, info = run(method, make_problem(4 * R), values=VALUES[:3])
        exact = run(Kalman(), make_problem(4 * R), values=VALUES[:3])[1]
        errors.append(np.abs(info.mean - exact.mean).max())
    # A few hundredths of a standard deviation near 2 at an effective size of some thousand; falls with the root of N.
    assert errors[1] < 0.1
    assert errors[1] < 0.5 * errors[0]
    np.testing.assert_allclose(info.spread, exact.spread, rtol=0.05)


FILTERS = [ETKF(size=10), EnKF(size=10), DeterministicEnKF(size=10), IEnKS(size=10), EnVar(size=10), FourDVar()]
FILTERS += [ThreeDVar(), Kalman(), ParticleFilter(size=10, jitter=0.0)]


@pytest.mark.parametrize("method", FILTERS, ids=lambda m: m.kind)
def test_a_missing_observation_is_a_row_removed(method):
    gap = VALUES.copy()
    gap[:, 1] = np.nan
    whole = make_problem(np.diag([1.0, 2.0, 3.0]))
    kept = np.array([0, 2])
    cut = Problem(whole.forecast, LinearOperator(jnp.asarray(H[kept])), whole.noise[np.ix_(kept, kept)], *starts(whole))
    _, with_gap = run(method, whole, values=gap)
    if isinstance(method, EnKF):  # its noise is drawn for every station: it is there, but must not matter
        assert np.isfinite(with_gap.mean).all()
        gap[:, 0] = gap[:, 2] = np.nan
        _, blind = run(method, whole, values=gap)
        np.testing.assert_allclose(blind.mean, blind.forecast, **EXACT)
        return
    _, removed = run(method, cut, values=VALUES[:, kept])
    assert_same(with_gap, removed, **EXACT)


def starts(problem: Problem) -> tuple[Background, Background]:
    return problem.start, problem.climate


@pytest.mark.parametrize("method", [Kalman(), ETKF(size=40), IEnKS(size=40, lag=2)], ids=lambda m: m.kind)
def test_twice_the_least_cost_per_observation_is_one(method):
    """Truths drawn from the prior: the innovations' chi-square, p degrees of freedom each."""
    worlds = 400
    draws = np.random.default_rng(9)
    truth = MEAN + draws.normal(size=(worlds, N)) @ np.linalg.cholesky(B).T
    values = np.empty((worlds, CYCLES, STATIONS))
    for k in range(CYCLES):
        truth = truth @ F.T
        values[:, k] = truth @ H.T + draws.normal(size=(worlds, STATIONS)) @ np.linalg.cholesky(R).T
    algorithm, problem = method.build(make_problem()), make_problem()
    state = method.build(problem).init(KEY)
    members = exact_members(40)
    state = {
        "kalman": lambda: state,
        "etkf": lambda: Ensemble(members),
        "ienks": lambda: Sliding(members, state.length),
    }[method.kind]()
    step = lambda s, v: algorithm.update(s, v, KEY)  # noqa: E731
    fit = jax.jit(jax.vmap(lambda v: jax.lax.scan(step, state, v)[1].fit))(jnp.asarray(values))
    # Standard error sqrt(2 / (worlds cycles stations)) = 0.0167 of the mean
    assert abs(float(fit.mean()) - 1) < 4 * np.sqrt(2 / fit.size / STATIONS)


def test_settings_out_of_range_are_one_line():
    from jaxsci.core.errors import ConfigError

    for make in (
        lambda: ETKF(size=1),
        lambda: ETKF(inflation=0.0),
        lambda: ETKF(rtps=1.5),
        lambda: IEnKS(lag=0),
        lambda: FourDVar(scale=-1.0),
        lambda: replace(EnVar(), hybrid=2.0),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert "expected" in str(caught.value) and "\n" not in str(caught.value)
