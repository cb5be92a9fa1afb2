"""Starting JAX's backend without noise where the CUDA compiler is installed for planning alone, without a GPU."""

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax


def start_backend() -> None:
    """Find the devices. Without an NVIDIA driver the compiler's wheel is told, and heard, no more than it must be."""
    if _has_cuda_driver():
        jax.devices()
        return
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # else a traceback: the wheel finds no CUDA
    logger = logging.getLogger("jax_plugins.xla_cuda12")
    level = logger.level
    logger.setLevel(logging.ERROR)  # "cuda_plugin_extension is not found": only running on a GPU needs it
    with _deaf():  # "Could not find cuda drivers", from C++
        jax.devices()
    logger.setLevel(level)


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@contextmanager
def _deaf() -> Iterator[None]:
    """Nothing reaches the process's standard error. Exceptions pass."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
