"""A Hydra sweeper that races: `-m hydra/sweeper=jaxsci_racing hydra.sweeper.objective=loss
'lr=tag(log,interval(1e-5,1e-2))'`.

A configuration is a choice of the swept overrides, a block an entry of `instances` with a seed, a target run one job
of the experiment; its cost is the metric `objective` of the job's summary.json. Jobs that fail reject their
configuration. Every result is in `runs.jsonl` of the sweep directory: the same command with the same
`hydra.sweep.dir` goes on after a kill. With `test_seeds` the default and the tuned configuration are compared at the
end on so many seeds that the race has not seen, in `summary.json` and `report.html` of the sweep directory.

Swept are `interval(a,b)`, `int(interval(a,b))`, `tag(log,interval(a,b))`, `range(a,b)` and lists of choices, given on
the command line or as `params` of the sweeper in a file of conf/sweep.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from jaxsci.core.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:  # Hydra imports its sweepers at every start, and numbers are slow to import
    from jaxsci.core.summary import Summary
    from jaxsci.racing.space import Configuration, Parameter, Space
    from jaxsci.racing.targets.protocol import Job, Outcome
    from jaxsci.racing.tuning import Tuning


class RacingSweeper(Sweeper):
    """See the module. Its arguments are those of `RacingSweeperConf`."""

    def __init__(
        self,
        objective: str,
        direction: str,
        budget: int,
        instances: Sequence[str],
        seed_key: str,
        seed: int,
        first_test: int,
        confidence: float,
        test: str,
        method: str,
        test_seeds: int,
        params: Mapping[str, str],
    ):
        self.objective, self.sign = objective, {"minimize": 1.0, "maximize": -1.0}.get(direction)
        self.budget, self.instances, self.seed_key, self.seed = budget, tuple(instances) or ("",), seed_key, seed
        self.first_test, self.confidence, self.test, self.method = first_test, confidence, test, method
        self.direction, self.test_seeds, self.params = direction, test_seeds, params
        self.summary: "Summary | None" = None  # of what was found against the default, with `test_seeds`

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's own wiring."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Race the swept overrides; writes `optimization_results.yaml` and returns the best configuration."""
        from jaxsci.core.files import write_atomic
        from jaxsci.racing import baselines, iterated
        from jaxsci.racing.log import RunLog
        from jaxsci.racing.race import Rules
        from jaxsci.racing.tuning import header

        self._check()
        context, config = self.hydra_context, self.config
        if context is None or config is None:
            raise RuntimeError("setup() has to come before sweep()")
        parser = OverridesParser.create(config_loader=context.config_loader)
        parsed = parser.parse_overrides(arguments)
        given = {o.key_or_group for o in parsed}
        parsed += parser.parse_overrides([f"{name}={d}" for name, d in self.params.items() if name not in given])
        self.fixed = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
        space = sweep_space([o for o in parsed if o.is_sweep_override()])
        self.prefixes = {o.key_or_group: str(o.input_line).split("=", 1)[0] for o in parsed}
        self.folder = Path(str(config.hydra.sweep.dir))
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, self.folder / "multirun.yaml")
        rules = Rules(test=self.test, confidence=self.confidence, first_test=self.first_test)  # type: ignore[arg-type]
        if self.method == "irace":
            options, tune = iterated.Iterated(self.budget, rules=rules), iterated.tune
        else:
            options = baselines.RandomSearch(self.budget, rules=rules, blocks=2 * self.first_test)
            tune = baselines.random_search
        about = header(space, options, self.seed, self.instances) | {"jobs": self.fixed, "objective": self.objective}
        log = RunLog(self.folder / "runs.jsonl", about)
        try:
            tuning = tune(space, self, options, seed=self.seed, log=log)  # type: ignore[arg-type]
        finally:
            log.close()
        cost = float(
            tuning.ledger.matrix(
                [tuning.number], sorted({b for n, b in tuning.ledger.costs if n == tuning.number})
            ).mean()
        )
        found = {
            "name": "jaxsci_racing",
            "best_params": dict(tuning.best),
            "best_value": (self.sign or 1.0) * cost,
            "runs": tuning.ledger.used,
            "result": tuning.result,
        }
        write_atomic(self.folder / "optimization_results.yaml", OmegaConf.to_yaml(OmegaConf.create(found)))
        if self.test_seeds:
            self._judge(tuning, about, config)
        return dict(tuning.best)

    def _judge(self, tuning: "Tuning", about: dict[str, Any], config: DictConfig) -> None:
        """Compare with the default on unseen seeds; the sweep directory becomes a run directory with a report."""
        from jaxsci.core.rundir import Run
        from jaxsci.racing import sweep_verdict
        from jaxsci.racing.log import RunLog

        sign = self.sign or 1.0
        defaults = {name: OmegaConf.select(config, name) for name in tuning.space.names}
        log = RunLog(self.folder / "test_runs.jsonl", {"jobs": self.fixed, "objective": self.objective})
        try:
            verdict = sweep_verdict.judge(self, tuning.best, self.test_seeds, sign, seed=self.seed, log=log)
        finally:
            log.close()
        with Run(self.folder, about, self.fixed, trackers=()) as run:
            summary = sweep_verdict.summarise(tuning, verdict, self.objective, sign, defaults)
            page = sweep_verdict.report(run, tuning, verdict, self.objective, sign, defaults)
            self.summary = run.finish(summary, page)

    def __call__(self, jobs: "Sequence[Job]") -> "list[Outcome]":
        """The target of the race: each job one run of the experiment."""
        from jaxsci.racing.targets.protocol import REJECTED, Outcome

        numbers = [int(f.name) for f in self.folder.iterdir() if f.is_dir() and f.name.isdigit()]
        batch = [self.overrides(job.configuration, job.instance, job.seed) for job in jobs]
        start = max(numbers, default=-1) + 1
        outcomes, launcher = [], self.launcher
        if launcher is None:
            raise RuntimeError("setup() has to come before a run")
        for place, result in enumerate(launcher.launch(batch, initial_job_idx=start)):
            said = result.return_value  # raises what was not foreseen
            if isinstance(said, str):
                outcomes.append(Outcome(REJECTED, message=said))
                continue
            assert result.hydra_cfg is not None
            outcomes.append(Outcome(self._cost(Path(str(result.hydra_cfg.hydra.runtime.output_dir)), batch[place])))
        return outcomes

    def overrides(self, configuration: "Configuration", instance: str, seed: int) -> list[str]:
        """The command line of one job."""
        chosen = [
            f"{self.prefixes[name]}={_shown(value)}" for name, value in configuration.items() if value is not None
        ]
        return [*self.fixed, *instance.split(), *chosen, f"++{self.seed_key}={seed}"]

    def _cost(self, folder: Path, job: list[str]) -> float:
        try:
            metrics = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["metrics"]
        except (OSError, ValueError, KeyError):
            raise DataError(f"{folder}: expected a summary.json of the job {' '.join(job)}, found none") from None
        if self.objective not in metrics:
            raise ConfigError(
                f"hydra.sweeper.objective: no metric '{self.objective}'{did_you_mean(self.objective, metrics)}"
            )
        return (self.sign or 1.0) * float(metrics[self.objective])

    def _check(self) -> None:
        if not self.objective:
            raise ConfigError("hydra.sweeper.objective: missing; give the name of a metric in summary.json")
        if self.sign is None:
            raise ConfigError(f"hydra.sweeper.direction: expected minimize or maximize, got {self.direction}")
        if self.method not in ("irace", "random"):
            raise ConfigError(f"hydra.sweeper.method: expected irace or random, got {self.method}")
        if self.test_seeds < 0:
            raise ConfigError(f"hydra.sweeper.test_seeds: expected 0 or more, got {self.test_seeds}")


def sweep_space(swept: Sequence[Override]) -> "Space":
    """The space of swept overrides. Raises `ConfigError` for sweeps that are no domain."""
    from jaxsci.racing.space import Space

    if not swept:
        raise ConfigError("command line: nothing to race; give a key an interval or several values")
    return Space(tuple(_parameter(override) for override in swept))


def _parameter(override: Override) -> "Parameter":
    from jaxsci.racing.space import Categorical, Integer, Real

    name, value = override.key_or_group, override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None
        cls = Integer if isinstance(value.start, int) and isinstance(value.end, int) else Real
        if cls is Integer and "int(" not in str(override.input_line):
            cls = Real  # interval(1, 10) is a range of real numbers, int(interval(1, 10)) of whole ones
        return cls(name, low=value.start, high=value.end, log="log" in value.tags)
    if isinstance(value, RangeSweep) and value.step == 1 and not value.shuffle:
        return Integer(name, low=float(value.start or 0), high=float(math.ceil(value.stop or 0) - 1))
    if override.is_discrete_sweep():
        return Categorical(name, values=tuple(override.sweep_string_iterator()))
    raise ConfigError(f"{name}: expected interval(a,b), range(a,b) or a list of choices, got {override.input_line}")


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)
