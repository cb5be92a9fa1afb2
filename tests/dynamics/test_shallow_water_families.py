"""Families of shallow water runs: who is drawn, and that every run is the one its parameters ask for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import ShallowWater, gaussian_bump
from jaxsci.dynamics.shallow_water_families import Bump, SimulationConfig, TwoBumps, run_of, simulate

pytestmark = pytest.mark.usefixtures("x64")
SMALL = SimulationConfig(cells=12, dt=4e-3, every=2, fields=4)
WIDE = Bump(width=0.15)


@pytest.mark.parametrize("family", [Bump(), TwoBumps()])
def test_a_hypercube_visits_every_cell_of_every_parameter_once(family):
    drawn = family.sample(20, seed=3)
    low, high = family.ranges.T
    cells = (drawn - low) / (high - low) * 20 - 0.5
    np.testing.assert_allclose(np.sort(cells, 0), np.repeat(np.arange(20.0)[:, None], drawn.shape[1], 1), atol=1e-9)
    np.testing.assert_array_equal(drawn, family.sample(20, seed=3))
    assert not np.array_equal(drawn, family.sample(20, seed=4))


def test_kept_fields_are_those_of_their_times():
    parameters = WIDE.sample(3, seed=0)
    found = simulate(WIDE, SMALL, parameters, together=2)
    first = gaussian_bump(jnp.asarray(parameters[2]), 12, width=0.15)
    np.testing.assert_allclose(found[2, 0], first, rtol=1e-15)
    steps = rollout(ShallowWater(1 / 12, 4e-3), 6, include_initial=True)(first)
    np.testing.assert_allclose(found[2], steps[::2], atol=1e-14)  # the same steps, compiled otherwise


def test_runs_do_not_depend_on_how_many_go_together():
    parameters = TwoBumps().sample(5, seed=1)
    one, three = (simulate(TwoBumps(), SMALL, parameters, together=k) for k in (1, 3))
    np.testing.assert_allclose(one, three, atol=1e-13)


def test_translates_of_a_bump_by_whole_cells_are_translates_forever():
    shift = np.array([2, -5]) / 12
    found = simulate(WIDE, SMALL, np.stack([np.zeros(2), shift]))
    np.testing.assert_allclose(found[1], np.roll(found[0], (2, -5), (2, 3)), atol=1e-13)


def test_two_bumps_are_no_translates_and_stand_on_their_hill():
    parameters = jnp.array([0.0, 0.0, 0.06, 0.8, 0.5, 0.3])
    model, state = TwoBumps().begin(parameters, SimulationConfig(cells=32))
    assert model.bottom is not None
    surface = state[0] + model.bottom
    assert float(model.bottom.max()) == pytest.approx(0.3, rel=0.05)
    assert float(surface.min()) == pytest.approx(1.0, abs=1e-6)
    assert float(surface.max()) == pytest.approx(1.8, rel=0.05)


def test_features_know_circles_from_ranges():
    bump = Bump()
    np.testing.assert_allclose(bump.encode(jnp.array([-0.5, 0.2])), bump.encode(jnp.array([0.5, 0.2])), atol=1e-12)
    low, high = TwoBumps().ranges.T
    np.testing.assert_allclose(TwoBumps().encode(jnp.asarray(low)), -1.0)
    np.testing.assert_allclose(TwoBumps().encode(jnp.asarray(high)), 1.0, atol=1e-12)


def test_parameters_outside_the_ranges_are_flagged_unless_on_a_circle():
    assert Bump().inside(np.array([[0.7, 3.0]])).all()
    centre = TwoBumps().ranges.mean(1)
    outside = centre.copy()
    outside[2] = 0.2
    np.testing.assert_array_equal(TwoBumps().inside(np.stack([centre, outside])), [True, False])


def test_a_whole_run_can_be_differentiated_by_its_parameters():
    run = run_of(WIDE, SMALL)
    at, direction = jnp.array([0.1, -0.2]), jnp.array([0.6, -0.8])
    weights = jax.random.normal(jax.random.key(0), (12, 12))
    cost = lambda p: jnp.sum(weights * run(p)[-1, 0])  # noqa: E731
    slope = jax.jit(jax.grad(cost))(at) @ direction
    # Central differences with a step of 1e-5: truncation about 1e-10, rounding about 1e-10 over the step.
    there, back = jax.jit(cost)(at + 1e-5 * direction), jax.jit(cost)(at - 1e-5 * direction)
    np.testing.assert_allclose(slope, (there - back) / 2e-5, rtol=1e-5)


def test_bad_requests_are_named():
    with pytest.raises(DataError, match=r"Courant number is .*take dt="):
        simulate(WIDE, SimulationConfig(cells=12, dt=5e-2, every=1, fields=2), WIDE.sample(2, seed=0))
    with pytest.raises(ConfigError, match="amplitude"):
        Bump(amplitude=-1.5)
    with pytest.raises(ConfigError, match="hill_heights"):
        TwoBumps(hill_heights=(0.0, 1.2))
    with pytest.raises(ConfigError, match="fields"):
        SimulationConfig(fields=1)
