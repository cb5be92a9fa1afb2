"""What `experiment=assimilation` can be about, and which trained models it can be done with, as configs."""

from dataclasses import dataclass, field

from jaxsci.core.config import Choice, between, positive, require
from jaxsci.dynamics.shallow_water_families import Bump, Family, SimulationConfig


class DataSource(Choice):
    """Family of what is observed; daily fields (`kind: field`) unless said otherwise."""

    kind = "field"


@dataclass(frozen=True)
class ShallowWaterData(DataSource, kind="shallow_water"):
    """Runs of a parametric family; the depth of test runs is observed at `observed` fields from number `first` on.

    `noise_std` is the error of an observed depth, `starts` the number of first guesses of the parameters.
    """

    family: Family = field(default_factory=lambda: Bump(width=0.08))
    simulation: SimulationConfig = field(default_factory=lambda: SimulationConfig(cells=32, dt=2e-3, fields=50))
    runs: int = 100
    validation_runs: int = 10
    test_runs: int = 10
    first: int = 4
    observed: int = 8
    noise_std: float = 0.02
    starts: int = 12

    def __post_init__(self) -> None:
        positive(self, "runs", "validation_runs", "test_runs", "observed", "noise_std", "starts")
        between(self, "first", 0, self.simulation.fields - 1)
        last = self.first + self.observed
        require(last < self.simulation.fields, "observed", f"fewer than {self.simulation.fields - self.first}", last)
        left = self.runs - self.test_runs - self.validation_runs
        require(left >= 2, "runs", "2 or more besides those of test and validation", self.runs)


@dataclass(frozen=True)
class Surrogate(Choice):
    """Family of the networks that stand for the equations."""

    width: int = 48
    embedding: int = 256
    steps: int = 600

    def __post_init__(self) -> None:
        positive(self, "width", "embedding", "steps")


@dataclass(frozen=True)
class NaLstmSurrogate(Surrogate, kind="na_lstm"):
    """Recurrent over the modes, one way."""


@dataclass(frozen=True)
class NaBlstmSurrogate(Surrogate, kind="na_blstm"):
    """Recurrent over the modes, both ways."""


@dataclass(frozen=True)
class NaMlpSurrogate(Surrogate, kind="na_mlp"):
    """A perceptron with cosines in time."""


@dataclass(frozen=True)
class NaTcnSurrogate(Surrogate, kind="na_tcn"):
    """Convolutions in time."""
