"""Where Hydra looks for sweepers: `hydra/sweeper=jaxsci_racing`. The work is done in `jaxsci.racing.sweeper`."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from jaxsci.core.summary import table
from jaxsci.racing.sweeper import RacingSweeper


@dataclass
class RacingSweeperConf:
    """`objective` is a metric of summary.json; `instances` are groups of overrides, one of them added to each job;
    `budget` counts jobs. `test_seeds` more jobs of the default and of the best compare them afterwards. `params` are
    swept where the command line does not say otherwise.
    """

    _target_: str = "hydra_plugins.jaxsci_racing.racing_sweeper.JaxsciRacingSweeper"
    objective: str = ""
    direction: str = "minimize"
    budget: int = 100
    instances: list[str] = field(default_factory=list)
    seed_key: str = "seed"
    seed: int = 0
    first_test: int = 5
    confidence: float = 0.95
    test: str = "friedman"
    method: str = "irace"
    test_seeds: int = 0
    params: dict[str, str] = field(default_factory=dict)


class JaxsciRacingSweeper(RacingSweeper):
    """Hydra makes plugins of classes in this package only. This one also says what was found."""

    def sweep(self, arguments: list[str]) -> Any:
        best = super().sweep(arguments)
        if self.summary is not None:
            print(table(self.summary))
            print(f"report: {self.folder / 'report.html'}")
        return best


ConfigStore.instance().store(group="hydra/sweeper", name="jaxsci_racing", node=RacingSweeperConf, provider="jaxsci")
