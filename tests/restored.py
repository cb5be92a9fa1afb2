"""Settings of the process, put back after what changes them."""

import os
from contextlib import contextmanager

import jax

# Of the process: read here once, as inside a `with jax.enable_x64(True)` they would be those of that block.
FLAGS = {name: getattr(jax.config, name) for name in ("jax_enable_x64", "jax_debug_nans")}


@contextmanager
def settings_restored():
    """A run sets JAX, the environment and the directory as it likes; the next test must not notice."""
    environment, directory = dict(os.environ), os.getcwd()
    try:
        yield
    finally:
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        for name, value in FLAGS.items():
            jax.config.update(name, value)
