"""Target: any Python callable."""

from collections.abc import Callable, Sequence

from jaxsci.racing.space import Configuration
from jaxsci.racing.targets.protocol import REJECTED, Job, Outcome


class FunctionTarget:
    """`cost(configuration, instance, seed)` gives a number; an exception or NaN rejects the configuration."""

    def __init__(self, cost: Callable[[Configuration, str, int], float], instances: Sequence[str]):
        self.cost, self.instances = cost, tuple(instances)

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Outcome:
        try:
            return Outcome(float(self.cost(job.configuration, job.instance, job.seed)))
        except Exception as error:  # foreign code: whatever it raises rejects the configuration, and the log says why
            return Outcome(REJECTED, message=f"{type(error).__name__}: {error}")
