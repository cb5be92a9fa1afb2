"""Other tuners on the same target, space, instances and number of runs: irace (R), Optuna, SMAC3, random, defaults."""

import logging
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from experiments.benchmarks.racing_server import CostServer
from experiments.peers import package
from jaxsci.core.errors import JaxsciError
from jaxsci.racing import baselines, iterated
from jaxsci.racing.irace_files import to_text
from jaxsci.racing.ledger import LARGEST_SEED
from jaxsci.racing.space import Categorical, Configuration, Integer, Number, Space, Value
from jaxsci.racing.targets.protocol import Job, Target

FORBIDDEN_COST = 100.0
"""What a tuner that cannot be told of forbidden combinations gets for one, at the price of a run (per cent gap)."""

TRIAL_BLOCKS = 20
"""Blocks on which Optuna judges every trial it does not prune."""


class Answer(NamedTuple):
    """What a tuner recommends, the runs it used, and seconds in all and within the target."""

    configuration: Configuration
    runs: int
    seconds: float
    target_seconds: float


class Clocked:
    """A target that counts its runs and their time."""

    def __init__(self, target: Target):
        self.target, self.runs, self.seconds = target, 0, 0.0

    @property
    def instances(self):
        return self.target.instances

    def __call__(self, jobs):
        begin = time.perf_counter()
        outcomes = self.target(jobs)
        self.seconds += time.perf_counter() - begin
        self.runs += len(jobs)
        return outcomes


Tuner = Callable[[Space, Clocked, int, int, Path], Configuration]


def answer(tuner: Tuner, space: Space, target: Target, budget: int, seed: int, folder: Path) -> Answer:
    """Run one tuner once; `folder` is for its own files."""
    clocked, begin = Clocked(target), time.perf_counter()
    found = tuner(space, clocked, budget, seed, folder)
    return Answer(dict(found), clocked.runs, time.perf_counter() - begin, clocked.seconds)


def ours(space: Space, target: Clocked, budget: int, seed: int, folder: Path) -> Configuration:
    """Iterated racing as it comes."""
    return iterated.tune(space, target, iterated.Iterated(budget=budget), seed=seed).best


def random(space: Space, target: Clocked, budget: int, seed: int, folder: Path) -> Configuration:
    return baselines.random_search(space, target, baselines.RandomSearch(budget=budget), seed=seed).best


def irace(space: Space, target: Clocked, budget: int, seed: int, folder: Path) -> Configuration:
    """irace with its own defaults, in R."""
    if shutil.which("Rscript") is None:
        raise JaxsciError("irace: expected Rscript on the PATH; install r-base-core and r-cran-irace")
    folder.mkdir(parents=True, exist_ok=True)
    parameters, forbidden = folder / "parameters.txt", folder / "forbidden.txt"
    parameters.write_text(to_text(space, sections=False), encoding="utf-8")
    forbidden.write_text("".join(f"({rule.source})\n" for rule in space.forbidden), encoding="utf-8")
    script = Path(__file__).with_name("irace_peer.R")
    with CostServer(space, target) as server:
        arguments = [str(script), str(parameters), str(forbidden) if space.forbidden else "none", str(server.port)]
        arguments += [str(budget), str(seed + 1), str(space.digits or 4), *target.instances]
        done = subprocess.run(["Rscript", *arguments], capture_output=True, text=True)
        if server.error is not None:
            raise server.error
        if done.returncode or server.best is None:
            raise JaxsciError(f"irace: ended with {done.stderr.strip().splitlines()[-1:]}; is r-cran-irace installed?")
    return server.best


