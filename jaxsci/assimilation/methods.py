"""The sequential methods by name: `method("etkf", {"size": 24})` is `ETKF(size=24)`."""

from typing import Any

from jaxsci.assimilation.ensemble import (
    ETKF,
    LETKF,
    DeterministicEnKF,
    EnKF,
    EnKS,
    EnVar,
    FiniteSizeEnKF,
    IEnKS,
    ParticleFilter,
)
from jaxsci.assimilation.kalman import Kalman
from jaxsci.assimilation.problem import Method as Method
from jaxsci.assimilation.sliding import FourDVar
from jaxsci.assimilation.static import Climatology, OptimalInterpolation, ThreeDVar
from jaxsci.core.config import build

METHODS: tuple[type[Method], ...] = (
    Climatology,
    OptimalInterpolation,
    ThreeDVar,
    FourDVar,
    Kalman,
    EnKF,
    DeterministicEnKF,
    ETKF,
    FiniteSizeEnKF,
    LETKF,
    EnKS,
    IEnKS,
    EnVar,
    ParticleFilter,
)
NAMES = tuple(method.kind for method in METHODS)


def method(name: str, settings: dict[str, Any] | None = None) -> Method:
    """A method from its name and settings. Raises `ConfigError` for a name or setting that is not there."""
    return build(Method, {"kind": name, **(settings or {})})
