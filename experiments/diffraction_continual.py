"""How few simulated patterns are enough, if the classifier says which it needs; and what does it forget on the way?"""

from dataclasses import dataclass, field, replace
from typing import Literal

import equinox as eqx
import jax
import numpy as np

from experiments import diffraction_continual_report as pages
from experiments.settings import Settings
from jaxsci.active import Balanced, Entropy, Ledger, Random, StoppingRule, Strategy, run_campaign
from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import positive, require
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import Progress, progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.diffraction.adversary import Adversary
from jaxsci.diffraction.classifier import Classifier
from jaxsci.diffraction.continual import (
    RULES,
    LearnerConfig,
    Rule,
    StreamResult,
    UpdateRule,
    join,
    learn_stream,
    make_rule,
    stream_scores,
)
from jaxsci.diffraction.generator import CLASSES, Prior
from jaxsci.diffraction.learning import Patterns
from jaxsci.diffraction.on_demand import AccuracyDriven, PatternRequest, ReplayLearner, Simulator

Policy = Literal["static", "random", "accuracy", "uncertainty", "adversarial"]
SETTLED = 5  # the last fits of the static policy, whose mean accuracy is the one to match
SMOOTHED = 3  # fits whose mean must reach it
SAVE_EVERY = 15  # fits of a campaign; those since are made again after a kill


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Six domains: the base, and shifts of it in size, reflection, strain, flux and material, in the stream's order.

    `requests` of `count` patterns of one cell (class x domain) for every policy and seed; the learner makes
    `campaign.updates` after each. `validation` and `test` count patterns of a cell; both are frozen, from keys of their
    own. `domain_samples` are given of each domain in the stream of the second part.
    """

    prior: Prior = field(default_factory=lambda: Prior(n=16, span=14.0, radius=(3.4, 4.6), strain=0.3))
    classes: int = 3
    width: int = 16
    policies: tuple[Policy, ...] = ("static", "accuracy", "uncertainty", "adversarial")
    rules: tuple[Rule, ...] = RULES
    seeds: int = 5
    requests: int = 72
    count: int = 24
    validation: int = 24
    test: int = 60
    target: float = 1.0
    exploration: float = 0.1
    domain_samples: int = 480
    campaign: LearnerConfig = field(default_factory=lambda: LearnerConfig(updates=16, average=0.97))
    learner: LearnerConfig = field(default_factory=lambda: LearnerConfig(average=0.97))

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "width", "seeds", "requests", "count", "validation", "test", "domain_samples")
        require(self.classes in (3, 4), "classes", "3 or 4", self.classes)
        needed = {"static", "accuracy"} <= set(self.policies)
        require(needed, "policies", "static and accuracy among them, which are compared", list(self.policies))
        require("replay" in self.rules, "rules", "replay among them, whose forgetting counts", list(self.rules))
        require(self.requests > SETTLED, "requests", f"more than {SETTLED}", self.requests)

    def domains(self) -> dict[str, Prior]:
        low, high = self.prior.radius
        return {
            "base": self.prior,
            "small": replace(self.prior, radius=(0.75 * low, 0.75 * high)),
            "reflection 220": replace(self.prior, reflection=(2, 2, 0)),
            "strained": replace(self.prior, strain=1.5),
            "dim": replace(self.prior, photons=(1e4, 3e4)),
            "aluminium": replace(self.prior, material="Al"),
        }

    def strategy(self, policy: Policy) -> Strategy:
        """`static` is the set made in advance: every cell alike, whatever comes of it."""
        made = {
            "static": Balanced(),
            "random": Random(),
            "accuracy": AccuracyDriven(self.exploration),
            "uncertainty": Entropy(),
            "adversarial": AccuracyDriven(self.exploration),
        }
        return made[policy]


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    key = jax.random.key(config.seed)
    total = len(config.policies) * config.seeds + len(config.rules) * config.seeds
    with Interrupt() as interrupt, progress(total, "continual") as bar:
        simulator = Simulator(
            config.domains(), count=config.count, classes=config.classes, key=jax.random.fold_in(key, 0)
        )
        validation = _frozen(simulator, config, config.validation, jax.random.fold_in(key, 1))
        test = _frozen(simulator, config, config.test, jax.random.fold_in(key, 2))
        ledgers = _campaigns(config, run, simulator, validation, test, bar, interrupt)
        streams = _streams(config, simulator, test, jax.random.fold_in(key, 3), bar, interrupt)
    curves = {policy: [_course(ledger) for ledger in found] for policy, found in ledgers.items()}
    for policy, found in curves.items():
        for seed, (samples, accuracy, _) in enumerate(found):
            run.log({f"accuracy_{policy}": accuracy[-1], f"samples_{policy}": samples[-1]}, seed)
    summary = _summary(config, curves, streams)
    return summary, pages.report(config, run, curves, streams, ledgers, summary)


def _frozen(simulator: Simulator, config: Config, count: int, key: jax.Array) -> dict[str, Patterns]:
    """`count` patterns of every cell, in parts of the one size the simulator's programs are compiled for."""
    found = {}
    for number, request in enumerate(simulator.requests()):
        cell = jax.random.fold_in(key, number)
        parts = [simulator.draw(request, jax.random.fold_in(cell, part)) for part in range(-(-count // config.count))]
        whole = join(parts)
        found[request.group] = Patterns(*(column[:count] for column in whole))
    return found


def _network(config: Config, seed: int) -> Classifier:
    key = jax.random.fold_in(jax.random.key(config.seed + 1), seed)
    return eqx.filter_jit(lambda key: Classifier(config.prior.n, config.classes, width=config.width, key=key))(key)


def _campaigns(
    config: Config,
    run: Run,
    simulator: Simulator,
    validation: dict[str, Patterns],
    test: dict[str, Patterns],
    bar: Progress,
    interrupt: Interrupt,
) -> dict[str, list[Ledger[PatternRequest]]]:
    """Seeds in the outer loop: an interrupted run has every policy for its seeds, and goes on within a campaign."""
    found: dict[str, list[Ledger[PatternRequest]]] = {policy: [] for policy in config.policies}
    update = make_rule(_network(config, 0), "fine_tune", config.campaign)
    whole = join(list(test.values()))
    for seed in range(config.seeds):
        for policy in config.policies:
            directory = run.checkpoint_directory / f"{policy}_{seed}"
            directory.mkdir(parents=True, exist_ok=True)
            ledger = Ledger(PatternRequest, directory / "ledger.jsonl")
            if len(ledger.answered) < config.requests or not ledger.answered[-1].scores:
                learner = ReplayLearner(
                    _network(config, seed), update, validation, whole, config.campaign, target=config.target
                )
                with Checkpoints(directory / "models", keep=1) as checkpoints:
                    outcome = run_campaign(
                        Adversary(simulator, lambda of=learner: of.opponent) if policy == "adversarial" else simulator,
                        learner,
                        config.strategy(policy),
                        StoppingRule(requests=config.requests),
                        ledger,
                        key=jax.random.fold_in(jax.random.key(config.seed + 2), seed),
                        interrupt=interrupt,
                        checkpoints=checkpoints,
                        save_every=SAVE_EVERY,
                    )
                if outcome.interrupted:
                    raise KeyboardInterrupt(f"interrupted; continue with resume={run.directory}")
            found[policy].append(ledger)
            bar.update(policy=policy, accuracy=ledger.answered[-1].scores["accuracy"])
    return found


def _streams(
    config: Config,
    simulator: Simulator,
    test: dict[str, Patterns],
    key: jax.Array,
    bar: Progress,
    interrupt: Interrupt,
) -> dict[str, list[StreamResult]]:
    names, kinds = list(config.domains()), CLASSES[: config.classes]
    tests = [join([test[f"{name}/{kind}"] for kind in kinds]) for name in names]
    rules: dict[str, UpdateRule] = {rule: make_rule(_network(config, 0), rule, config.learner) for rule in config.rules}
    found: dict[str, list[StreamResult]] = {rule: [] for rule in config.rules}
    for seed in range(config.seeds):
        own = jax.random.fold_in(key, seed)
        given = _frozen(simulator, config, max(config.domain_samples // config.classes, 1), own)
        domains = [join([given[f"{name}/{kind}"] for kind in kinds]) for name in names]
        for rule, update in rules.items():
            if interrupt.requested():
                raise KeyboardInterrupt("interrupted; the campaigns are kept; continue with resume=<run directory>")
            found[rule].append(learn_stream(_network(config, seed), domains, tests, update, config.learner, seed=seed))
            bar.update(rule=rule, accuracy=float(found[rule][-1].accuracy[-1].mean()))
    return found


def _course(ledger: Ledger[PatternRequest]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, accuracy on the frozen test set and simulator-seconds after every fit."""
    samples = np.cumsum([entry.request.count for entry in ledger.answered])
    seconds, accuracy = ledger.course("accuracy")
    return samples, accuracy, seconds


def fraction_to_match(
    static: tuple[np.ndarray, np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[float, float]:
    """Shares of the static policy's samples and seconds after which `other` has its final accuracy; (1, 1) if never."""
    bar = static[1][-SETTLED:].mean()
    smooth = np.convolve(other[1], np.full(SMOOTHED, 1 / SMOOTHED), "valid")
    reached = np.flatnonzero(smooth >= bar)
    if not len(reached):
        return 1.0, 1.0
    at = reached[0] + SMOOTHED - 1
    return float(other[0][at] / static[0][-1]), float(other[2][at] / static[2][-1])


def _summary(
    config: Config,
    curves: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]],
    streams: dict[str, list[StreamResult]],
) -> Summary:
    metrics: dict[str, float] = {}
    for policy in config.policies:
        final = [course[1][-SETTLED:].mean() for course in curves[policy]]
        metrics[f"accuracy_{policy}"] = float(np.mean(final))
        if policy == "static":
            continue
        pairs = [fraction_to_match(s, o) for s, o in zip(curves["static"], curves[policy], strict=True)]
        samples, seconds = (np.array(column) for column in zip(*pairs, strict=True))
        metrics[f"samples_fraction_{policy}"] = float(samples.mean())
        metrics[f"samples_fraction_{policy}_standard_error"] = _standard_error(samples)
        metrics[f"seconds_fraction_{policy}"] = float(seconds.mean())
    metrics = {"samples_fraction_to_match_static": metrics["samples_fraction_accuracy"]} | metrics
    for rule, results in streams.items():
        scores = [stream_scores(result) for result in results]
        for name in ("final_accuracy", "forgetting", "backward_transfer", "forward_transfer"):
            values = np.array([getattr(score, name) for score in scores])
            metrics[f"{name}_{rule}"] = float(values.mean())
            if name == "forgetting":
                metrics[f"{name}_{rule}_standard_error"] = _standard_error(values)
    metrics["forgetting"] = metrics["forgetting_replay"]
    metrics["samples_static"] = float(config.requests * config.count)
    metrics["simulator_seconds_static"] = float(np.mean([course[2][-1] for course in curves["static"]]))
    references = {
        "samples_fraction_to_match_static": Reference(0.5, "half of the static policy's samples", "lower"),
        "forgetting": Reference(0.02, "2 points of accuracy, replay by seed", "lower"),
    }
    notes = (
        f"The accuracy to match is the mean of the static policy's last {SETTLED} fits; matched where the mean of "
        f"{SMOOTHED} consecutive fits reaches it. Every policy makes the same number of updates per request. A seed "
        "that never matches counts as 1.",
        "samples_fraction_to_match_static is the accuracy-driven policy's.",
        "The test set is stratified over all cells and frozen; its keys are of another stream.",
        "The simulator's seconds are a pattern's price, measured once for each domain, times the patterns asked for.",
    )
    return Summary("diffraction_continual", metrics, references, {}, notes)


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