def optuna(space: Space, target: Clocked, budget: int, seed: int, folder: Path) -> Configuration:
    """Optuna's TPE with its Wilcoxon pruner over shuffled blocks."""
    library = package("optuna")

    library.logging.set_verbosity(library.logging.ERROR)
    warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
    rng = np.random.default_rng([seed, 7])
    names = target.instances
    blocks = [(str(names[i % len(names)]), int(rng.integers(1, LARGEST_SEED))) for i in range(TRIAL_BLOCKS)]
    sampler = library.samplers.TPESampler(seed=seed)
    study = library.create_study(sampler=sampler, pruner=library.pruners.WilcoxonPruner(p_threshold=0.1))
    while target.runs < budget:
        trial = study.ask()
        configuration = suggest(space, trial)
        if not space.allowed([configuration])[0]:
            study.tell(trial, state=library.trial.TrialState.PRUNED)
            continue
        costs, complete = [], True
        # All blocks are computed in one call; only those that Optuna comes to see count as runs.
        order, jobs = rng.permutation(len(blocks)), [Job(trial.number, configuration, *block) for block in blocks]
        ahead, counted = target(jobs), target.runs - len(jobs)
        for block in order:
            target.runs = counted
            if target.runs >= budget:
                complete = False
                break
            counted = target.runs = counted + 1
            costs.append(ahead[block].cost)
            trial.report(costs[-1], int(block))
            if trial.should_prune():
                break  # its mean so far is told all the same, as Optuna's manual advises
        if complete and costs:
            trial.set_user_attr("blocks", len(costs))
            study.tell(trial, float(np.mean(costs)))
    whole = [t for t in study.trials if t.state.name == "COMPLETE"]
    full = [t for t in whole if t.user_attrs.get("blocks") == len(blocks)] or whole
    best = min(full, key=lambda t: float(t.value))  # type: ignore[arg-type]
    return {p.name: best.params.get(p.name) for p in space.parameters}


def suggest(space: Space, trial: Any) -> dict[str, Value]:
    """A configuration of the space from an Optuna trial, parameter by parameter."""
    chosen: dict[str, Value] = {}
    for i in space.order:
        parameter = space.parameters[i]
        columns = space.columns([chosen])
        if not space.active(parameter, columns, 1)[0]:
            chosen[parameter.name] = None
        elif isinstance(parameter, Categorical):
            chosen[parameter.name] = trial.suggest_categorical(parameter.name, parameter.values)
        elif isinstance(parameter, Number):
            ask = trial.suggest_int if isinstance(parameter, Integer) else trial.suggest_float
            chosen[parameter.name] = ask(parameter.name, parameter.low, parameter.high, log=parameter.log)
    return {name: chosen[name] for name in space.names}


def smac(space: Space, target: Clocked, budget: int, seed: int, folder: Path) -> Configuration:
    """SMAC3's algorithm configuration facade: random forest over configurations and instances."""
    library = package("smac")

    warnings.filterwarnings("ignore", category=RuntimeWarning, module="numpy")
    names = [str(name) for name in target.instances]
    translated = configspace(space, seed)

    def plain(configuration: Any) -> dict[str, Value]:
        values = dict(configuration)
        return {p.name: _python(values.get(p.name)) for p in space.parameters}

    def cost(configuration: Any, instance: str, seed: int = 0) -> float:
        if target.runs >= budget:
            return FORBIDDEN_COST
        chosen = plain(configuration)
        if not space.allowed([chosen])[0]:
            target.runs += 1
            return FORBIDDEN_COST
        return target([Job(0, chosen, instance, max(1, int(seed)))])[0].cost

    scenario = library.Scenario(
        translated,
        output_directory=folder,
        deterministic=False,
        n_trials=budget,
        instances=names,
        instance_features={name: [float(i)] for i, name in enumerate(names)},
        seed=seed,
    )
    facade = library.AlgorithmConfigurationFacade(scenario, cost, overwrite=True, logging_level=logging.ERROR)
    return plain(facade.optimize())


def configspace(space: Space, seed: int):
    """The space for ConfigSpace, whose conditions here are equalities of labels; forbidden comparisons stay out."""
    library = package("ConfigSpace")

    found = library.ConfigurationSpace(seed=seed)
    made: dict[str, Any] = {}
    for parameter in space.parameters:
        name = parameter.name
        if isinstance(parameter, Categorical):
            made[name] = library.CategoricalHyperparameter(name, list(parameter.values))
        else:
            assert isinstance(parameter, Number)
            kinds = library.UniformIntegerHyperparameter, library.UniformFloatHyperparameter
            kind = kinds[0] if isinstance(parameter, Integer) else kinds[1]
            low, high = cast(float, parameter.low), cast(float, parameter.high)
            made[name] = kind(name, low, high, log=parameter.log)
    found.add(list(made.values()))
    for parameter in space.parameters:
        if parameter.condition is not None:
            _, operator, (_, parent), (_, value) = parameter.condition.tree
            if operator != "==":
                raise JaxsciError(f"smac: expected a condition 'name == label', got '{parameter.condition.source}'")
            found.add(library.EqualsCondition(made[parameter.name], made[parent], value))
    return found


def _python(value: Any) -> Value:
    """A plain Python value for a NumPy scalar."""
    return value.item() if isinstance(value, np.generic) else value


TUNERS: dict[str, Tuner] = {"ours": ours, "irace": irace, "optuna": optuna, "smac": smac, "random": random}
