"""Target: a program, called as irace calls its target runner; its last line of output is the cost, or cost and seconds.

    program <configuration number> <instance number> <seed> <instance> [bound] --switch value ...

Several run at a time. A time-out, a non-zero exit or an unreadable last line rejects the configuration; the log says
why.
"""

import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from jaxsci.core.config import require
from jaxsci.core.errors import ConfigError
from jaxsci.racing.capping import Capping
from jaxsci.racing.space import Configuration, Space
from jaxsci.racing.targets.protocol import REJECTED, Job, Outcome


class ProcessTarget:
    """`command` is split already: no shell reads it. `timeout` is in seconds. With `capping`, the cost is run time.

    Raises `ConfigError` at the first run of a program that cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        space: Space,
        instances: Sequence[str],
        *,
        workers: int = 2,
        timeout: float = 3600.0,
        capping: Capping | None = None,
    ):
        require(len(command) > 0, "command", "a program and its arguments", command)
        require(workers >= 1, "workers", "at least 1", workers)
        self.command, self.space, self.instances = tuple(command), space, tuple(instances)
        self.workers, self.timeout, self.capping = workers, timeout, capping

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(self._run, jobs))

    def arguments(self, job: Job) -> list[str]:
        """The whole command line of a run."""
        head = [str(job.number), str(self.instances.index(job.instance) + 1), str(job.seed), job.instance]
        if job.bound is not None:
            head.append(f"{job.bound:.6g}")
        return [*self.command, *head, *switches(self.space, job.configuration)]

    def _run(self, job: Job) -> Outcome:
        begin = time.perf_counter()
        limit = self.timeout if job.bound is None else min(self.timeout, 1.1 * job.bound + 0.5)
        try:
            done = subprocess.run(self.arguments(job), capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return self._late(job, time.perf_counter() - begin)
        except OSError as error:
            raise ConfigError(f"target.command: cannot start {self.command[0]}: {error.strerror}") from None
        seconds = time.perf_counter() - begin
        last = (done.stdout.strip().splitlines() or [""])[-1]
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
            return Outcome(REJECTED, seconds, f"exit status {done.returncode}: {said[:200]}")
        return self._read(job, last, seconds)

    def _read(self, job: Job, last: str, seconds: float) -> Outcome:
        try:
            values = [float(word) for word in last.split()]
        except ValueError:
            values = []
        if not 1 <= len(values) <= 2:
            return Outcome(REJECTED, seconds, f"expected 'cost' or 'cost seconds' as last line, got '{last[:80]}'")
        spent = values[1] if len(values) == 2 else seconds
        if self.capping is None:
            return Outcome(values[0], spent)
        if job.bound is not None and spent >= job.bound:
            return self._late(job, spent)
        return Outcome(self.capping.cost(spent, self.capping.longest, finished=True), spent)

    def _late(self, job: Job, seconds: float) -> Outcome:
        if self.capping is None or job.bound is None:
            return Outcome(REJECTED, seconds, f"no answer within {self.timeout:g} s")
        return Outcome(self.capping.cost(job.bound, job.bound, finished=False), job.bound)


def switches(space: Space, configuration: Configuration) -> list[str]:
    """Active parameters as arguments. A switch that ends in a space is followed by the value as an argument of its own,
    another is written together with it: `--t0=` and `0.1`.
    """
    found: list[str] = []
    for parameter in space.parameters:
        value = configuration.get(parameter.name)
        if value is None:
            continue
        switch, text = parameter.switch or f"--{parameter.name} ", f"{value}"
        found += [switch.rstrip(), text] if switch.endswith(" ") else [switch + text]
    return found
