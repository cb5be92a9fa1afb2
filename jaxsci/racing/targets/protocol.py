"""What a race asks of a target: the costs of a list of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from jaxsci.racing.space import Configuration

REJECTED = float("inf")
"""The cost of a run that failed: its configuration is out at once."""


@dataclass(frozen=True)
class Job:
    """One target run. The same configuration, instance and seed give the same cost in whatever list they come.

    `number` counts configurations, for command lines and messages. `bound`, in seconds, is how long a run of a target
    that is tuned for speed may take; `None` is no bound.
    """

    number: int
    configuration: Configuration
    instance: str
    seed: int
    bound: float | None = None


class Outcome(NamedTuple):
    """`cost` is to be small. `seconds` is what the run took, where known. `message` says why a run was rejected."""

    cost: float
    seconds: float | None = None
    message: str = ""


@runtime_checkable
class Target(Protocol):
    """An algorithm to be tuned, with the instances it is tuned on."""

    @property
    def instances(self) -> Sequence[str]:
        """Names of the instances."""
        ...

    def __call__(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """The outcome of each job, in order."""
        ...
