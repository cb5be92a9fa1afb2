"""Where a run ran: versions, devices and code revision, without host names, user names or paths."""

import os
import platform
import subprocess
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "equinox",
    "optax",
    "diffrax",
    "orbax-checkpoint",
    "numpyro",
    "numpy",
    "scipy",
)


def environment() -> dict[str, Any]:
    """Strings, numbers and flat dictionaries, ready for JSON. Starts the XLA backend if need be."""
    import jax

    return {
        "jaxsci": _version("jaxsci"),
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": _cores(),
        "backend": jax.default_backend(),
        "devices": dict(Counter(device.device_kind for device in jax.devices())),
        "processes": jax.process_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    """The cores this process may use, which a batch system often makes fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # absent on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _commit() -> str | None:
    """The git revision of the running source, `+` behind it when files differ; `None` outside a checkout."""
    here = Path(__file__)
    # An installed copy may lie inside somebody else's repository; only one that tracks this very file counts.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    revision = _git(here.parent, "rev-parse", "--short=12", "HEAD")
    changed = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return f"{revision}+" if revision and changed else revision


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(("git", *arguments), cwd=directory, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
