"""XLA flags that this jaxlib knows: an unknown one aborts the process, so each is tried in a process of its own.

    python -m jaxsci.core.xla_flags --xla_gpu_enable_latency_hiding_scheduler=true ...

prints those that are accepted on standard output, for `XLA_FLAGS`, and the others on standard error.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

# Parsing needs no accelerator: the CPU client reads all flags of the library.
PROBE = "import jax; jax.devices()"


class Probe(NamedTuple):
    """Flags in the order given: `accepted` by this jaxlib, and `unknown` to it."""

    accepted: tuple[str, ...]
    unknown: tuple[str, ...]


def probe(flags: Sequence[str], *, timeout: float = 120.0) -> Probe:
    """Try all flags together, and only where that fails one by one."""
    if _starts(flags, timeout):
        return Probe(tuple(flags), ())
    verdicts = [(flag, _starts([flag], timeout)) for flag in flags]
    return Probe(tuple(f for f, ok in verdicts if ok), tuple(f for f, ok in verdicts if not ok))


def _starts(flags: Sequence[str], timeout: float) -> bool:
    environment = {**os.environ, "XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], env=environment, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main(arguments: Sequence[str]) -> None:
    """`python -m jaxsci.core.xla_flags FLAG...`: the known flags on standard output, the unknown ones named on
    standard error.
    """
    found = probe(arguments)
    for flag in found.unknown:
        sys.stderr.write(f"XLA flag unknown to this jaxlib, left out: {flag}\n")
    sys.stdout.write(" ".join(found.accepted) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
