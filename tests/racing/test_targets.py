"""Targets: exact instance files, moves that cost what they say, runs that do not depend on their batch."""

import os
import sys
from itertools import permutations
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.racing import packaged
from jaxsci.racing.capping import Capping
from jaxsci.racing.irace_files import from_text
from jaxsci.racing.ledger import Blocks, Ledger
from jaxsci.racing.log import RunLog
from jaxsci.racing.race import Rules, race
from jaxsci.racing.targets import aco_tsp, continuous, qap, sa_qap, tsp, vectorised
from jaxsci.racing.targets.anneal_qap import Layout, swap_delta
from jaxsci.racing.targets.process import ProcessTarget, switches
from jaxsci.racing.targets.protocol import REJECTED, Job, Outcome
from jaxsci.racing.targets.tabu_qap import delta_row, updated
from jaxsci.racing.targets.two_opt import best_move, reversed_between, tour_length


def shared(name: str) -> Path:
    folder = os.environ.get("JAXSCI_DATA")
    path = Path(folder or ".") / "optimisation" / name
    if not folder or not path.exists():
        pytest.skip(f"set JAXSCI_DATA to the folder that holds optimisation/{name}")
    return path


def random_instance(n: int, seed: int, symmetric: bool = True) -> qap.QapInstance:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 20, (2, n, n))
    if symmetric:
        a = a + a.T
    return qap.QapInstance(f"random{n}_{seed}", a, b, None)


@pytest.mark.parametrize(
    ("name", "identity", "shifted"),
    [
        ("nug12", 724, 788),
        ("tai12a", 339684, 325308),
        ("chr12a", 40172, 52342),
        ("bur26a", 5801101, 5703939),
        ("lipa20a", 3958, 3929),
        ("tai100b", 1782212399, 1792000994),
    ],
)
def test_costs_of_known_permutations(name, identity, shifted):
    instance = qap.load(shared(f"qaplib/{name}.dat"))
    assert qap.cost(instance, np.arange(instance.size)) == identity
    assert qap.cost(instance, np.roll(np.arange(instance.size), -1)) == shifted


@pytest.mark.parametrize("name", ["esc8a", "nug6", "tai5a", "tai6a"])
def test_enumeration_gives_the_best_known(name):
    instance = qap.load(shared(f"qaplib/{name}.dat"))
    every = np.array(list(permutations(range(instance.size))))
    assert qap.cost(instance, every).min() == instance.best_known
    assert qap.cost(instance, every).mean() == pytest.approx(qap.mean_cost(instance))


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_swap_costs_what_it_says(symmetric):
    """Both algorithms' differences against the exact cost, with padding and a non-zero diagonal."""
    n, width = 9, 12
    instance = random_instance(n, 1, symmetric)
    stack, is_symmetric, wide = qap.stack([instance], width)
    assert is_symmetric == symmetric and not wide
    flow, distance = stack.flow.reshape(-1, width), stack.distance.reshape(-1)
    if not symmetric:
        flow = np.concatenate([flow, stack.flow[0].T])
        distance = np.concatenate([distance, stack.distance[0].T.reshape(-1)])
    at = Layout(jnp.asarray(flow), jnp.asarray(distance), jnp.int32(0), jnp.int32(n), jnp.asarray(stack.greedy[0]))
    rng = np.random.default_rng(2)
    p = np.concatenate([rng.permutation(n), np.arange(n, width)])
    a, b = jnp.asarray(stack.flow[0]), jnp.asarray(stack.distance[0][np.ix_(p, p)])
    rows = np.array([delta_row(jnp.int32(i), a, b, symmetric) for i in range(width)])
    for i in range(n):
        for j in range(i + 1, n):
            q = p.copy()
            q[[i, j]] = q[[j, i]]
            exact = stack.scale * (qap.cost(instance, q[:n]) - qap.cost(instance, p[:n]))
            assert swap_delta(jnp.asarray(p), jnp.int32(i), jnp.int32(j), at, symmetric) == exact
            assert rows[i, j] == exact
    r, s = 2, 7
    q = p.copy()
    q[[r, s]] = q[[s, r]]
    moved = jnp.asarray(stack.distance[0][np.ix_(q, q)])
    fresh = np.array([delta_row(jnp.int32(i), a, moved, symmetric) for i in range(width)])
    kept = np.array(updated(jnp.asarray(rows), a, moved, jnp.int32(r), jnp.int32(s), symmetric))
    assert (kept[np.triu_indices(n, 1)[0], np.triu_indices(n, 1)[1]] == fresh[np.triu_indices(n, 1)]).all()


