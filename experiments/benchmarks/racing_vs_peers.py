"""Is our racing as good as irace, Optuna, SMAC3, random search and the defaults, at the same number of target runs?"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from experiments.benchmarks import racing_vs_peers_report as pages
from experiments.benchmarks.racing_peers import TUNERS, Answer, answer
from experiments.settings import Settings
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import CheckpointError
from jaxsci.core.files import write_atomic
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.reading import read_json
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.racing import packaged
from jaxsci.racing.space import Configuration
from jaxsci.racing.statistics import holm
from jaxsci.racing.targets.protocol import Job
from jaxsci.racing.targets.sa_qap import DEFAULTS, QapTarget, qap_space

Name = Literal["ours", "irace", "optuna", "smac", "random"]


@dataclass(frozen=True)
class Data:
    """Folders of QAPLIB files; `null` is what the package ships."""

    train: str | None = None
    test: str | None = None


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`budget` counts target runs of `steps` proposed swaps. Every tuner is run `repetitions` times; its answers are
    judged on the test instances with `test_seeds` fresh seeds each, the same for all.
    """

    data: Data = field(default_factory=Data)
    budget: int = 1000
    repetitions: int = 20
    tuners: tuple[Name, ...] = ("ours", "irace", "optuna", "smac", "random")
    steps: int = 5000
    test_seeds: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "budget", "steps")
        between(self, "repetitions", 2, 1000)
        between(self, "test_seeds", 1, 1000)
        require("ours" in self.tuners, "tuners", "ours among them", self.tuners)


class Judged(NamedTuple):
    """Mean gaps in per cent by tuner and repetition, and the default's."""

    test: dict[str, np.ndarray]
    train: dict[str, np.ndarray]
    default: float


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    space = qap_space()
    train = QapTarget(packaged.qap_instances("train", config.data.train), steps=config.steps)
    test = QapTarget(packaged.qap_instances("test", config.data.test), steps=config.steps)
    begin = time.perf_counter()
    _compile(train)
    seconds = {"compile": time.perf_counter() - begin}
    answers = _answers(config, run, space, train)
    begin = time.perf_counter()
    judged = _judge(config, run, train, test, answers)
    seconds["judging"] = time.perf_counter() - begin
    for name in config.tuners:
        seconds[f"{name}_per_tuning"] = float(np.median([a.seconds for a in answers[name]]))
        seconds[f"{name}_per_tuning_without_target"] = float(
            np.median([a.seconds - a.target_seconds for a in answers[name]])
        )
    summary = _summary(config, answers, judged, seconds)
    return summary, pages.report(run, config, answers, judged, summary, (len(train.instances), len(test.instances)))


def _compile(target: QapTarget) -> None:
    """Both algorithms on every class of instances in a few batch sizes, so that no tuner pays for it."""
    sa: Configuration = DEFAULTS
    rts = dict.fromkeys(DEFAULTS) | {"algorithm": "rts", "init": "random", "restart_frac": 1.0}
    rts |= {"tabu_low": 0.5, "tabu_width": 0.5, "aspiration": 1000}
    for configuration in (sa, rts):
        for copies in (1, 2, 4):
            target([Job(0, configuration, name, 1) for name in target.instances for _ in range(copies)])
        for name in target.instances[:1]:
            target([Job(0, configuration, name, 1)])


def _answers(config: Config, run: Run, space, target: QapTarget) -> dict[str, list[Answer]]:
    """One file an answer, so that an interrupted comparison continues where it was."""
    folder = run.path("answers")
    folder.mkdir(exist_ok=True)
    found: dict[str, list[Answer]] = {name: [] for name in config.tuners}
    with progress(config.repetitions * len(config.tuners), "tunings") as bar, Interrupt() as interrupt:
        for repetition in range(config.repetitions):
            for name in config.tuners:
                path = folder / f"{name}_{repetition}.json"
                if path.exists():
                    found[name].append(_read(path))
                else:
                    seed = 1000 * config.seed + repetition
                    tuner = TUNERS[name]
                    got = answer(tuner, space, target, config.budget, seed, folder / "peers" / f"{name}_{repetition}")
                    write_atomic(path, json.dumps(got._asdict()))
                    found[name].append(got)
                bar.update(1, tuner=name)
                if interrupt.requested():
                    raise KeyboardInterrupt(f"stopped; continue with resume={run.directory}")
    return found


