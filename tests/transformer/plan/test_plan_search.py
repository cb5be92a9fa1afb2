"""The search against brute force, each reason of rejection, and the importance of parameters whose shares are known."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from jaxsci.core.config import build
from jaxsci.core.errors import ConfigError, DataError
from jaxsci.transformer.config import ModelConfig, preset
from jaxsci.transformer.plan.hardware import hardware
from jaxsci.transformer.plan.importance import importances
from jaxsci.transformer.plan.memory import memory
from jaxsci.transformer.plan.recipe import Recipe
from jaxsci.transformer.plan.search import (
    SAFETY,
    Point,
    Rated,
    Rejected,
    Space,
    enumerate_recipes,
    examine,
    least_devices,
    points,
    search,
)
from jaxsci.transformer.plan.time import rates, step_time

MACHINE = hardware("mi250x")
MODEL = preset("gpt_22b")
SMALL = Space(tensor=(1, 2, 4), pipe=(1, 2, 4), microbatch=(1, 2), nodes=(4,), batch=(64,), recompute=("none", "full"))
WIDE = Space(
    tensor=(1, 2, 4, 8, 16),
    pipe=(1, 4, 12),
    microbatch=(1, 2),
    nodes=(4, 6),
    batch=(64, 96),
    zero=(0, 1, 3),
    virtual=(1, 2),
    recompute=("none", "full"),
    schedule=("1f1b", "interleaved", "gpipe", "lockstep"),
)


def test_the_best_is_that_of_brute_force():
    best: dict[tuple, float] = {}
    for t, p, b, recompute in product(SMALL.tensor, SMALL.pipe, SMALL.microbatch, SMALL.recompute):
        replicas = 32 // (t * p)
        if 64 % (replicas * b):
            continue
        recipe = Recipe(fsdp=replicas, pipe=p, tensor=t, batch=64, microbatch=b, recompute=recompute, policy="bf16")
        if SAFETY * memory(MODEL, recipe).worst <= MACHINE.memory_bytes:
            best[t, p, b, recompute] = float(step_time(MODEL, recipe, rates(MACHINE, recipe)).total)
    found = search(MODEL, MACHINE, SMALL)
    seen = {(r.point.tensor, r.point.pipe, r.point.microbatch, r.point.recompute): r.seconds for r in found.rated}
    assert seen == best and len(best) > 5  # the same formulas: exactly
    assert found.best.seconds == min(best.values())
    assert len(found.rated) + len(found.rejected) == SMALL.size


def test_accumulation_sets_the_batch():
    space = replace(SMALL, batch=(), accumulation=(3,), nodes=(2, 4))
    for rated in enumerate_recipes(MODEL, MACHINE, space).rated:
        assert rated.recipe.microbatches == 3
        assert rated.recipe.batch == 3 * rated.point.microbatch * rated.recipe.replicas
        assert rated.recipe.devices == 8 * rated.point.nodes


def test_ranking_is_by_tokens_per_device():
    found = enumerate_recipes(MODEL, MACHINE, WIDE)
    assert {r.recipe.devices for r in found.rated} == {32, 48}
    rate = [r.tokens_per_second / r.recipe.devices for r in found.rated]
    assert np.all(np.diff(rate) <= 1e-9 * rate[0])  # equal ones are in the order of their memory
    tokens = [r.recipe.batch * MODEL.sequence / r.seconds for r in found.rated]
    assert [r.tokens_per_second for r in found.rated] == pytest.approx(tokens)


POINT = Point(2, 4, 1, 64, None, 1, 4, 1, "full", "1f1b")


def verdict(model: ModelConfig = MODEL, **changes) -> Rated | Rejected:
    return examine(model, MACHINE, SMALL, POINT._replace(**changes))


def test_the_point_that_the_reasons_are_made_from_can_run():
    assert isinstance(verdict(), Rated)


@pytest.mark.parametrize(
    ("reason", "says", "changes"),
    [
        ("tensor beyond a node", "16 exceeds the 8 devices", {"tensor": 16}),
        ("heads not divisible", "tensor 5 does not divide heads 48", {"tensor": 5}),
        ("too few layers", "64 stages x 1 chunks exceed 48", {"pipe": 64}),
        ("too few layers", "4 stages x 16 chunks", {"virtual": 16, "schedule": "interleaved"}),
        ("schedule", "need a pipeline with schedule interleaved", {"virtual": 2}),
        ("schedule", "2 chunks per stage need a pipeline", {"virtual": 2, "pipe": 1, "schedule": "gpipe"}),
        ("schedule", "one chunk per stage is 1f1b", {"schedule": "interleaved"}),
        ("schedule", "lockstep recomputes", {"schedule": "lockstep", "recompute": "none"}),
        ("ZeRO with pipeline", "ZeRO-3", {"zero": 3}),
        ("devices not divisible", "= 24 does not divide 32", {"pipe": 12}),
        ("batch not divisible", "4 sequences of a turn do not divide a batch of 66", {"batch": 66}),
        ("micro-batches not divisible", "4 stages do not divide 17", {"batch": 68, "schedule": "gpipe"}),
        ("memory", "GB with a margin of 1.15, a device has 64 GB", {"pipe": 1, "recompute": "none"}),
    ],
)
def test_every_reason(reason, says, changes):
    found = verdict(**changes)
    assert isinstance(found, Rejected) and found.reason == reason
    assert says in found.sentence


@pytest.mark.parametrize(("batch", "stage"), [(1024, 0), (64, 3)])
def test_memory_names_the_fullest_stage(batch, stage):
    """With 16 micro-batches the first stage keeps those of all others; with one the last has its logits on top."""
    found = verdict(recompute="none", microbatch=16, batch=batch)
    recipe = Recipe(fsdp=4, pipe=4, tensor=2, batch=batch, microbatch=16, recompute="none", policy="bf16")
    needed = SAFETY * memory(MODEL, recipe).total[stage] / 1e9
    assert isinstance(found, Rejected)
    assert found.sentence.startswith(f"stage {stage} of 4 needs {needed:.3g} GB")


def test_more_memory_never_rejects_what_fitted():
    """Survivors are nested, and those of a machine without limit are all that divide."""
    kept = []
    for size in (8e9, 16e9, 32e9, 64e9, 1e15):
        found = enumerate_recipes(MODEL, replace(MACHINE, memory_bytes=size), WIDE)
        kept.append({rated.point for rated in found.rated})
    assert all(less <= more for less, more in zip(kept, kept[1:], strict=False))
    assert len(kept[0]) < len(kept[2]) < len(kept[4])
    assert found.reasons["memory"] == 0


def test_a_larger_margin_keeps_less():
    kept = [len(enumerate_recipes(MODEL, MACHINE, WIDE, safety=safety).rated) for safety in (1.0, 1.15, 2.0)]
    assert kept[0] > kept[1] > kept[2]


def test_the_order_of_values_does_not_matter():
    turned = replace(WIDE, **{n: tuple(reversed(v)) for n, v in WIDE.axes.items() if n != "accumulation"})
    one, other = search(MODEL, MACHINE, WIDE), search(MODEL, MACHINE, turned)
    assert [r.point for r in one.rated] == [r.point for r in other.rated]
    assert one.reasons == other.reasons


def test_random_search_with_the_full_budget_is_exhaustive():
    every = search(MODEL, MACHINE, WIDE, strategy="exhaustive")
    drawn = search(MODEL, MACHINE, WIDE, strategy="random", budget=WIDE.size)
    assert drawn.best == every.best and drawn.reasons == every.reasons


def test_random_search_draws_different_points_of_the_space():
    drawn = list(points(WIDE, "random", 500, seed=3))
    assert len(drawn) == len(set(drawn)) == 500
    assert set(drawn) <= set(points(WIDE, "exhaustive"))
    assert drawn == list(points(WIDE, "random", 500, seed=3)) != list(points(WIDE, "random", 500, seed=4))


def test_a_number_for_every_point():
    assert len({SMALL.point(n) for n in range(SMALL.size)}) == SMALL.size == 36


def test_too_large_says_the_least_number_of_devices():
    trillion = preset("gpt_1t")
    space = Space(tensor=(8,), pipe=(16, 64), microbatch=(1,), nodes=(16,), batch=(512,))
    with pytest.raises(ConfigError, match=r"too large for 128 devices: it needs at least \d+$") as error:
        search(trillion, MACHINE, space)
    least = least_devices(trillion, MACHINE, space)
    assert least is not None and str(error.value).endswith(str(least))

    def fits(devices: int) -> bool:
        """By another way: any of the two pipelines with whole replicas."""
        return any(
            SAFETY * memory(trillion, Recipe(fsdp=d, pipe=p, tensor=8, batch=d * (512 // d), policy="bf16")).worst
            <= MACHINE.memory_bytes
            for p in space.pipe
            for d in [devices // (8 * p)]
            if d and devices % (8 * p) == 0
        )

    assert [n for n in range(8, least + 1, 8) if fits(n)] == [least]
    # 18 bytes of state for each of 1008e9 parameters, divided among all devices, is the least that formulas allow
    assert least * MACHINE.memory_bytes > 18 * 1008e9


def test_no_number_of_devices_helps_without_splitting():
    space = Space(tensor=(1,), pipe=(1,), microbatch=(1,), nodes=(1,), batch=(8,), zero=(0,))
    with pytest.raises(ConfigError, match="on any number of devices"):
        search(preset("gpt_175b"), MACHINE, space)


def test_nothing_divides_is_said_with_an_example():
    with pytest.raises(ConfigError, match=r"heads not divisible 12\); e.g. tensor 5 does not divide heads 48"):
        search(MODEL, MACHINE, replace(SMALL, tensor=(5,)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tensor": []}, "tensor: expected at least one value"),
        ({"tensor": [2, 2]}, "tensor: expected values that differ"),
        ({"pipe": [0, 1]}, "pipe: expected values of at least 1"),
        ({"accumulation": [4]}, "batch: expected values for batch or for accumulation, got 'both'"),
        ({"batch": []}, "batch: expected values for batch or for accumulation, got 'neither'"),
        ({"policy": "half"}, "policy: expected one of"),
        ({"recompute": ["some"]}, "recompute"),
        ({"tensr": [1]}, "tensr: unknown key"),
    ],
)
def test_bad_spaces_are_one_line(changes, says):
    given = {"tensor": [1], "pipe": [1], "microbatch": [1], "nodes": [1], "batch": [8]}
    with pytest.raises(ConfigError, match=says):
        build(Space, given | changes)


# Importance. Sums of squares of a few dozen doubles: 1e-9 is far above rounding and far below any share.
GRID = list(product(range(3), "ab", (1, 4, 16, 64)))
LEVELS = {"x": [g[0] for g in GRID], "y": [g[1] for g in GRID], "z": [g[2] for g in GRID]}


def test_an_additive_function_has_its_exact_shares():
    """Var of independent terms adds: var(f) = 8/3 (values 0, 2, 4), var(g) = 9/4 (0, 3), var(h) = 5/4 (0, 1, 2, 3)."""
    value = [2 * x + (3 if y == "b" else 0) + np.log(z) / np.log(4) for x, y, z in GRID]
    parts = np.array([8 / 3, 9 / 4, 5 / 4])
    assert list(importances(LEVELS, value).values()) == pytest.approx(list(parts / parts.sum()), abs=1e-9)


def test_pure_interaction_belongs_to_nobody():
    value = [(x - 1) * (1 if y == "b" else -1) for x, y, _ in GRID]
    assert list(importances(LEVELS, value).values()) == pytest.approx([0, 0, 0], abs=1e-9)


def test_shares_of_a_grid_with_holes_add_up_to_at_most_one():
    rng = np.random.default_rng(0)
    for _ in range(20):
        kept = rng.permutation(len(GRID))[:14]
        levels = {name: [values[i] for i in kept] for name, values in LEVELS.items()}
        shares = importances(levels, rng.normal(size=14))
        assert min(shares.values()) >= 0 and 0 < sum(shares.values()) <= 1 + 1e-9


def test_what_two_parameters_both_explain_is_halved():
    """x and its copy cannot be told apart; an additive function is explained whole, holes or none."""
    kept = [0, 3, 5, 6, 9, 14, 17, 20, 23]
    x = [LEVELS["x"][i] for i in kept]
    z = [LEVELS["z"][i] for i in kept]
    value = np.array(x) + 0.1 * np.array(z)
    shares = importances({"x": x, "copy": [f"level {v}" for v in x], "z": z}, value)
    assert shares["x"] == pytest.approx(shares["copy"], abs=1e-9)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-9)


def test_what_does_not_vary_explains_nothing():
    one = importances({"x": [1, 2, 3], "same": ["a"] * 3}, [1.0, 5.0, 2.0])
    assert one["same"] == 0 and one["x"] == pytest.approx(1)
    assert importances({"x": [1, 2, 3]}, [0.1, 0.1, 0.1]) == {"x": 0.0}


def test_importances_refuse_what_does_not_match():
    with pytest.raises(DataError, match="2 results, but 3 values of x"):
        importances({"x": [1, 2, 3]}, [1.0, 2.0])
    with pytest.raises(DataError, match="at least one point"):
        importances({"x": []}, [])


def test_the_studys_own_mesh_wins_where_it_was_tuned():
    """Among one-chunk 1F1B recipes that keep all activations; measured, not a theorem: a change here is a finding."""
    for name, nodes, batch, mesh in (("gpt_175b", 128, 10240, (4, 16)), ("gpt_1t", 384, 9600, (8, 64))):
        space = Space(
            tensor=(1, 2, 4, 8),
            pipe=(4, 8, 16, 32, 64, 128),
            microbatch=(1, 2, 4),
            nodes=(nodes,),
            batch=(batch,),
            recompute=("none",),
        )
        best = search(preset(name), MACHINE, space).best.point
        assert (best.tensor, best.pipe, best.microbatch) == (*mesh, 1)
