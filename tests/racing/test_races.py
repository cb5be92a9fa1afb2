"""Races and tuners on synthetic costs: ledgers add up, elites are protected, a kill and a resumption change nothing."""

from typing import Any

import numpy as np
import pytest

from jaxsci.core.errors import CheckpointError, ConfigError, DataError
from jaxsci.racing import baselines, iterated, mads
from jaxsci.racing.expressions import parse
from jaxsci.racing.importance import ablation, importance
from jaxsci.racing.ledger import Blocks, Ledger
from jaxsci.racing.log import RunLog, read_runs
from jaxsci.racing.race import Rules, race
from jaxsci.racing.space import Categorical, Integer, Real, Space
from jaxsci.racing.targets.function import FunctionTarget
from jaxsci.racing.targets.protocol import REJECTED, Job, Outcome
from jaxsci.racing.tuning import header

INSTANCES = tuple(f"i{n}" for n in range(9))
TOY = Space(
    (
        Categorical("algo", values=("sa", "rls")),
        Real("temp", low=0.01, high=100.0, log=True, condition=parse('algo == "sa"')),
        Real("cool", low=0.8, high=0.9999, condition=parse('algo == "sa"')),
        Integer("nrest", low=1, high=20, condition=parse('algo == "rls"')),
    ),
    forbidden=(parse("(temp > 50) & (cool > 0.999)"),),
    digits=4,
)


def value(configuration: Any, name: str) -> float:
    return float(configuration[name])


def noise(seed: int, *more: int) -> float:
    return float(np.random.default_rng([seed, *more]).normal())


def toy_cost(configuration, instance: str, seed: int) -> float:
    """The toy of the specification: optimum at temp 3.16, cool 0.95."""
    base = 3.0
    if configuration["algo"] == "sa":
        base = (np.log10(configuration["temp"]) - 0.5) ** 2 + 10 * (configuration["cool"] - 0.95) ** 2
    return base * (1 + 0.5 * int(instance[1:])) + 0.3 * noise(seed, hash_of(configuration))


def hash_of(configuration) -> int:
    return int(1e4 * (configuration["temp"] or configuration["nrest"])) + int(1e6 * (configuration["cool"] or 0))


