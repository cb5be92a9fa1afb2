"""Shifts that are exact, phases that move with the field, and a model that is exact for a family of translates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.emulators.equivariant import (
    EquivariantEmulator,
    ShiftedPod,
    ShiftedTrajectory,
    align,
    fourier_shift,
    phase_of,
)
from jaxsci.emulators.pod import Pod

pytestmark = pytest.mark.usefixtures("x64")
N, TIMES = 12, 6


def wave(place, time):
    """A field with few waves, so that the grid holds it exactly; every place is a translate of every other."""
    x = np.arange(N) / N
    dx, dy = 2 * np.pi * (x[:, None] - place[0]), 2 * np.pi * (x[None, :] - place[1])
    return np.cos(dx) * (1 + 0.3 * time) + np.cos(dy) + 0.4 * np.sin(2 * dx - dy + time) + 0.2 * np.cos(3 * dy - time)


def family(places):
    return np.stack([[wave(place, 0.7 * t) for t in range(TIMES)] for place in places])


PLACES = np.random.default_rng(0).uniform(-0.5, 0.5, (7, 2))


def test_a_shift_by_whole_cells_is_a_roll_and_others_move_what_the_grid_holds():
    field = jnp.asarray(np.random.default_rng(1).normal(size=(N, N)))
    np.testing.assert_allclose(
        fourier_shift(field, jnp.array([2, -3]) / N), jnp.roll(field, (2, -3), (0, 1)), atol=1e-12
    )
    moved = fourier_shift(jnp.asarray(wave((0.1, 0.2), 0.5)), jnp.array([0.013, -0.4]))
    np.testing.assert_allclose(moved, wave((0.113, -0.2), 0.5), atol=1e-12)


def test_shifts_add_up_and_undo_each_other():
    field, s = jnp.asarray(wave((0.1, 0.2), 0.5)), jnp.array([0.21, -0.13])
    np.testing.assert_allclose(fourier_shift(fourier_shift(field, s), -s), field, atol=1e-12)


def test_the_phase_moves_with_the_field():
    field = jnp.asarray(wave((0.0, 0.0), 0.0))
    for shift in ([0.1, -0.3], [0.45, 0.45]):
        moved = phase_of(fourier_shift(field, jnp.array(shift))) - phase_of(field) - jnp.array(shift)
        np.testing.assert_allclose((moved + 0.5) % 1 - 0.5, 0, atol=1e-12)


def shifts_of(fields):
    return np.asarray(jax.vmap(phase_of)(jnp.asarray(fields[:, 0])))


def test_aligned_translates_are_one_and_few_modes_hold_them_exactly():
    fields = family(PLACES)
    aligned = align(fields, shifts_of(fields))
    np.testing.assert_allclose(aligned, np.broadcast_to(aligned[:1], aligned.shape), atol=1e-11)
    shifted = ShiftedPod.fit(fields, shifts_of(fields), TIMES)
    coefficients = shifted.encode(fields, shifts_of(fields))
    for run, shift, truth in zip(coefficients, shifts_of(fields), fields, strict=True):
        found = shifted.decode(ShiftedTrajectory(jnp.asarray(run), jnp.asarray(shift)))
        np.testing.assert_allclose(found, truth, atol=1e-10)
    # A fixed basis of the same size cannot.
    flat = fields.reshape(-1, N * N)
    pod = Pod.fit(flat, np.ones(N * N), TIMES, centre="mean")
    assert np.mean(np.square(pod.decode(pod.encode(jnp.asarray(flat))) - flat)) > 1e-2


def first_field(parameters):
    return fourier_shift(jnp.asarray(wave((0.0, 0.0), 0.0)), parameters)


def test_the_model_is_exact_for_unseen_translates_and_equivariant():
    fields = family(PLACES)
    shifted = ShiftedPod.fit(fields, shifts_of(fields), TIMES)
    template = jnp.asarray(shifted.encode(fields, shifts_of(fields)).mean(0))
    model = EquivariantEmulator(lambda parameters: template, first_field)
    unseen = np.array([[0.31, -0.07]])
    found = shifted.decode(model(jnp.asarray(unseen[0])))
    np.testing.assert_allclose(found, family(unseen)[0], atol=1e-10)
    moved = shifted.decode(model(jnp.asarray(unseen[0] + [0.2, 0.1])))
    np.testing.assert_allclose(moved, fourier_shift(found, jnp.array([0.2, 0.1])), atol=1e-10)
