"""An emulator's step compiles ahead of time for machines that are not here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxsci.core.ensemble import init_ensemble
from jaxsci.emulators import DirectRecurrent, LinearEmulator
from jaxsci.emulators.sequence import EmulatorMean

MAPS = 0.3 * jax.random.normal(jax.random.key(0), (3, 8, 4))
PLATFORMS = ("cpu", "cuda", "rocm")


def recurrent(*, key):
    return DirectRecurrent(MAPS, jnp.ones(4), 8, key=key)


EMULATORS = {
    "linear": lambda: LinearEmulator(MAPS, 2, 3),
    "recurrent": lambda: recurrent(key=jax.random.key(1)),
    "mean": lambda: EmulatorMean(init_ensemble(recurrent, 2, key=jax.random.key(1))),
}


@pytest.mark.parametrize("name", EMULATORS)
def test_step_lowers_for_every_platform_and_the_export_runs(name):
    emulator = EMULATORS[name]()
    step = jax.jit(lambda state: emulator(state))
    exported = export.export(step, platforms=PLATFORMS)(jax.ShapeDtypeStruct((2, 4), jnp.float32))
    assert exported.platforms == PLATFORMS
    state = jnp.arange(8.0).reshape(2, 4)
    # The same program, compiled twice
    np.testing.assert_allclose(exported.call(state), step(state), rtol=1e-6)


@pytest.mark.parametrize("name", EMULATORS)
def test_its_gradient_lowers_too(name):
    emulator = EMULATORS[name]()
    slope = jax.jit(jax.grad(lambda state: jnp.sum(emulator(state) ** 2)))
    exported = export.export(slope, platforms=PLATFORMS)(jax.ShapeDtypeStruct((2, 4), jnp.float32))
    assert exported.platforms == PLATFORMS
