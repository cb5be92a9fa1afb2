"""What the architecture-ensemble experiment can be told."""

from dataclasses import dataclass, field
from typing import Literal

from experiments.settings import Settings
from jaxsci.bayesnas.regression import RegressionConfig
from jaxsci.bayesnas.search import SearchConfig
from jaxsci.bayesnas.space import MlpCell, Space
from jaxsci.bayesnas.weights import CyclicalSgHmc, DeepEnsemble, WeightPosterior
from jaxsci.core.config import Choice, between, positive, require


@dataclass(frozen=True)
class DataConfig(Choice):
    """Which data: `kind=digits`, `cifar10` or `uci`."""

    path: str | None = None


@dataclass(frozen=True)
class Digits(DataConfig, kind="digits"):
    """8 x 8 digits, packaged (`path=null`). Every seed splits them anew: weights, architectures, calibration, test."""

    train: int = 500
    architecture: int = 200
    calibration: int = 200

    def __post_init__(self) -> None:
        positive(self, "train", "architecture", "calibration")


@dataclass(frozen=True)
class Cifar10(DataConfig, kind="cifar10"):
    """CIFAR-10 from npz, official binaries, pickles or PNGs; the test set is the file's own.

    `architecture` and `calibration` images are taken from its training set. Corruptions are evaluated on the first
    `corrupted` test images at the given severities.
    """

    architecture: int = 500
    calibration: int = 500
    corrupted: int = 500
    severities: tuple[int, ...] = (1, 3, 5)

    def __post_init__(self) -> None:
        positive(self, "architecture", "calibration", "corrupted")
        in_range = len(self.severities) > 0 and all(1 <= s <= 5 for s in self.severities)
        require(in_range, "severities", "numbers from 1 to 5", self.severities)


@dataclass(frozen=True)
class Uci(DataConfig, kind="uci"):
    """Regression tables with fixed test rows; `sets` chooses some by name, empty means all of the file."""

    sets: tuple[str, ...] = ()
    splits: int = 20

    def __post_init__(self) -> None:
        positive(self, "splits")


@dataclass(frozen=True)
class EnsembleConfig:
    """A architectures x R restarts, each a chain of `steps` updates; the weight method says how many samples S.

    - `pool`: networks of random architectures; null trains as many as cost what the joint cost with its search.
    - `prior_std` of the weights: weight decay is 1 / (prior_std^2 x training examples).
    - `mode`: how members share a program, see `jaxsci.bayesnas.members.advance`; `auto` measures and takes the fastest.
    - `group`: members per program (null: all); `unroll` on CPU wants 4 at most.
    """

    architectures: int = 4
    restarts: int = 2
    steps: int = 1200
    batch_size: int = 64
    prior_std: float = 4.0
    pool: int | None = None
    mode: Literal["auto", "vmap", "map", "unroll", "shard"] = "vmap"
    group: int | None = None
    steps_per_dispatch: int = 1200

    def __post_init__(self) -> None:
        between(self, "architectures", 2, 1000)
        require(self.restarts >= 2, "restarts", "2 or more, to tell architecture from initialisation", self.restarts)
        positive(self, "steps", "batch_size", "prior_std", "pool", "group", "steps_per_dispatch")


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`seeds` repetitions with their own split, search and chains. `weights` is the method of the chains, `baseline`
    that of the deterministic networks.
    """

    data: DataConfig
    space: Space = field(default_factory=MlpCell)
    search: SearchConfig = field(default_factory=SearchConfig)
    weights: WeightPosterior = field(default_factory=CyclicalSgHmc)
    baseline: DeepEnsemble = field(default_factory=DeepEnsemble)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    seeds: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "seeds")