@pytest.fixture(scope="module")
def small() -> sa_qap.QapTarget:
    """Instances of one size class."""
    return sa_qap.QapTarget([random_instance(n, n) for n in (8, 10, 13)], steps=400)


def jobs_for(target, space, count: int, seed: int = 0) -> list[Job]:
    drawn = space.from_unit(np.random.default_rng(seed).random((count, len(space.parameters))))
    names = target.instances
    return [Job(i, c, names[i % len(names)], 50 + i % 4) for i, c in enumerate(drawn)]


def test_annealing_and_tabu_runs_do_not_depend_on_their_batch(small):
    jobs = jobs_for(small, sa_qap.qap_space(), 24)
    together = [o.cost for o in small(jobs)]
    apart = [small([job])[0].cost for job in jobs[:6]]
    assert apart == together[:6]
    assert [o.cost for o in small(jobs[::-1])] == together[::-1]
    assert [o.cost for o in small(jobs[5:17])] == together[5:17]


def test_the_cost_is_that_of_the_permutation(small):
    jobs = jobs_for(small, sa_qap.qap_space(), 4, seed=1)
    for job, outcome, best in zip(jobs, small(jobs), small.permutations(jobs), strict=True):
        instance = small.by_name[job.instance]
        assert sorted(best) == list(range(instance.size))
        assert outcome.cost == instance.gap(qap.cost(instance, best))


def test_wide_and_asymmetric_instances_are_exact():
    big = random_instance(7, 3, symmetric=False)
    wide = qap.QapInstance("wide", big.flow * 40_000, big.distance * 40_000, None)
    assert qap.stack([wide], 8)[2]
    narrow, large = (sa_qap.QapTarget([i], steps=400) for i in (big, wide))
    configuration = {**sa_qap.DEFAULTS, "t0": 0.3}
    a, b = (t.permutations([Job(0, configuration, t.instances[0], 9)])[0] for t in (narrow, large))
    assert qap.cost(wide, a) == 40_000**2 * qap.cost(big, a)
    assert set(b) == set(range(7)) and qap.cost(wide, b) <= qap.cost(wide, np.arange(7))


def test_both_algorithms_solve_a_small_instance():
    instance = random_instance(6, 4)
    least = qap.cost(instance, np.array(list(permutations(range(6))))).min()
    target = sa_qap.QapTarget([instance], steps=400)
    tabu = {**dict.fromkeys(sa_qap.DEFAULTS), "algorithm": "rts", "init": "random", "restart_frac": 1.0}
    tabu |= {"tabu_low": 0.5, "tabu_width": 0.5, "aspiration": 1000}
    for configuration in (sa_qap.DEFAULTS, tabu):
        best = min(
            qap.cost(instance, p)
            for p in target.permutations([Job(0, configuration, instance.name, s) for s in range(8)])
        )
        assert best == least


@pytest.mark.slow
def test_the_spread_of_annealing_is_that_of_the_specification():
    """64 random configurations, 20,000 swaps, five instances of size 30: best 1.7, median 2.65 (+-0.3)."""
    names = ("nug30", "tai30a", "tho30", "kra30b", "lipa30a")
    target = sa_qap.QapTarget([qap.load(shared(f"qaplib/{n}.dat")) for n in names], steps=20_000)
    rng = np.random.default_rng(0)
    jobs = []
    for i in range(64):
        c = {**sa_qap.DEFAULTS, "t0": 10 ** rng.uniform(-3, 0), "t_ratio": 10 ** rng.uniform(-3, 0)}
        jobs += [Job(i, c, name, 1000 + k) for k, name in enumerate(names)]
    means = np.array([o.cost for o in target(jobs)]).reshape(64, 5).mean(1)
    assert means.min() == pytest.approx(1.7, abs=0.3)
    assert np.median(means) == pytest.approx(2.65, abs=0.3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("3 9\n0 1 2\n1 0 3\n2 3 x\n", "line 4: expected a whole number, got 'x'"),
        ("2\n0 1\n1 0\n0 1\n", "line 4: expected 2 x 2 x 2 numbers"),
        ("", "expected the size n first"),
    ],
)
def test_a_malformed_qap_file_names_the_line(tmp_path, content, said):
    (tmp_path / "bad.dat").write_text(content)
    with pytest.raises(DataError, match=said):
        qap.load(tmp_path / "bad.dat")


