"""What all tests share: eight CPU devices, one compile cache, and float64 for those that ask for it.

JAX reads its settings when it is imported, so they are made here, before any test module is.
"""

import os
import socket
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DEVICES = "--xla_force_host_platform_device_count=8"
# On busy cores a device may wait long for the others; XLA would abort the process after 40 seconds.
PATIENCE = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=120 --xla_cpu_collective_call_terminate_timeout_seconds=900"
)

# The tests' programs are small, and mostly run once: machine code made in a hurry saves a third of the whole.
HURRY = "--xla_backend_optimization_level=0"

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"
if DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES} {PATIENCE} {HURRY}".strip()
# Compiled programs outlive the test process that made them; the tests' subprocesses inherit the place.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
# The size of XLA's thread pool. A collective blocks a thread per device, and a device can have several in flight: with
# as few threads as cores the eight devices wait for each other forever.
os.environ.setdefault("NPROC", "64")
# One program at a time: several in flight would make the devices of one wait for those of another.
os.environ.setdefault("JAX_CPU_ENABLE_ASYNC_DISPATCH", "false")

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402
import restored  # noqa: E402, F401  (before any test changes what it restores)

# Shapes and dtypes in annotations are checked at every call, in tests only.
ROOMS = (
    "jaxsci.active",
    "jaxsci.assimilation",
    "jaxsci.bayesnas",
    "jaxsci.diffraction",
    "jaxsci.drift",
    "jaxsci.dynamics",
    "jaxsci.emulators",
)
jaxtyping.install_import_hook(ROOMS, "beartype.beartype")


@pytest.fixture(scope="module", autouse=True)
def programs_of_one_module():
    """Compiled programs do not outlive their module: thousands take gigabytes, and all memory maps of a process."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def nothing_leaves_this_machine():
    """A test that opens a connection to another machine fails."""
    connect = socket.socket.connect

    def only_here(self, address):
        if isinstance(address, tuple) and address[0] not in ("localhost", "127.0.0.1", "::1"):
            raise AssertionError(f"a test asked for the network: {address}")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", only_here)
        yield


@pytest.fixture
def x64():
    """Runs a test in float64."""
    with jax.enable_x64(True):
        yield
