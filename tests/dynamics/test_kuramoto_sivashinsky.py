"""Kuramoto-Sivashinsky: exact linear growth, conserved mean, fourth order in time, and a right derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import KuramotoSivashinsky

pytestmark = pytest.mark.usefixtures("x64")

POINTS = 128
X = np.arange(POINTS) / POINTS


def waves(length: float = 32 * np.pi) -> jax.Array:
    """The start of Kassam and Trefethen: cos(x / 16) (1 + sin(x / 16))."""
    x = length * X / 16
    return jnp.asarray(np.cos(x) * (1 + np.sin(x)))


@pytest.mark.parametrize("wave", [1, 5, 11, 16, 25])
def test_small_waves_grow_or_decay_at_the_exact_rate(wave):
    system = KuramotoSivashinsky()
    k = 2 * np.pi * wave / system.length
    start = 1e-9 * jnp.cos(2 * np.pi * wave * X)
    end = jax.jit(rollout(system, 4))(start)[-1]
    # Products of waves this small are 1e-9 of them; rounding of the transforms is less, but decay makes it count.
    np.testing.assert_allclose(end, np.exp((k**2 - k**4) * 2.0) * start, rtol=0, atol=1e-16)


def test_mean_is_conserved_on_the_attractor():
    states = jax.jit(rollout(KuramotoSivashinsky(), 2000))(waves() + 0.3)
    # Rounding of 2000 pairs of transforms of values near 3.
    np.testing.assert_allclose(states.mean(1), 0.3, atol=1e-12)
    assert 1.0 < jnp.std(states[400:]) < 1.6 and jnp.abs(states).max() < 5  # the climate: about 1.3


def test_order_four_in_time():
    length, duration = 2 * np.pi * 4, 2.0  # 16 points: no wave is stiff, and the order shows in full
    start = 0.5 * waves(length)[::8]
    run = lambda n: jax.jit(rollout(KuramotoSivashinsky(length, duration / n), n))(start)[-1]  # noqa: E731
    reference = run(4096)
    errors = np.array([jnp.linalg.norm(run(n) - reference) for n in (64, 128, 256)])
    # The next term of the error is one order higher and shifts the slope by a few per cent.
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 4.0, atol=0.25)


def test_step_commutes_with_translation_and_reflection():
    system, u = KuramotoSivashinsky(), waves()
    np.testing.assert_allclose(system(jnp.roll(u, 7)), jnp.roll(system(u), 7), atol=1e-13)  # rounding of transforms
    np.testing.assert_allclose(system(-u[::-1]), -system(u)[::-1], atol=1e-13)


def test_adjoint_is_the_transpose_of_the_tangent():
    start, v, w = waves(), *jax.random.normal(jax.random.key(0), (2, POINTS))
    run = lambda u: rollout(KuramotoSivashinsky(), 20)(u)[-1]  # noqa: E731
    _, tangent = jax.jvp(run, (start,), (v,))
    (adjoint,) = jax.vjp(run, start)[1](w)
    np.testing.assert_allclose(jnp.vdot(tangent, w), jnp.vdot(v, adjoint), rtol=1e-10)  # the bound for every model


def test_a_float32_state_stays_float32_and_follows():
    u = waves()
    single = KuramotoSivashinsky()(u.astype(jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, KuramotoSivashinsky()(u), atol=2e-6)  # float32 rounding of values near 1.5


def test_a_step_of_zero_is_refused():
    with pytest.raises(ConfigError, match="dt"):
        KuramotoSivashinsky(dt=0.0)