def test_qap_headers_with_and_without_best_known(tmp_path):
    body = "0 1 1 0  0 2 2 0"
    for header, known in (("2 4", 4), ("2", None), ("2 -1", None)):
        (tmp_path / "two.dat").write_text(f"{header} {body}")
        assert qap.load(tmp_path / "two.dat").best_known == known


@pytest.mark.parametrize(
    ("name", "length"),
    [("att532", 309636), ("dantzig42", 699), ("bays29", 5752), ("ulysses22", 12198), ("a280", 2808), ("lin105", 36480)],
)
def test_canonical_tours_have_their_lengths(name, length):
    instance = tsp.load(shared(f"tsplib/{name}.tsp"))
    assert tsp.length(instance, np.arange(instance.size)) == length


def test_every_matrix_format_gives_the_same_distances(tmp_path):
    full = np.array([[0, 3, 5], [3, 0, 7], [5, 7, 0]])
    forms = {
        "FULL_MATRIX": "0 3 5 3 0 7 5 7 0",
        "UPPER_ROW": "3 5\n7",
        "LOWER_ROW": "3 5 7",
        "UPPER_DIAG_ROW": "0 3 5 0 7 0",
        "LOWER_DIAG_ROW": "0 3 0 5 7 0",
    }
    for form, numbers in forms.items():
        text = f"NAME : t\nDIMENSION: 3\nEDGE_WEIGHT_TYPE : EXPLICIT\nEDGE_WEIGHT_FORMAT: {form}\n"
        (tmp_path / "t.tsp").write_text(f"{text}EDGE_WEIGHT_SECTION\n{numbers}\nDISPLAY_DATA_SECTION\n1 0 0\nEOF\n")
        assert (tsp.load(tmp_path / "t.tsp").distance == full).all()
    (tmp_path / "t.tsp").write_text("DIMENSION: 2\nEDGE_WEIGHT_TYPE: EUC_2D\nNODE_COORD_SECTION\n1 0 0\n2 3 y\n")
    with pytest.raises(DataError, match="line 5: expected a number, got 'y'"):
        tsp.load(tmp_path / "t.tsp")


def test_a_reversal_costs_what_it_says():
    rng = np.random.default_rng(5)
    distance = rng.integers(1, 99, (9, 9))
    distance = jnp.asarray(distance + distance.T)
    tour, size = jnp.concatenate([jnp.asarray(rng.permutation(7)), jnp.array([7, 8])]), jnp.int32(7)
    delta, i, j = best_move(tour, distance, size)
    moved = reversed_between(tour, i, j)
    assert tour_length(moved, distance, size) - tour_length(tour, distance, size) == delta
    lengths = [
        int(tour_length(reversed_between(tour, jnp.int32(a), jnp.int32(b)), distance, size))
        for a in range(7)
        for b in range(a + 1, 7)
    ]
    assert min(lengths) == int(tour_length(moved, distance, size))


def test_tours_are_tours_and_do_not_depend_on_their_batch():
    target = aco_tsp.TspTarget([i for i in packaged.tsp_instances("train") if i.size < 30], tours=4)
    jobs = jobs_for(target, aco_tsp.tsp_space(), 10)
    together = [o.cost for o in target(jobs)]
    assert all(0 <= cost < 300 for cost in together)  # a shorter tour than the optimum would be no tour
    assert [o.cost for o in target(jobs[3:7])] == together[3:7]


