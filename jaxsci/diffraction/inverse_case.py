"""A crystal with a known dislocation, measured in any reflections: what the inverse fits are tried on.

Not the model that is fitted: the object is sampled more finely and bent by a random smooth displacement, which a
cubic phase takes up in part.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxsci.diffraction import detector, generator
from jaxsci.diffraction.crystal import wulff
from jaxsci.diffraction.dislocation import Line
from jaxsci.diffraction.generator import Prior, Scene
from jaxsci.diffraction.inverse import Hypothesis
from jaxsci.diffraction.lattice import Reflection


def measured(
    truth: Hypothesis, reflections: Sequence[Reflection], prior: Prior, *, key: Key[Array, ""]
) -> Float[Array, "reflections n n n"]:
    """Counts of one crystal, in its cubic axes. The same key is the same crystal, whatever is measured of it.

    The displacement of the strain has an rms phase of `prior.strain` at |g|^2 = 3, and more in proportion to |g|.
    """
    keys = jax.random.split(key, 7)
    uniform = jax.random.uniform
    radius = uniform(keys[0], minval=prior.radius[0], maxval=prior.radius[1])
    ratio = uniform(keys[1], minval=prior.ratio[0], maxval=prior.ratio[1])
    body = wulff(radius=radius, ratio=ratio, jitter=prior.jitter, key=keys[2])
    core = radius * uniform(keys[3], (3,), minval=-prior.core, maxval=prior.core)
    burgers, direction, normal = (jnp.asarray(v, jnp.float32) for v in truth[1:])
    line = Line(burgers, direction, normal, core)
    vectors = prior.roughness / radius * jax.random.normal(keys[4], (prior.waves, 3))
    directions = jax.random.normal(keys[5], (prior.waves, 3))
    turns = jnp.exp(1j * uniform(keys[6], (prior.waves,), maxval=2 * jnp.pi))
    found = []
    for reflection in reflections:
        g = jnp.asarray(reflection, jnp.float32)
        amplitudes = prior.strain * jnp.sqrt(2 / (3 * prior.waves)) * (directions @ g) * turns
        flux = jnp.float32(prior.photons[1])
        scene = Scene(body, line, g, vectors, amplitudes, flux, jnp.float32(prior.background))
        noise = jax.random.fold_in(keys[6], _number(reflection))
        found.append(detector.count(generator.expected(scene, prior), key=noise))
    return jnp.stack(found)


def _number(reflection: Reflection) -> int:
    """A number of its own for every reflection with indices below 100."""
    h, k, l = (index + 100 for index in reflection)  # noqa: E741
    return (h * 200 + k) * 200 + l
