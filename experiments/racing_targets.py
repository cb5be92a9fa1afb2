"""The targets of `experiment=racing`: what is tuned, its space, its defaults and its instances."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from experiments import racing_detector_target, racing_plan_target
from jaxsci.core.config import Choice, between, positive, require
from jaxsci.core.errors import ConfigError
from jaxsci.drift.tcpd import load_collection
from jaxsci.racing import configspace_json, irace_files, packaged
from jaxsci.racing.space import Configuration, Space
from jaxsci.racing.targets import aco_tsp, continuous, sa_qap
from jaxsci.racing.targets.process import ProcessTarget
from jaxsci.racing.targets.protocol import Target
from jaxsci.transformer.config import preset
from jaxsci.transformer.plan.hardware import hardware


@dataclass(frozen=True)
class Data:
    """Folders of instance files for training and test; `null` is what the package ships."""

    train: str | None = None
    test: str | None = None


class Tuned(NamedTuple):
    """Everything a race needs. `unit` is that of the cost; `default` may be `None`."""

    space: Space
    train: Target
    test: Target
    default: Configuration | None
    unit: str


class TargetConfig(Choice):
    """The family of targets."""

    def build(self, data: Data) -> Tuned:
        raise NotImplementedError


@dataclass(frozen=True)
class Qap(TargetConfig, kind="sa_qap"):
    """Annealing or tabu search on QAPLIB files; `steps` proposed swaps a run."""

    steps: int = 5000

    def __post_init__(self) -> None:
        require(self.steps >= 100, "steps", "at least 100", self.steps)

    def build(self, data: Data) -> Tuned:
        train = sa_qap.QapTarget(packaged.qap_instances("train", data.train), steps=self.steps)
        test = sa_qap.QapTarget(packaged.qap_instances("test", data.test), steps=self.steps)
        return Tuned(sa_qap.qap_space(), train, test, sa_qap.DEFAULTS, "% above best known")


@dataclass(frozen=True)
class Tsp(TargetConfig, kind="aco_tsp"):
    """Ant colony or iterated 2-opt on TSPLIB files; `tours` of ants a run."""

    tours: int = 50

    def __post_init__(self) -> None:
        positive(self, "tours")

    def build(self, data: Data) -> Tuned:
        train = aco_tsp.TspTarget(packaged.tsp_instances("train", data.train), tours=self.tours)
        test = aco_tsp.TspTarget(packaged.tsp_instances("test", data.test), tours=self.tours)
        return Tuned(aco_tsp.tsp_space(), train, test, aco_tsp.DEFAULTS, "% above optimum")


@dataclass(frozen=True)
class Continuous(TargetConfig, kind="continuous"):
    """Differential evolution or particle swarm on functions named here."""

    generations: int = 100
    train: tuple[str, ...] = ("sphere_5", "rastrigin_5")
    test: tuple[str, ...] = ("rosenbrock_5",)

    def __post_init__(self) -> None:
        positive(self, "generations")

    def build(self, data: Data) -> Tuned:
        train, test = (
            continuous.ContinuousTarget(names, generations=self.generations) for names in (self.train, self.test)
        )
        return Tuned(continuous.continuous_space(), train, test, None, "log10 error")


@dataclass(frozen=True)
class Process(TargetConfig, kind="process"):
    """A program and its parameter file. Instances are what the program takes as such: `train` and `test` here, or the
    lines of the files `data.train` and `data.test`.
    """

    command: tuple[str, ...] | None = None
    parameters: str | None = None
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    workers: int = 2
    timeout: float = 60.0

    def __post_init__(self) -> None:
        positive(self, "workers", "timeout")

    def build(self, data: Data) -> Tuned:
        own = Path(str(resources.files("jaxsci.racing").joinpath("data/process")))
        command = self.command or (sys.executable, str(own / "search.py"))
        path = Path(self.parameters) if self.parameters else own / "parameters.txt"
        space = configspace_json.read(path) if path.suffix == ".json" else irace_files.read(path)
        lists = (
            packaged.lines(data.train) if data.train else self.train,
            packaged.lines(data.test) if data.test else self.test,
        )
        train, test = (
            ProcessTarget(command, space, names, workers=self.workers, timeout=self.timeout) for names in lists
        )
        return Tuned(space, train, test, None, "cost as the program prints it")


@dataclass(frozen=True)
class Detector(TargetConfig, kind="drift_detector"):
    """A detector of changes on folders in the format of the Turing Change Point Dataset; every second series of a
    training folder is for test where there is no other folder.
    """

    margin: int = 5

    def __post_init__(self) -> None:
        positive(self, "margin")

    def build(self, data: Data) -> Tuned:
        collection = load_collection(data.train)
        if data.test is not None:
            train, test = collection, load_collection(data.test)
        else:
            train, test = racing_detector_target.halves(collection)
        racing, judging = (racing_detector_target.DetectorTarget(part, margin=self.margin) for part in (train, test))
        return Tuned(
            racing_detector_target.detector_space(), racing, judging, racing_detector_target.DEFAULTS, "1 - F1"
        )


@dataclass(frozen=True)
class Plan(TargetConfig, kind="plan"):
    """The recipe of a model on a machine of `train` or `test` nodes with `sequences` a node, its rates uncertain by
    `spread`. The other fields are the values to choose from.
    """

    model: str
    hardware: str
    train: tuple[int, ...]
    test: tuple[int, ...]
    tensor: tuple[int, ...]
    pipe: tuple[int, ...]
    microbatch: tuple[int, ...]
    zero: tuple[int, ...]
    virtual: tuple[int, ...]
    recompute: tuple[str, ...]
    schedule: tuple[str, ...]
    sequences: int = 80
    spread: float = 0.1

    def __post_init__(self) -> None:
        preset(self.model)
        hardware(self.hardware)
        positive(self, "sequences")
        between(self, "spread", 0.0, 1.0)

    def build(self, data: Data) -> Tuned:
        if data.train or data.test:
            raise ConfigError("data: target=plan has no instance files; give target.train and target.test")
        model, machine = preset(self.model), hardware(self.hardware)
        space = racing_plan_target.plan_space(vars(self))
        train, test = (
            racing_plan_target.PlanTarget(model, machine, nodes, sequences=self.sequences, spread=self.spread)
            for nodes in (self.train, self.test)
        )
        return Tuned(space, train, test, racing_plan_target.study_recipe(model, space), "% of the peak not used")


def families(names: Sequence[str]) -> str:
    """For messages: how many instances there are and what they are called."""
    shown = ", ".join(names[:6])
    return f"{len(names)} ({shown}{', ...' if len(names) > 6 else ''})"