def test_swarms_minimise_and_do_not_depend_on_their_batch():
    target = continuous.ContinuousTarget(["sphere_3", "rastrigin_3"], generations=30)
    space = continuous.continuous_space()
    jobs = jobs_for(target, space, 12)
    together = [o.cost for o in target(jobs)]
    assert [o.cost for o in target(jobs[2:5])] == together[2:5]
    good = {**dict.fromkeys(space.names), "algorithm": "de", "weight": 0.6, "crossover": 0.9, "base": "best"}
    assert target([Job(0, good, "sphere_3", 1)])[0].cost < -3
    with pytest.raises(DataError, match="did you mean 'sphere'"):
        continuous.ContinuousTarget(["spere_3"])


SPACE = from_text("""
x     "--x="    r (0, 10)
mode  "--mode " c (good, bad, slow)
""")
PROGRAM = """
import sys, time
x, mode = float(sys.argv[5].removeprefix("--x=")), sys.argv[-1]
if mode == "bad": sys.exit("out of memory")
if mode == "slow": time.sleep(30)
print("working"); print(x)
"""


def test_processes_answer_fail_and_time_out(tmp_path):
    (tmp_path / "p.py").write_text(PROGRAM)
    target = ProcessTarget([sys.executable, str(tmp_path / "p.py")], SPACE, ["one", "two"], timeout=3.0, workers=3)
    jobs = [Job(i, {"x": 1.5, "mode": m}, "two", 7) for i, m in enumerate(("good", "bad", "slow"))]
    good, bad, slow = target(jobs)
    assert good.cost == 1.5 and good.seconds is not None
    assert bad.cost == REJECTED and "out of memory" in bad.message
    assert slow.cost == REJECTED and "within 3 s" in slow.message
    assert target.arguments(jobs[0])[2:6] == ["0", "2", "7", "two"]
    assert switches(SPACE, jobs[0].configuration) == ["--x=1.5", "--mode", "good"]
    with pytest.raises(ConfigError, match="cannot start"):
        ProcessTarget([str(tmp_path / "absent")], SPACE, ["one", "two"])(jobs[:1])


def test_capping_saves_time_and_keeps_the_best():
    """Run times are known: configuration j needs j seconds. With bounds, the slow ones are cut off."""

    class Sleeper:
        instances = tuple(str(i) for i in range(20))

        def __init__(self, capping):
            self.capping, self.spent = capping, 0.0

        def __call__(self, jobs):
            found = []
            for job in jobs:
                needed, bound = float(job.number), job.bound or 10.0
                spent = min(needed, bound)
                self.spent += spent
                found.append(Outcome(self.capping.cost(spent, bound, needed < bound), spent))
            return found

    capping = Capping(longest=10.0)
    spent, winners = [], []
    for rules in (Rules(stall=0, capping=capping, test="t"), Rules(stall=0, test="t", together=False)):
        target = Sleeper(capping)
        ledger = Ledger(target, Blocks(Sleeper.instances, 0, deterministic=True), 500, RunLog(None, {}))
        for j in range(1, 9):
            ledger.enter({"j": j})
        outcome = race(ledger, range(1, 9), range(20), rules, budget=160, survivors=1, elites=[1])
        spent.append(target.spent)
        winners.append(outcome.survivors[0])
    assert winners == [1, 1] and spent[0] < 0.5 * spent[1]


def test_instances_over_devices_give_the_same_costs(small, monkeypatch):
    """Eight devices split the runs; one computes them all."""
    assert jax.device_count() == 8
    jobs = jobs_for(small, sa_qap.qap_space(), 9, seed=2)
    one = sa_qap.QapTarget(list(small.by_name.values()), steps=400)
    alone = [o.cost for o in one(jobs)]  # so few that each group goes to a device by itself
    monkeypatch.setattr(vectorised, "SMALLEST_SHARE", 1)
    assert [o.cost for o in small(jobs)] == alone


def test_lanes_hold_the_runs_and_divide_among_the_devices():
    counts = range(1, 300)
    sizes = [vectorised.lanes(count) for count in counts]
    assert all(count <= size and size % 8 == 0 for count, size in zip(counts, sizes, strict=True))
    assert len({*sizes}) <= 11
    assert all(size < 1.5 * count for count, size in zip(counts, sizes, strict=True) if count > 16)
