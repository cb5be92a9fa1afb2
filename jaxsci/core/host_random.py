"""Random numbers on the host, of a JAX key: for shapes that depend on data, where each would compile anew."""

import jax
import numpy as np
from jaxtyping import PRNGKeyArray


def generator(key: PRNGKeyArray) -> np.random.Generator:
    """NumPy's default generator, seeded by the words of `key`: the same draws wherever the key is the same."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
