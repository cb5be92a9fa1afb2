"""The time loop against a Python loop, and its gradient against central differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.core.rollout import rollout


def pendulum(u, step=0.1):
    """Semi-implicit Euler step of a pendulum with damping; a pytree as state."""
    speed = u["speed"] - step * (jnp.sin(u["angle"]) + 0.1 * u["speed"])
    return {"angle": u["angle"] + step * speed, "speed": speed}


U0 = {"angle": jnp.float32(1.0), "speed": jnp.float32(-0.3)}


@pytest.mark.parametrize("include_initial", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_equals_a_python_loop(include_initial, checkpoint):
    states = [U0]
    for _ in range(20):
        states.append(pendulum(states[-1]))
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states[0 if include_initial else 1 :])
    found = jax.jit(rollout(pendulum, 20, include_initial=include_initial, checkpoint=checkpoint))(U0)
    for name in U0:
        assert found[name].shape == (21 if include_initial else 20,)
        # 20 float32 steps, fused differently: a few units in the last place
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradient_has_a_taylor_remainder_of_second_order(checkpoint):
    with jax.enable_x64(True):

        def energy(angle):
            final = rollout(pendulum, 50, checkpoint=checkpoint)({"angle": angle, "speed": jnp.float64(-0.3)})
            return jnp.sum(final["speed"] ** 2)

        at = jnp.float64(1.0)
        value, slope = energy(at), jax.grad(energy)(at)
        sizes = np.array([1e-2, 1e-3, 1e-4])
        remainder = np.array([abs(energy(at + h) - value - h * slope) for h in sizes])
        orders = np.diff(np.log(remainder)) / np.diff(np.log(sizes))
        assert np.all(orders > 1.9)  # 2 for an exact gradient, 1 for a wrong one; third-order terms shift it by h


def test_no_steps_and_negative_steps():
    assert rollout(pendulum, 0)(U0)["angle"].shape == (0,)
    assert rollout(pendulum, 0, include_initial=True)(U0)["angle"].shape == (1,)
    with pytest.raises(ConfigError, match="got -1"):
        rollout(pendulum, -1)


def test_checkpoint_keeps_less_for_the_backward_pass():
    def step(u):
        for _ in range(8):
            u = jnp.sin(u) + 0.1 * jnp.cos(u) ** 2
        return u

    def kept(checkpoint):
        saved = jax.vjp(rollout(step, 100, checkpoint=checkpoint), jnp.ones(1000))[1]
        return sum(leaf.size for leaf in jax.tree.leaves(saved))

    assert kept(True) < kept(False) / 4  # one state of each step instead of at least eight intermediates
