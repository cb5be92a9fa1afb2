"""Linear and nonlinear terms of stabilized neural ODEs: symbols, exact recovery, conservation, guards, refusals."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.dynamics import KuramotoSivashinsky
from jaxsci.dynamics.attractor_statistics import energy
from jaxsci.dynamics.kuramoto_sivashinsky import long_waves
from jaxsci.dynamics.periodic import derivative, wavenumbers
from jaxsci.emulators.stabilized_ode import EnergyProjection, RadialClip, StabilizedOde
from jaxsci.emulators.stabilized_ode.linear import (
    Banded,
    FixedSymbol,
    FreeSymbol,
    PolynomialSymbol,
    Stencil,
    require_stable,
)
from jaxsci.emulators.stabilized_ode.nonlinear import CircularCnn, FluxCnn, Mlp, Nonlinear, SkewCnn
from jaxsci.emulators.stabilized_ode.warm_start import fit_polynomial, fit_stencil, time_derivative

pytestmark = pytest.mark.usefixtures("x64")
LENGTH, POINTS = 22.0, 64
DX = LENGTH / POINTS
FINITE_DIFFERENCES = np.array([-1, 4, -6, 4, -1]) / DX**4 - np.array([0, 1, -2, 1, 0]) / DX**2


class Advection(Nonlinear):
    """The exact flux u^2/2."""

    @property
    def flux(self) -> bool:
        return True

    def __call__(self, u):
        return 0.5 * u**2


def field(seed: int = 0) -> jax.Array:
    return long_waves(jax.random.key(seed), POINTS)


@pytest.fixture(scope="module")
def attractor() -> np.ndarray:
    """States `[trajectories time points]` on the attractor, 0.25 apart, and 0.02 apart for derivatives."""
    with jax.enable_x64(True):
        model = KuramotoSivashinsky(LENGTH, 0.1)
        starts = jax.vmap(lambda k: long_waves(k, POINTS))(jax.random.split(jax.random.key(0), 16))
        starts = jax.jit(jax.vmap(lambda u: jax.lax.fori_loop(0, 1500, lambda _, v: model(v), u)))(starts)
        fine = KuramotoSivashinsky(LENGTH, 0.02)
        rows = [starts]
        step = jax.jit(jax.vmap(fine))
        for _ in range(80):
            rows.append(step(rows[-1]))
        return np.asarray(jnp.stack(rows, axis=1))


def test_symbols_are_those_of_the_operators():
    k = wavenumbers(POINTS, LENGTH)
    exact = -4 * np.sin(k * DX / 2) ** 2 / DX**2
    stencil = Stencil(jnp.asarray(FINITE_DIFFERENCES)).symbol(POINTS, LENGTH)
    fourth = (2 * np.cos(2 * k * DX) - 8 * np.cos(k * DX) + 6) / DX**4
    np.testing.assert_allclose(stencil, -fourth - exact, atol=1e-9)  # weights of 400, rounded
    polynomial = PolynomialSymbol(jnp.array([0.0, -1.0, 0.0, -1.0])).symbol(POINTS, LENGTH)
    np.testing.assert_allclose(polynomial, k**2 - k**4, atol=1e-9)
    np.testing.assert_allclose(FixedSymbol((0.0, -1.0, 0.0, -1.0)).symbol(POINTS, LENGTH), k**2 - k**4, atol=1e-9)


def test_a_stencil_acts_as_a_convolution_and_advects_to_the_right():
    weights, u = jnp.array([0.3, -1.0, 0.2, 0.5, -0.1]), field()
    convolved = sum(w * jnp.roll(u, -j) for w, j in zip(weights, range(-2, 3), strict=True))
    found = jnp.fft.irfft(Stencil(weights).symbol(POINTS, LENGTH) * jnp.fft.rfft(u), POINTS)
    np.testing.assert_allclose(found, convolved, atol=1e-13)
    wave = PolynomialSymbol(jnp.array([-1.0])).symbol(POINTS, LENGTH)  # u_t = -u_x
    moved = jnp.fft.irfft(jnp.exp(wave * 3 * DX) * jnp.fft.rfft(u), POINTS)
    np.testing.assert_allclose(moved, jnp.roll(u, 3), atol=1e-12)


def test_banded_terms_cannot_grow_above_the_cut_and_are_free_below():
    rising = PolynomialSymbol(jnp.array([0.0, -1.0]))  # +k^2
    raw, banded = (t.symbol(POINTS, LENGTH) for t in (rising, Banded(rising, 1.5)))
    low = wavenumbers(POINTS, LENGTH) <= 1.5
    np.testing.assert_array_equal(banded[low], raw[low])
    assert (banded.real[~low] <= 0).all() and (raw.real[low][1:] > 0).all()
    strong = PolynomialSymbol(jnp.array([0.0, -1.0, 0.0, -1.0]))
    damped = [t.symbol(POINTS, LENGTH)[20:] for t in (strong, Banded(strong, 1.5))]
    np.testing.assert_allclose(damped[0], damped[1], rtol=1e-12)


def test_an_unstable_symbol_is_refused_with_mode_and_rate():
    with pytest.raises(ConfigError, match=r"Re lambda <= 0 above wavenumber 1.5, got 83.5 at mode 32"):
        require_stable(PolynomialSymbol(jnp.array([0.0, -1.0])), POINTS, LENGTH, 1.5)
    require_stable(FreeSymbol(-jnp.ones(33), jnp.ones(33)), POINTS, LENGTH, 1.5)
    with pytest.raises(ConfigError, match="33 modes for 64 points, got 20"):
        FreeSymbol(jnp.ones(20), jnp.ones(20)).symbol(POINTS, LENGTH)


def test_joint_regression_finds_the_equation(attractor):
    slope = time_derivative(attractor, 0.02)
    u, slope = attractor[:, 2:-2].reshape(-1, POINTS), slope.reshape(-1, POINTS)
    found = fit_polynomial(u, slope, LENGTH, 4)
    np.testing.assert_allclose(found.linear, [0, -1, 0, -1], atol=1e-3)  # of differences at 0.02 in mode 10
    np.testing.assert_allclose(found.advection, 1, atol=1e-3)
    stencil = fit_stencil(u, slope, LENGTH, 5)
    # Measured on longer series: weights (-78.3, 303.4, -450.4, ..), coefficient 0.988; not those of finite differences.
    np.testing.assert_allclose(stencil.linear, [-78.3, 303.4, -450.4, 303.4, -78.3], rtol=0.02)
    symbol = Stencil(jnp.asarray(stencil.linear)).symbol(POINTS, LENGTH).real
    k = wavenumbers(POINTS, LENGTH)
    np.testing.assert_allclose(symbol[2:9], (k**2 - k**4)[2:9], rtol=0.1)
    assert symbol[10] < -40


def test_the_linear_term_alone_would_be_lost(attractor):
    """Stationary data: without the quadratic terms the best A is next to nothing."""
    slope = time_derivative(attractor, 0.02).reshape(-1)
    u = attractor[:, 2:-2].reshape(-1, POINTS)
    columns = np.stack([np.asarray(derivative(jnp.asarray(u), LENGTH, p)).ravel() for p in (2, 4)], axis=1)
    alone, *_ = np.linalg.lstsq(columns, slope, rcond=None)
    k = wavenumbers(POINTS, LENGTH)
    assert np.abs(-alone[0] * k**2 + alone[1] * k**4).max() < 100 < np.abs(k**2 - k**4).max()


def test_a_stencil_is_recovered_exactly_from_its_own_data():
    u = np.stack([np.asarray(field(i)) for i in range(8)])
    slope = np.sum([w * np.roll(u, -j, axis=1) for w, j in zip(FINITE_DIFFERENCES, range(-2, 3), strict=True)], axis=0)
    np.testing.assert_allclose(
        fit_stencil(u, slope, LENGTH, 5).linear, FINITE_DIFFERENCES, rtol=1e-6
    )  # ill-conditioned


@pytest.mark.parametrize("build", [CircularCnn, FluxCnn, SkewCnn])
def test_local_networks_commute_with_translations(build):
    net, u = build(2, 8, 2, key=jax.random.key(0)), field()
    np.testing.assert_allclose(net(jnp.roll(u, 5)), jnp.roll(net(u), 5), atol=1e-12)


def test_flux_conserves_the_mean_and_skew_the_energy():
    u = field()
    skew = SkewCnn(2, 8, 2, key=jax.random.key(0))
    assert abs(jnp.vdot(u, skew(u))) < 1e-12 * jnp.vdot(u, u)
    flux = StabilizedOde(FixedSymbol((0.0, -1.0, 0.0, -1.0)), FluxCnn(1, 8, 1, key=jax.random.key(1)), LENGTH, 0.25)
    dense = StabilizedOde(FixedSymbol((0.0, -1.0, 0.0, -1.0)), Mlp(POINTS, 16, 1, key=jax.random.key(1)), LENGTH, 0.25)
    assert abs(flux.rollout(u + 0.3, 20)[-1].mean() - (u + 0.3).mean()) < 1e-12
    assert abs(dense.rollout(u, 20)[-1].mean() - u.mean()) > 1e-6  # nothing holds it
    held = replace(dense, zero_mean=True)
    assert abs(held.rollout(u, 20)[-1].mean() - u.mean()) < 1e-12


def explosive(guard: str) -> StabilizedOde:
    """Kuramoto-Sivashinsky with + 0.3 u^3."""

    class Corrupted(Nonlinear):
        def __call__(self, u):
            return -0.5 * derivative(u**2, LENGTH) + 0.3 * u**3

    return StabilizedOde(
        FixedSymbol((0.0, -1.0, 0.0, -1.0)),
        Corrupted(),
        LENGTH,
        0.1,
        dealias=True,
        zero_mean=True,
        clip=RadialClip(3.0) if guard == "clip" else None,
        projection=EnergyProjection(3.0) if guard and guard != "clip" else None,
    )


def test_only_the_clip_bounds_a_discrete_trajectory(attractor):
    u = jnp.asarray(attractor[0, 0])
    last = {guard: explosive(guard).rollout(u, 400)[-1] for guard in ("", "clip", "projection")}
    assert not jnp.isfinite(last[""]).all()
    assert not jnp.isfinite(last["projection"]).all()  # a bound in continuous time is none at this step
    np.testing.assert_allclose(energy(last["clip"]), 3.0, rtol=1e-9)  # bounded, and wrong: it sits on the limit


def test_the_clip_is_inert_on_the_attractor_and_acts_on_what_has_blown_up(attractor):
    clip, u = RadialClip(3.0), jnp.asarray(attractor[3, 40])
    assert (clip(u) == u).all() and not clip.acts(u)
    np.testing.assert_allclose(energy(clip(1e200 * u)), 3.0, rtol=1e-12)  # its square would not be finite
    assert clip.acts(1e200 * u)


def test_damping_every_mode_stops_the_chaos(attractor):
    """Why dissipativity is asked for above a cut only."""
    model = StabilizedOde(Banded(PolynomialSymbol(jnp.array([0.0, -1.0, 0.0, -1.0])), 0.0), Advection(), LENGTH, 0.25)
    run = jax.jit(lambda u: model.rollout(u, 400)[-1])
    assert energy(run(jnp.asarray(attractor[0, 0]))) < 1e-4