TARGET = FunctionTarget(toy_cost, INSTANCES)
OPTIONS = {
    "irace": (iterated.Iterated(400), iterated.tune),
    "plain": (iterated.Iterated(400, pool=1, design="uniform"), iterated.tune),
    "2010": (iterated.Iterated(400, rule="ifrace2010", pool=1), iterated.tune),
    "random": (baselines.RandomSearch(400), baselines.random_search),
    "halving": (baselines.Halving(400), baselines.successive_halving),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_tuner_finds_the_toy_and_its_ledger_adds_up(name):
    options, tune = OPTIONS[name]
    tuning = tune(TOY, TARGET, options, seed=1)
    ledger = tuning.ledger
    assert ledger.used + ledger.left == 400 and ledger.used == len(ledger.costs) == len(ledger.log.runs)
    assert tuning.best["algo"] == "sa"
    assert abs(np.log10(tuning.best["temp"]) - 0.5) < 0.8  # the noise of 0.3 hides less than 0.5 on its own
    again = tune(TOY, TARGET, options, seed=1)
    assert again.best == tuning.best and again.ledger.costs == ledger.costs


def test_the_budget_is_spent_to_the_last_block():
    tuning = iterated.tune(TOY, TARGET, OPTIONS["irace"][0], seed=2)
    last = tuning.races[-1].outcome
    assert tuning.ledger.left < max(len(last.survivors), 2)  # less than one more block of the finalists


def test_first_iteration_has_as_many_candidates_as_irace():
    """irace 3.5 on this toy with 400 runs: 16 candidates first, 4 survivors at least."""
    tuning = iterated.tune(TOY, TARGET, iterated.Iterated(400, mu=5), seed=3)
    assert len(tuning.races[0].outcome.entered) == 16


def test_candidates_get_more_runs_where_the_budget_allows_it():
    numbers = [iterated.allowance(TOY, iterated.Iterated(budget)) for budget in (200, 5000)]
    assert [n.mu for n in numbers] == [5, 10]
    assert iterated.least_budget(TOY, iterated.Iterated(200)) == 180


def test_a_share_of_the_candidates_comes_from_the_whole_space():
    """Later candidates are else all near the best temperature, 3.16."""
    share = {}
    for explore in (0.0, 0.4):
        tuning = iterated.tune(TOY, TARGET, iterated.Iterated(1500, explore=explore, pool=1), seed=1)
        last = [tuning.ledger.configurations[n] for race in tuning.races[2:] for n in race.candidates]
        share[explore] = np.mean([c["algo"] == "rls" or abs(np.log10(value(c, "temp")) - 0.5) > 0.7 for c in last])
    assert share[0.4] > share[0.0] + 0.1


class Dying:
    """A target that is killed in the middle of its n-th batch."""

    def __init__(self, batches: int):
        self.instances, self.left = INSTANCES, batches

    def __call__(self, jobs):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return TARGET(jobs)


@pytest.mark.parametrize("name", ["irace", "2010", "halving"])
@pytest.mark.parametrize("batches", [1, 3])
def test_killed_and_resumed_is_uninterrupted(tmp_path, name, batches):
    options, tune = OPTIONS[name]
    whole = tune(TOY, TARGET, options, seed=4)
    about = header(TOY, options, 4, INSTANCES)
    path = tmp_path / "runs.jsonl"
    with pytest.raises(KeyboardInterrupt):
        tune(TOY, Dying(batches), options, seed=4, log=RunLog(path, about))
    with path.open("ab") as file:
        file.write(b'{"run": 99, "configur')  # a line that the kill tore apart
    counted = FunctionTarget(toy_cost, INSTANCES)
    resumed = tune(TOY, counted, options, seed=4, log=RunLog(path, about))
    assert resumed.best == whole.best and resumed.ledger.costs == whole.ledger.costs
    assert resumed.ledger.replayed > 0
    _, runs = read_runs(path)
    assert len(runs) == whole.ledger.used  # none lost, none repeated
    assert len({(r.configuration, r.instance, r.seed) for r in runs}) == len(runs)


def test_a_log_of_another_tuning_is_refused(tmp_path):
    path = tmp_path / "runs.jsonl"
    RunLog(path, header(TOY, iterated.Iterated(400), 1, INSTANCES)).close()
    with pytest.raises(CheckpointError, match="seed"):
        RunLog(path, header(TOY, iterated.Iterated(400), 2, INSTANCES))


def ledger_of(costs: np.ndarray, budget: int = 10_000) -> Ledger:
    """Configuration j on block l costs `costs[l, j - 1]`."""

    class Table:
        instances = tuple(str(i) for i in range(len(costs)))

        def __call__(self, jobs):
            return [Outcome(float(costs[int(job.instance), job.number - 1])) for job in jobs]

    ledger = Ledger(Table(), Blocks(Table.instances, 0, deterministic=True), budget, RunLog(None, {}))
    for j in range(costs.shape[1]):
        ledger.enter({"j": j})
    return ledger


def test_a_race_decides_as_the_test_on_the_matrix():
    rng = np.random.default_rng(5)
    costs = rng.normal(0, 1, (20, 8)) + np.array([0, 0, 0, 2, 2, 3, 3, 3.0])
    ledger = ledger_of(costs)
    outcome = race(ledger, range(1, 9), range(20), Rules(stall=0), budget=1000, survivors=2)
    assert set(outcome.survivors) <= {1, 2, 3}
    assert outcome.steps[0].alive == tuple(range(1, 9))  # nobody goes before the first test
    assert all(len(s.alive) == 8 for s in outcome.steps[:4])


def test_looking_ahead_changes_the_count_and_not_the_decisions():
    rng = np.random.default_rng(6)
    costs = rng.normal(0, 1, (20, 8)) + 0.5 * np.arange(8)
    one, many = (
        race(ledger_of(costs), range(1, 9), range(20), Rules(stall=0, lookahead=n), budget=1000, survivors=2)
        for n in (1, 4)
    )
    shared = min(len(one.steps), len(many.steps))
    assert [s.alive for s in one.steps][:shared] == [s.alive for s in many.steps][:shared]
    assert many.steps[-1].used >= one.steps[-1].used


def test_elites_are_protected_until_their_past_is_seen():
    """An elite that is bad on the fresh blocks stays until every past block of its own was seen again."""
    costs = np.zeros((12, 4))
    costs[:, 0] = 5.0  # the elite is worst everywhere ...
    costs[:, 1:] = np.arange(1, 4) + 0.01 * np.arange(12)[:, None]
    ledger = ledger_of(costs)
    ledger.run([(1, b) for b in range(8)])  # ... but was run on eight blocks
    order = [8, *range(8), 9, 10, 11]
    outcome = race(ledger, [1, 2, 3, 4], order, Rules(), budget=100, survivors=1, elites=[1], past=set(range(8)))
    dropped_at = next(s.blocks for s in outcome.steps if 1 in s.dropped)
    assert dropped_at == 9  # one fresh block and eight past ones
    assert ledger.used == len(ledger.costs)  # what was known was not run again


def test_an_infinite_cost_is_out_at_once():
    costs = np.ones((6, 3)) * np.arange(1, 4)
    costs[:, 1] = REJECTED
    outcome = race(ledger_of(costs), [1, 2, 3], range(6), Rules(), budget=100, survivors=1)
    assert 2 in outcome.steps[0].dropped


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("budget", [300, 500])
def test_small_spaces_end(size, budget):
    """Fewer configurations than a race wants: it races what there is and says so."""
    space = Space((Integer("n", low=1, high=size + 1), Categorical("c", values=("a", "b"))))
    target = FunctionTarget(lambda c, i, s: value(c, "n") + 0.1 * noise(s), INSTANCES)
    tuning = iterated.tune(space, target, iterated.Iterated(budget), seed=0)
    assert tuning.best["n"] == 1 and tuning.ledger.used <= budget


def test_new_instances_say_more_than_new_seeds():
    """Two-variance target: with instances of one kind only, the winner is worse on others (pseudo-replication)."""

    def cost(configuration, instance, seed):
        effect = np.random.default_rng(int(instance[1:])).normal(0.5, 0.3)  # the best x of this instance
        return (configuration["x"] - effect) ** 2 + 0.05 * noise(seed)

    space = Space((Real("x", low=0.0, high=1.0),), digits=6)
    errors = []
    for names in (tuple(f"i{n}" for n in range(1, 21)), ("i1", "i2")):
        target = FunctionTarget(cost, names)
        found = [iterated.tune(space, target, iterated.Iterated(400, pool=1), seed=s).best["x"] for s in range(8)]
        errors.append(np.mean(np.abs(np.array(found) - 0.5)))
    assert errors[0] < errors[1]


def test_mads_finds_a_minimum():
    space = Space((Real("x", low=-1.0, high=1.0), Real("y", low=-1.0, high=1.0)), digits=8)
    target = FunctionTarget(
        lambda c, i, s: 10 * ((value(c, "x") - 0.3) ** 2 + (value(c, "y") + 0.4) ** 2) + 0.01 * noise(s), INSTANCES
    )
    best = mads.tune(space, target, mads.Mads(1500), seed=1).best
    x, y = value(best, "x"), value(best, "y")
    assert abs(x - 0.3) < 0.05 and abs(y + 0.4) < 0.05  # where the cost is 0.05, five times the noise
    with pytest.raises(ConfigError, match="labels for algo"):
        mads.tune(TOY, TARGET, mads.Mads(1500), seed=1)


def test_a_poll_spans_the_space():
    directions = mads.poll_directions(4, 0.25, np.random.default_rng(0))
    assert np.linalg.matrix_rank(directions[:4]) == 4
    assert np.allclose(directions[:4], -directions[4:])
    assert np.abs(directions).max() == pytest.approx(0.5)  # the poll size is the root of the mesh size


def test_importance_and_ablation_find_what_matters():
    space = Space(tuple(Real(name, low=0.0, high=1.0) for name in "abc"), digits=4)
    target = FunctionTarget(lambda c, i, s: 10 * value(c, "a") + value(c, "b") + 0.1 * noise(s), INSTANCES)
    tuning = baselines.random_search(space, target, baselines.RandomSearch(600), seed=1)
    shares = importance(space, tuning.ledger)
    assert list(shares)[0] == "a" and shares["a"] > 0.7 and shares["c"] < 0.1
    ledger = Ledger(target, Blocks(INSTANCES, 3), 200, RunLog(None, {}))
    start, goal = {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 0.0, "b": 0.0, "c": 0.0}
    path = ablation(space, ledger, start, goal, range(9))
    assert [s.parameters for s in path[1:3]] == [("a",), ("b",)]


def test_too_small_a_budget_says_the_least():
    with pytest.raises(ConfigError, match="at least 180 target runs"):
        iterated.tune(TOY, TARGET, iterated.Iterated(100), seed=0)


def test_a_target_that_always_fails_is_one_line():
    def broken(configuration, instance, seed):
        raise RuntimeError("no licence")

    with pytest.raises(DataError, match="no licence"):
        iterated.tune(TOY, FunctionTarget(broken, INSTANCES), iterated.Iterated(400), seed=0)
    with pytest.raises(DataError, match="returned nan"):
        iterated.tune(TOY, FunctionTarget(lambda c, i, s: float("nan"), INSTANCES), iterated.Iterated(400), seed=0)


def test_a_target_that_fails_sometimes_loses_those_configurations():
    def picky(configuration, instance, seed):
        return float("nan") if configuration["algo"] == "rls" else toy_cost(configuration, instance, seed)

    tuning = iterated.tune(TOY, FunctionTarget(picky, INSTANCES), iterated.Iterated(400), seed=0)
    assert tuning.best["algo"] == "sa"


def test_blocks_bring_every_instance_each_round_with_fresh_seeds():
    blocks = Blocks(INSTANCES, 7)
    rounds = [[blocks[9 * turn + i] for i in range(9)] for turn in range(3)]
    assert all({name for name, _ in r} == set(INSTANCES) for r in rounds)
    assert len({seed for r in rounds for _, seed in r}) == 27
    assert [n for n, _ in rounds[0]] != [n for n, _ in rounds[1]]


def test_initial_configurations_are_raced_and_checked():
    good = {"algo": "sa", "temp": 3.16, "cool": 0.95}
    tuning = iterated.tune(TOY, TARGET, iterated.Iterated(400), seed=0, initial=[good])
    assert tuning.ledger.configurations[1] == {**good, "nrest": None}
    with pytest.raises(ConfigError, match="temp is active"):
        iterated.tune(TOY, TARGET, iterated.Iterated(400), seed=0, initial=[{"algo": "sa", "cool": 0.9}])


def test_the_function_target_says_what_went_wrong():
    target = FunctionTarget(lambda c, i, s: 1 / 0, INSTANCES)
    (outcome,) = target([Job(1, {}, "i0", 1)])
    assert outcome.cost == REJECTED and "ZeroDivisionError" in outcome.message


def test_groups_of_instances_stay_together_and_nobody_goes_in_the_middle_of_one():
    """irace's blockSize: three classes, listed in turn; a race tests after whole groups only."""
    blocks = Blocks(INSTANCES, 7, group=3)
    for start in range(0, 27, 3):
        members = [int(blocks[start + i][0][1:]) for i in range(3)]
        assert members == [members[0], members[0] + 1, members[0] + 2] and members[0] % 3 == 0
    with pytest.raises(ConfigError, match="block_size: expected a divisor of the 9"):
        Blocks(INSTANCES, 7, group=2)
    tuning = iterated.tune(TOY, TARGET, iterated.Iterated(1500, rules=Rules(first_test=2, block_size=3)), seed=1)
    steps = [step for one in tuning.races for step in one.outcome.steps]
    assert {step.blocks % 3 for step in steps if step.dropped} == {0}
    assert all(len(one.outcome.blocks) % 3 == 0 for one in tuning.races)
    used = {n // 3 for _, n in tuning.ledger.costs}
    for number in tuning.elites:  # whole groups of the survivors' costs are known
        assert all((number, 3 * g + i) in tuning.ledger.costs for g in used for i in range(3))
    assert tuning.ledger.used + tuning.ledger.left == 1500


class Slow:
    """Runs of configuration "a" take 1 s, of "b" 3 s: by the clock of the outcome, not of the test."""

    instances = INSTANCES

    def __call__(self, jobs):
        seconds = [1.0 if job.configuration["kind"] == "a" else 3.0 for job in jobs]
        costs = [value(job.configuration, "x") + noise(job.seed, job.number) for job in jobs]
        return [Outcome(cost, s) for cost, s in zip(costs, seconds, strict=True)]


def test_a_budget_of_seconds_becomes_runs():
    """irace's maxTime: what runs take on average is learned on the way; the overrun is at most that of one race."""
    space = Space((Real("x", low=0.0, high=1.0), Categorical("kind", values=("a", "b"))), digits=3)
    tuning = iterated.tune(space, Slow(), iterated.Iterated(max_time=1000.0), seed=2)
    seconds = sum(tuning.ledger.seconds.values())
    # The last race is planned with the mean of all runs before it; six seeds gave 996 to 1033 s.
    assert 900 < seconds < 1100
    assert tuning.ledger.used + tuning.ledger.left == tuning.ledger.budget
    assert value(tuning.best, "x") < 0.3
    with pytest.raises(ConfigError, match="max_time: expected at least .* s, .* target runs of"):
        iterated.tune(space, Slow(), iterated.Iterated(max_time=60.0), seed=2)
    with pytest.raises(ConfigError, match="either budget or max_time"):
        iterated.Iterated(budget=100, max_time=10.0)


def test_seconds_are_shared_out_where_the_target_does_not_tell_them():
    target = FunctionTarget(toy_cost, INSTANCES)
    ledger = Ledger(target, Blocks(INSTANCES, 0), 10, RunLog(None, {}), timed=True)
    ledger.enter({"algo": "rls", "temp": None, "cool": None, "nrest": 3})
    ledger.run([(1, 0), (1, 1)])
    assert len(ledger.seconds) == 2 and all(s > 0 for s in ledger.seconds.values())


def test_a_later_batch_may_fail_as_a_whole():
    """Candidates that all fail are rejected; only a target that has never worked ends the race."""

    def picky(configuration, instance, seed):
        return float("nan") if value(configuration, "x") > 0.5 else value(configuration, "x")

    ledger = Ledger(FunctionTarget(picky, INSTANCES), Blocks(INSTANCES, 0), 20, RunLog(None, {}))
    for x in (0.1, 0.9, 0.8):
        ledger.enter({"x": x})
    ledger.run([(1, 0), (2, 0)])
    ledger.run([(2, 1), (3, 1)])
    assert ledger.costs[2, 1] == ledger.costs[3, 1] == REJECTED