def _read(path: Path) -> Answer:
    """The answer in a file of ours. Raises `JaxsciError` where it is damaged."""
    try:
        return Answer(**read_json(path, "the answer of a tuner"))
    except TypeError as error:
        raise CheckpointError(f"{path}: damaged ({error}); delete it and resume") from None


def _judge(config: Config, run: Run, train: QapTarget, test: QapTarget, answers: dict[str, list[Answer]]) -> Judged:
    """Every answer on the same blocks, which no tuner has seen."""
    rng = np.random.default_rng([config.seed, 11])
    seeds = [int(s) for s in rng.integers(1, 2**31 - 1, config.test_seeds)]

    def gap(target: QapTarget, configuration: Configuration) -> float:
        jobs = [Job(0, configuration, name, seed) for name in target.instances for seed in seeds]
        return float(np.mean([outcome.cost for outcome in target(jobs)]))

    test_gaps = {name: np.zeros(config.repetitions) for name in config.tuners}
    train_gaps = {name: np.zeros(config.repetitions) for name in config.tuners}
    with progress(config.repetitions, "judging") as bar:
        for repetition in range(config.repetitions):
            for name in config.tuners:
                chosen = answers[name][repetition].configuration
                test_gaps[name][repetition] = gap(test, chosen)
                train_gaps[name][repetition] = gap(train, chosen)
            run.log({f"gap_{name}": test_gaps[name][repetition] for name in config.tuners}, repetition)
            bar.update(1)
    return Judged(test_gaps, train_gaps, gap(test, DEFAULTS))


def p_values(test: dict[str, np.ndarray]) -> dict[str, float]:
    """Two-sided paired Wilcoxon tests of ours against each other tuner over repetitions, Holm-adjusted together."""
    others = [name for name in test if name != "ours"]
    raw = [
        1.0 if np.allclose(test["ours"], test[name]) else float(np.asarray(stats.wilcoxon(test["ours"], test[name]))[1])
        for name in others
    ]
    return dict(zip(others, (float(p) for p in holm(np.array(raw))), strict=True)) if others else {}


def _summary(config: Config, answers: dict[str, list[Answer]], judged: Judged, seconds: dict[str, float]) -> Summary:
    metrics = {f"gap_{name}": float(judged.test[name].mean()) for name in config.tuners}
    metrics |= {"gap_default": judged.default, "repetitions": config.repetitions, "budget": config.budget}
    for name, p in p_values(judged.test).items():
        metrics[f"p_value_ours_vs_{name}"] = p
        metrics[f"difference_ours_minus_{name}"] = float(np.mean(judged.test["ours"] - judged.test[name]))
    ranks = stats.rankdata(np.stack([judged.test[name] for name in config.tuners]), axis=0).mean(1)
    for name, rank in zip(config.tuners, ranks, strict=True):
        metrics[f"gap_train_{name}"] = float(judged.train[name].mean())
        metrics[f"rank_{name}"] = float(rank)
        metrics[f"share_better_than_default_{name}"] = float(np.mean(judged.test[name] < judged.default))
        metrics[f"runs_{name}"] = float(np.mean([a.runs for a in answers[name]]))
    rest = {name: metrics[f"gap_{name}"] for name in config.tuners if name != "ours"} | {"default": judged.default}
    best = min(rest, key=lambda name: rest[name])
    references = {"gap_ours": Reference(rest[best], f"{best}, the best of the others in this run", "lower")}
    if "irace" in config.tuners:
        references["p_value_ours_vs_irace"] = Reference(
            0.05, "below it the two differ (two-sided, Holm); the sign is in difference_ours_minus_irace"
        )
    notes = (
        "A gap is the mean over test instances and fresh seeds of 100 (cost - best known) / best known.",
        "One target for all: the same configuration, instance and seed cost the same whoever asks. Runs are counted, "
        "not seconds; each tuner is used with its own defaults.",
        "p values: paired Wilcoxon over repetitions, two-sided, Holm over the tuners compared with.",
        "SMAC3 cannot be told of the forbidden comparison; it pays a run and sees a gap of 100 % there (1 % of the "
        "space).",
    )
    return Summary("benchmarks/racing_vs_peers", metrics, references, seconds, notes)
